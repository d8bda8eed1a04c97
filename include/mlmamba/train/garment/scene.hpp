// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// One garment scene: photos set on a 3x3 grid, rendered in integers, with its questions.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "mlmamba/core/error.hpp"
#include "mlmamba/io/pixels.hpp"
#include "mlmamba/train/garment/ask.hpp"

namespace mlmamba::train::garment {

/// How scenes look and what is asked. Lengths in pixels, shares in percent.
struct options {
  int size = 96;       ///< side of the square picture; a multiple of 3, 48 to 1536
  int turns = 8;       ///< questions per scene, 0 to 64
  int min_scale = 80;  ///< side of a photo, where 100 is 28/32 of a cell
  int max_scale = 110;
  int jitter = 100;  ///< how much of the play in its cell, and 1/16 of the cell, a photo moves
  int dark_on_light = 50;  ///< share of scenes with inverted photos on a light ground
  int min_contrast = 70;   ///< of a garment against its ground
  int max_noise = 12;      ///< the most noise, as standard deviation in grey levels (0 to 64)
  type_weights weights = usual_weights;  ///< how often each type is asked

  /// Throws mlmamba::error that names the first option out of range.
  void check() const {
    const auto within = [](const char* name, int value, int low, int high) {
      if (value < low || value > high)
        fail<error>("garment: ", name, " is ", value, "; ", low, " to ", high, " is wanted");
    };
    within("size", size, 48, 1536);
    if (size % 3 != 0) fail<error>("garment: size is ", size, "; a multiple of 3 is wanted");
    within("turns", turns, 0, 64);
    within("min_scale", min_scale, 25, 110);
    within("max_scale", max_scale, min_scale, 110);  // 110 just fits into a cell
    within("jitter", jitter, 0, 100);
    within("dark_on_light", dark_on_light, 0, 100);
    within("min_contrast", min_contrast, 10, 100);
    within("max_noise", max_noise, 0, 64);
    int sum = 0;
    for (std::size_t t = 0; t < weights.size(); ++t) {
      within(question_type_names[t], weights[t], 0, 1000);
      sum += weights[t];
    }
    if (sum == 0) fail<error>("garment: all weights are 0; at least one above 0 is wanted");
  }
};

/// A garment of a scene; the box is where its photo lies, in 1/256 pixel.
struct object {
  int place;
  int kind;
  std::uint32_t photo;
  int left, top, side;
};

struct scene {
  split which = split::train;
  std::uint64_t index = 0;
  int size = 0;
  bool dark_on_light = false;
  std::vector<std::uint8_t> pixels;  // (size, size), grey
  layout cells;
  std::vector<object> objects;  // by place
  std::vector<question> questions;
};

/// The pixels as a picture with three equal channels, as a reader of the PNG file would give it.
inline image to_image(const scene& s) {
  image out{s.size, s.size, {}};
  out.rgb.reserve(3 * s.pixels.size());
  for (const std::uint8_t grey : s.pixels) out.rgb.insert(out.rgb.end(), 3, grey);
  return out;
}

namespace detail {

/// For one axis: which photo pixels a picture pixel is made of. A triangle filter, as wide as the
/// larger of both pixels: bilinear when the photo grows, an average when it shrinks.
struct axis_taps {
  int begin = 0;                                    // first picture pixel
  std::vector<std::array<int, photo_side>> weight;  // per picture pixel; photo pixels' weights

  axis_taps(int start, int side, int size) {
    begin = std::clamp(start / 256 - 1, 0, size);
    const int end = std::clamp((start + side) / 256 + 2, begin, size);
    // In units of 1/65536 photo pixel; side is in 1/256 picture pixel.
    const std::int64_t step = std::int64_t{photo_side} * 65536 * 256 / side;
    const std::int64_t radius = std::max<std::int64_t>(65536, step);
    weight.resize(static_cast<std::size_t>(end - begin), {});
    for (int p = begin; p < end; ++p) {
      const std::int64_t centre = (std::int64_t{p} * 256 + 128 - start) * photo_side * 65536 / side;
      auto& row = weight[static_cast<std::size_t>(p - begin)];
      for (int i = 0; i < photo_side; ++i) {
        const std::int64_t apart = std::int64_t{i} * 65536 + 32768 - centre;
        const std::int64_t height =
            std::max<std::int64_t>(0, radius - (apart < 0 ? -apart : apart));
        if (height == 0) continue;  // most are: spare the divisions
        // A whole photo pixel gives 4096: the area of the triangle is radius^2. Edges fade out.
        row[static_cast<std::size_t>(i)] =
            static_cast<int>(height * 4096 / radius * 65536 / radius);
      }
    }
  }
};

/// Adds a photo to the layer of garments: the brighter one wins where two touch.
inline void draw_photo(std::vector<std::uint8_t>& layer, int size, const std::uint8_t* photo,
                       const object& o, int contrast) {
  const axis_taps x(o.left, o.side, size), y(o.top, o.side, size);
  std::vector<int> wide(x.weight.size() *
                        photo_side);  // (photo rows, picture columns), 4 bits more
  for (std::size_t r = 0; r < photo_side; ++r)
    for (std::size_t c = 0; c < x.weight.size(); ++c) {
      int sum = 0;
      for (std::size_t i = 0; i < photo_side; ++i)
        sum += x.weight[c][i] * photo[r * photo_side + i];
      wide[r * x.weight.size() + c] = sum >> 8;
    }
  for (std::size_t r = 0; r < y.weight.size(); ++r)
    for (std::size_t c = 0; c < x.weight.size(); ++c) {
      std::int64_t sum = 0;
      for (std::size_t i = 0; i < photo_side; ++i)
        sum += std::int64_t{y.weight[r][i]} * wide[i * x.weight.size() + c];
      const int value = std::min(255, static_cast<int>(sum >> 16)) * contrast / 100;
      std::uint8_t& at =
          layer[(static_cast<std::size_t>(y.begin) + r) * static_cast<std::size_t>(size) +
                static_cast<std::size_t>(x.begin) + c];
      at = std::max(at, static_cast<std::uint8_t>(value));
    }
}

}  // namespace detail

/// Makes scene `index` of a split. It depends on (photos, seed, split, index, options) only: any
/// scene can be made at any time, in any order, on any thread.
///
///   v      = ground + slope . (position - middle)                          brightness of the
///   ground pixel  = v + (255 - v) garment   light on dark, ground 8 to 56
///          = v - v garment           dark on light, ground 200 to 247
///   pixel += noise                   sum of two uniform draws, sigma of the scene 0 to max_noise
///
/// Errors    mlmamba::error if an option is out of range
inline scene make_scene(const source& photos, std::uint64_t seed, std::uint64_t index,
                        const options& want = {}) {
  want.check();
  scene out;
  out.which = photos.which;
  out.index = index;
  out.size = want.size;
  draws shape(seed, photos.which, index, for_layout);
  out.cells = draw_layout(shape);

  draws random(seed, photos.which, index, for_pixels);
  const int size = want.size, cell = size / 3;
  const auto pixel_count = static_cast<std::size_t>(size) * static_cast<std::size_t>(size);
  std::vector<std::uint8_t> layer(pixel_count, 0);
  for (int p = 0; p < cell_count; ++p) {
    const int kind = out.cells.at(p);
    if (kind == empty) continue;
    const auto& choice = photos.of_class[static_cast<std::size_t>(kind)];
    std::uint32_t photo = 0;
    do {  // a photo is shown once in a scene
      photo = choice[static_cast<std::size_t>(random.below(static_cast<int>(choice.size())))];
    } while (std::any_of(out.objects.begin(), out.objects.end(),
                         [&](const object& o) { return o.photo == photo; }));
    const int side =
        cell * photo_side * random.between(want.min_scale, want.max_scale) * 256 / (32 * 100);
    const int play = ((cell * 256 - side) / 2 + cell * 16) * want.jitter / 100;
    const int left = (p % 3) * cell * 256 + (cell * 256 - side) / 2 + random.between(-play, play);
    const int top = (p / 3) * cell * 256 + (cell * 256 - side) / 2 + random.between(-play, play);
    const int limit = size * 256 - side;  // a photo never leaves the picture
    out.objects.push_back(
        {p, kind, photo, std::clamp(left, 0, limit), std::clamp(top, 0, limit), side});
    detail::draw_photo(layer, size, photos.photo(photo), out.objects.back(),
                       random.between(want.min_contrast, 100));
  }

  out.dark_on_light = random.percent(want.dark_on_light);
  const int ground = out.dark_on_light ? random.between(200, 247) : random.between(8, 56);
  const int slope_x = random.between(-16, 16), slope_y = random.between(-16, 16);
  const int sigma = random.between(0, want.max_noise);
  out.pixels.resize(pixel_count);
  std::uint64_t noise = 0;
  std::size_t i = 0;
  for (int row = 0; row < size; ++row)
    for (int column = 0; column < size; ++column, ++i) {
      if (sigma > 0 && i % 4 == 0) noise = random.bits();
      const int v = std::clamp(
          ground + (slope_x * (2 * column - size) + slope_y * (2 * row - size)) / (2 * size), 0,
          255);
      int value = out.dark_on_light ? v - v * layer[i] / 255 : v + (255 - v) * layer[i] / 255;
      if (sigma > 0) {
        const int sum = static_cast<int>(noise & 255) + static_cast<int>(noise >> 8 & 255) - 255;
        value += sum * sigma / 105;  // 104.5 is the standard deviation of the sum of two bytes
        noise >>= 16;
      }
      out.pixels[i] = static_cast<std::uint8_t>(std::clamp(value, 0, 255));
    }
  out.questions = asker(out.cells, seed, photos.which, index).ask(want.turns, want.weights);
  return out;
}

}  // namespace mlmamba::train::garment
