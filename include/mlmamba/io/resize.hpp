// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Bicubic resampling of 8-bit RGB, equal bit for bit to what Pillow gives.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "mlmamba/core/error.hpp"
#include "mlmamba/io/pixels.hpp"

namespace mlmamba {

/// A part of a picture: columns [x, x + width), rows [y, y + height).
struct image_window {
  int x = 0, y = 0, width = 0, height = 0;
};

/// A picture inside a larger one of one colour: `left` columns before and `right` after it, `top`
/// rows above and `bottom` below.
struct image_padding {
  int left = 0, right = 0, top = 0, bottom = 0;
  std::uint8_t colour[3] = {0, 0, 0};
};

namespace detail {

/// Keys' cubic with a = -1/2; zero from |x| = 2 on.
inline double cubic(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

/// The taps of one axis: output i is the sum of `count[i]` inputs from `first[i]` on, weighted.
struct resample_taps {
  static constexpr int bits = 22;  // 32, less 8 of the pixel and 2 for the overshoot of the cubic
  int longest = 0;
  std::vector<int> first, count;
  std::vector<std::int32_t> weights;  // (outputs, longest)

  /// For outputs [from, from + n) of an axis resampled from `in` to `out` elements.
  resample_taps(int in, int out, int from, int n) {
    const double scale = static_cast<double>(in) / out;
    const double stretch =
        std::max(scale, 1.0);  // > 1 widens the kernel: it averages when it shrinks
    const double support = 2 * stretch, inverse = 1 / stretch;
    longest = static_cast<int>(std::ceil(support)) * 2 + 1;
    first.resize(static_cast<std::size_t>(n));
    count.resize(static_cast<std::size_t>(n));
    weights.assign(static_cast<std::size_t>(n) * static_cast<std::size_t>(longest), 0);
    std::vector<double> w(static_cast<std::size_t>(longest));
    for (int i = 0; i < n; ++i) {
      const double center = (from + i + 0.5) * scale;
      const int low = std::max(static_cast<int>(center - support + 0.5), 0);
      const int taps = std::min(static_cast<int>(center + support + 0.5), in) - low;
      double sum = 0;
      for (int j = 0; j < taps; ++j) {
        w[static_cast<std::size_t>(j)] = cubic((j + low - center + 0.5) * inverse);
        sum += w[static_cast<std::size_t>(j)];
      }
      std::int32_t* to = weights.data() + static_cast<std::ptrdiff_t>(i) * longest;
      for (int j = 0; j < taps; ++j) {
        const double share = (sum != 0 ? w[static_cast<std::size_t>(j)] / sum : 0) * (1 << bits);
        to[j] = static_cast<std::int32_t>(share < 0 ? share - 0.5 : share + 0.5);
      }
      first[static_cast<std::size_t>(i)] = low;
      count[static_cast<std::size_t>(i)] = taps;
    }
  }
  const std::int32_t* of(std::size_t i) const {
    return weights.data() + i * static_cast<std::size_t>(longest);
  }
};

inline std::uint8_t to_pixel(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> resample_taps::bits, 0, 255));
}

/// One row through the taps of the columns.
inline void resample_row(const std::uint8_t* in, const resample_taps& taps, std::uint8_t* out) {
  for (std::size_t x = 0; x < taps.first.size(); ++x) {
    const std::uint8_t* p = in + 3 * static_cast<std::ptrdiff_t>(taps.first[x]);
    const std::int32_t* w = taps.of(x);
    std::int32_t r = 1 << (resample_taps::bits - 1), g = r, b = r;  // rounds the shift
    for (int j = 0; j < taps.count[x]; ++j, p += 3) {
      r += p[0] * w[j];
      g += p[1] * w[j];
      b += p[2] * w[j];
    }
    out[3 * x] = to_pixel(r);
    out[3 * x + 1] = to_pixel(g);
    out[3 * x + 2] = to_pixel(b);
  }
}

/// One output row from rows of `bytes` bytes through the taps of output row y.
inline void resample_column(const std::vector<std::uint8_t>& rows, std::size_t bytes, int first_row,
                            const resample_taps& taps, std::size_t y,
                            std::vector<std::int32_t>& sums, std::uint8_t* out) {
  std::fill(sums.begin(), sums.end(), 1 << (resample_taps::bits - 1));
  const std::int32_t* w = taps.of(y);
  for (int j = 0; j < taps.count[y]; ++j) {
    const std::uint8_t* row =
        rows.data() + static_cast<std::size_t>(taps.first[y] - first_row + j) * bytes;
    for (std::size_t k = 0; k < bytes; ++k) sums[k] += row[k] * w[j];
  }
  for (std::size_t k = 0; k < bytes; ++k) out[k] = to_pixel(sums[k]);
}

}  // namespace detail

/// The part `window` of the picture that results when `in`, inside its padding, is resampled to
/// `width` x `height`. Neither the padded nor the whole resampled picture is ever made: a strip of
/// 20,000 x 1 pixels can be letterboxed, or cropped from a strip of 7,680,000 x 384.
///
///   out[i] = sum_j w_ij in[j],  w_ij = k((j + 1/2 - c_i) / s) / (their sum over j),
///   c_i = (i + 1/2) in/out,  s = max(in/out, 1),  |j + 1/2 - c_i| < 2 s,  k Keys' cubic, a = -1/2
///
/// Numerics  weights in double, rounded (half away from zero) to 22 fractional bits; sums in int32;
///           columns first, their result rounded to 8 bits, then rows; an axis whose size stays is
///           not touched
/// Errors    shape_error for an empty picture or size, or a window outside the result
/// Source    Pillow's ImagingResample with BICUBIC (reducing_gap none), which torchvision calls
inline image resize_bicubic(const image& in, int width, int height, const image_window& window,
                            const image_padding& padding = {}) {
  if (in.width < 1 || in.height < 1 || width < 1 || height < 1)
    fail<shape_error>("resize_bicubic: ", in.width, " x ", in.height, " to ", width, " x ", height,
                      "; sizes of at least 1 are wanted");
  if (in.rgb.size() != in.row_bytes() * static_cast<std::size_t>(in.height))
    fail<shape_error>("resize_bicubic: ", in.rgb.size(), " bytes; ", in.width, " x ", in.height,
                      " x 3 are wanted");
  if (window.x < 0 || window.y < 0 || window.width < 1 || window.height < 1 ||
      window.width > width - window.x || window.height > height - window.y)
    fail<shape_error>("resize_bicubic: window ", window.width, " x ", window.height, " at ",
                      window.x, ", ", window.y, "; one inside ", width, " x ", height,
                      " is wanted");
  constexpr int most = 1 << 29;  // keeps every index below and 3 bytes a pixel in int
  const std::int64_t w = std::int64_t{in.width} + padding.left + padding.right;
  const std::int64_t h = std::int64_t{in.height} + padding.top + padding.bottom;
  if (padding.left < 0 || padding.right < 0 || padding.top < 0 || padding.bottom < 0 || w > most ||
      h > most)
    fail<shape_error>("resize_bicubic: padding gives ", w, " x ", h, "; ", in.width, " x ",
                      in.height, " to ", most, " a side are wanted");
  const int full_width = static_cast<int>(w), full_height = static_cast<int>(h);
  const bool columns = full_width != width, rows = full_height != height;

  // Rows of the padded picture that the window needs, resampled along their columns.
  int first = window.y, end = window.y + window.height;
  const auto down = rows ? detail::resample_taps(full_height, height, window.y, window.height)
                         : detail::resample_taps(1, 1, 0, 0);
  if (rows) {
    first = down.first.front();
    end = down.first.back() + down.count.back();
  }
  const auto across = columns ? detail::resample_taps(full_width, width, window.x, window.width)
                              : detail::resample_taps(1, 1, 0, 0);
  image out;
  out.width = window.width;
  out.height = window.height;
  const std::size_t bytes = out.row_bytes();
  std::vector<std::uint8_t> narrow(static_cast<std::size_t>(end - first) * bytes);
  std::vector<std::uint8_t> line(3 * static_cast<std::size_t>(full_width));
  for (std::size_t k = 0; k < line.size(); ++k) line[k] = padding.colour[k % 3];
  const std::uint8_t* blank = nullptr;  // the result of a row of padding, once there is one
  for (int y = first; y < end; ++y) {
    std::uint8_t* to = narrow.data() + static_cast<std::size_t>(y - first) * bytes;
    const int from = y - padding.top;
    const bool inside = from >= 0 && from < in.height;
    if (!inside && blank != nullptr) {
      std::memcpy(to, blank, bytes);
      continue;
    }
    std::uint8_t* pixels = line.data() + 3 * static_cast<std::ptrdiff_t>(padding.left);
    if (inside) {
      std::memcpy(pixels, in.row(from), in.row_bytes());
    } else {
      for (std::size_t k = 0; k < in.row_bytes(); ++k) pixels[k] = padding.colour[k % 3];
      blank = to;
    }
    if (columns) {
      detail::resample_row(line.data(), across, to);
    } else {
      std::memcpy(to, line.data() + 3 * static_cast<std::ptrdiff_t>(window.x), bytes);
    }
  }
  if (!rows) {
    out.rgb = std::move(narrow);
    return out;
  }
  out.rgb.resize(bytes * static_cast<std::size_t>(out.height));
  std::vector<std::int32_t> sums(bytes);
  for (int y = 0; y < out.height; ++y)
    detail::resample_column(narrow, bytes, first, down, static_cast<std::size_t>(y), sums,
                            out.row(y));
  return out;
}

/// The whole picture resampled to `width` x `height`.
inline image resize_bicubic(const image& in, int width, int height) {
  return resize_bicubic(in, width, height, {0, 0, width, height});
}

}  // namespace mlmamba
