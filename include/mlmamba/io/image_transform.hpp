// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// From a picture to the numbers a vision tower takes: resize, crop or letterbox, normalise.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/core/error.hpp"
#include "mlmamba/io/pixels.hpp"
#include "mlmamba/io/resize.hpp"

namespace mlmamba {

/// How a picture of any shape becomes a square.
enum class resize_strategy {
  naive,      ///< stretch to the square; the aspect ratio is lost
  crop,       ///< shorter edge to the size, then the middle of the longer one
  letterbox,  ///< pad to a square with the mean colour, then as crop
};

inline std::string_view name_of(resize_strategy strategy) {
  constexpr std::string_view names[] = {"resize-naive", "resize-crop", "letterbox"};
  return names[static_cast<std::size_t>(strategy)];
}
inline resize_strategy resize_strategy_of(std::string_view name) {
  for (auto s : {resize_strategy::naive, resize_strategy::crop, resize_strategy::letterbox})
    if (name_of(s) == name) return s;
  fail<error>("resize strategy \"", name, "\"; resize-naive, resize-crop or letterbox is wanted");
}

/// The transform of one vision tower.
///
///   x[c,i,j] = (u[c,i,j] / 255 - mean[c]) / std[c],   u the size x size 8-bit picture of
///   `pixels()`
///
/// Shapes    result (3, size, size), channels R, G, B
/// Numerics  `pixels()` equals torchvision on a Pillow image bit for bit; the rest in float, in the
///           order written, as torch does it on a CPU
/// Source    torchvision Resize (bicubic), CenterCrop, ToTensor, Normalize; the letterbox pads
///           trunc(difference / 2) on both sides, so an odd difference stays one pixel short
struct image_transform {
  int size = 384;
  resize_strategy strategy = resize_strategy::naive;
  std::array<double, 3> mean{0.5, 0.5, 0.5};
  std::array<double, 3> std{0.5, 0.5, 0.5};
  int shorter_edge = 0;  // crop and letterbox resize to this before the crop; 0: to `size`
  resample_order order = resample_order::columns_first;

  /// The 8-bit picture before normalisation. Errors: shape_error if the picture is empty.
  image pixels(const image& in) const {
    check();
    if (in.width < 1 || in.height < 1)
      fail<shape_error>("image_transform: a picture of ", in.width, " x ", in.height,
                        "; at least 1 x 1 is wanted");
    if (strategy == resize_strategy::naive) return resize_bicubic(in, size, size, order);
    image_padding padding;
    if (strategy == resize_strategy::letterbox) {
      const int longer = std::max(in.width, in.height);
      padding.left = padding.right = (longer - in.width) / 2;
      padding.top = padding.bottom = (longer - in.height) / 2;
      for (std::size_t c = 0; c < 3; ++c)
        padding.colour[c] = static_cast<std::uint8_t>(std::clamp(255 * mean[c], 0.0, 255.0));
    }
    const std::int64_t w = in.width + padding.left + padding.right;
    const std::int64_t h = in.height + padding.top + padding.bottom;
    const std::int64_t edge = shorter_edge > 0 ? shorter_edge : size;
    const std::int64_t width = w <= h ? edge : edge * w / h, height = w <= h ? edge * h / w : edge;
    if (std::max(width, height) > std::numeric_limits<int>::max() / 4)
      fail<shape_error>("image_transform: ", w, " x ", h, " pixels with the shorter edge at ", edge,
                        " would be ", width, " x ", height, "; a picture less long is wanted");
    const image_window window{middle(width), middle(height), size, size};
    return resize_bicubic(in, static_cast<int>(width), static_cast<int>(height), window, padding,
                          order);
  }

  /// The normalised picture, (3, size, size).
  std::vector<float> operator()(const image& in) const {
    std::vector<float> out(3 * static_cast<std::size_t>(size > 0 ? size : 0) *
                           static_cast<std::size_t>(size > 0 ? size : 0));
    write(in, out);
    return out;
  }
  /// The same into memory of the caller. Errors: shape_error if `out` is not 3 size size.
  void write(const image& in, std::span<float> out) const {
    const image square = pixels(in);
    const std::size_t area = static_cast<std::size_t>(size) * static_cast<std::size_t>(size);
    if (out.size() != 3 * area)
      fail<shape_error>("image_transform: room for ", out.size(), " numbers; 3 x ", size, " x ",
                        size, " are wanted");
    for (std::size_t c = 0; c < 3; ++c) {
      const auto centre = static_cast<float>(mean[c]), spread = static_cast<float>(std[c]);
      float table[256];
      for (int u = 0; u < 256; ++u) table[u] = (static_cast<float>(u) / 255.0f - centre) / spread;
      for (std::size_t k = 0; k < area; ++k) out[c * area + k] = table[square.rgb[3 * k + c]];
    }
  }

  /// The constants of a published tower: "dinov2", "siglip", "clip", "in1k".
  static image_transform of_tower(std::string_view tower, int size,
                                  resize_strategy strategy = resize_strategy::naive) {
    image_transform t{size, strategy, {0.5, 0.5, 0.5}, {0.5, 0.5, 0.5}};
    if (tower == "dinov2") {
      t.mean = {0.485, 0.456, 0.406};
      t.std = {0.229, 0.224, 0.225};
    } else if (tower == "clip") {
      t.mean = {0.48145466, 0.4578275, 0.40821073};
      t.std = {0.26862954, 0.26130258, 0.27577711};
    } else if (tower != "siglip" && tower != "in1k") {
      fail<error>("image_transform: tower \"", tower, "\"; dinov2, siglip, clip or in1k is wanted");
    }
    return t;
  }

 private:
  void check() const {
    if (size < 1 || size > 16384)
      fail<shape_error>("image_transform: size ", size, "; 1 to 16384 is wanted");
    if (shorter_edge != 0 && (shorter_edge < size || shorter_edge > 16384))
      fail<shape_error>("image_transform: shorter edge ", shorter_edge, " with size ", size,
                        "; size to 16384 is wanted");
    for (std::size_t c = 0; c < 3; ++c)
      if (!std::isfinite(mean[c]) || !std::isfinite(std[c]) || std[c] == 0)
        fail<shape_error>("image_transform: mean ", mean[c], " and std ", std[c],
                          "; finite numbers, std not 0, are wanted");
  }
  /// Half the rest, a half rounded to even as Python's round does.
  int middle(std::int64_t length) const {
    const std::int64_t rest = length - size, half = rest / 2;
    return static_cast<int>(rest % 2 != 0 && half % 2 != 0 ? half + 1 : half);
  }
};

}  // namespace mlmamba
