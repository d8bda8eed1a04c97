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
#include <utility>
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

/// Which axis is resampled first, where both are: the 8-bit rounding in between makes it matter.
enum class resample_order {
  columns_first,  ///< Pillow up to 12; what published weights were trained with
  /// Pillow from 13 on: rows first if the height shrinks by more than twice as many pixels as the
  /// width does (pull request 9549; the rule was found by comparing 3,000 random sizes).
  tall_rows_first,
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

/// Adds w times a row to the sums.
inline void add_row(const std::uint8_t* row, std::int32_t w, std::vector<std::int32_t>& sums) {
  for (std::size_t k = 0; k < sums.size(); ++k) sums[k] += row[k] * w;
}
inline void start_sums(std::vector<std::int32_t>& sums) {
  std::fill(sums.begin(), sums.end(), 1 << (resample_taps::bits - 1));
}
inline void finish_sums(const std::vector<std::int32_t>& sums, std::uint8_t* out) {
  for (std::size_t k = 0; k < sums.size(); ++k) out[k] = to_pixel(sums[k]);
}

/// The rows of a padded picture, made one at a time.
class padded_rows {
 public:
  padded_rows(const image& in, const image_padding& padding)
      : in_(in), padding_(padding), width_(in.width + padding.left + padding.right) {
    blank_.resize(3 * static_cast<std::size_t>(width_));
    for (std::size_t k = 0; k < blank_.size(); ++k) blank_[k] = padding.colour[k % 3];
    if (width_ != in.width) line_ = blank_;
  }
  bool inside(int y) const { return y >= padding_.top && y - padding_.top < in_.height; }
  /// Valid until the next call.
  const std::uint8_t* operator()(int y) {
    if (!inside(y)) return blank_.data();
    if (line_.empty()) return in_.row(y - padding_.top);
    std::memcpy(line_.data() + 3 * static_cast<std::ptrdiff_t>(padding_.left),
                in_.row(y - padding_.top), in_.row_bytes());
    return line_.data();
  }

 private:
  const image& in_;
  image_padding padding_;
  int width_;
  std::vector<std::uint8_t> blank_, line_;
};

/// Rows of the padded picture through `down`, then each through `across`.
inline void resample_rows_first(padded_rows& rows, int full_width, const resample_taps& across,
                                const resample_taps& down, image& out) {
  std::vector<std::int32_t> sums(3 * static_cast<std::size_t>(full_width));
  std::vector<std::uint8_t> line(sums.size());
  for (std::size_t y = 0; y < down.first.size(); ++y) {
    start_sums(sums);
    for (int j = 0; j < down.count[y]; ++j) add_row(rows(down.first[y] + j), down.of(y)[j], sums);
    finish_sums(sums, line.data());
    resample_row(line.data(), across, out.row(static_cast<int>(y)));
  }
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
///           one axis after the other, rounded to 8 bits in between, in the order asked for; an
///           axis whose size stays is not touched
/// Errors    shape_error for an empty picture or size, or a window outside the result
/// Source    Pillow's ImagingResample with BICUBIC (reducing_gap none), which torchvision calls
inline image resize_bicubic(const image& in, int width, int height, const image_window& window,
                            const image_padding& padding = {},
                            resample_order order = resample_order::columns_first) {
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
  const auto none = detail::resample_taps(1, 1, 0, 0);
  const auto across =
      columns ? detail::resample_taps(full_width, width, window.x, window.width) : none;
  const auto down =
      rows ? detail::resample_taps(full_height, height, window.y, window.height) : none;
  detail::padded_rows source(in, padding);
  image out = detail::allocate_image(static_cast<std::uint64_t>(window.width),
                                     static_cast<std::uint64_t>(window.height));
  const bool shrinks_tall = full_height > height && std::int64_t{full_height} - height >
                                                        2 * (std::int64_t{full_width} - width);
  if (order == resample_order::tall_rows_first && rows && columns && shrinks_tall) {
    detail::resample_rows_first(source, full_width, across, down, out);
    return out;
  }

  // The rows that the window needs, resampled along their columns.
  const int first = rows ? down.first.front() : window.y;
  const int end = rows ? down.first.back() + down.count.back() : window.y + window.height;
  const std::size_t bytes = out.row_bytes();
  std::vector<std::uint8_t> narrow(static_cast<std::size_t>(end - first) * bytes);
  const std::uint8_t* blank = nullptr;  // the result of a row of padding, once there is one
  for (int y = first; y < end; ++y) {
    std::uint8_t* to = narrow.data() + static_cast<std::size_t>(y - first) * bytes;
    if (!source.inside(y) && blank != nullptr) {
      std::memcpy(to, blank, bytes);
      continue;
    }
    const std::uint8_t* row = source(y);
    if (columns) {
      detail::resample_row(row, across, to);
    } else {
      std::memcpy(to, row + 3 * static_cast<std::ptrdiff_t>(window.x), bytes);
    }
    if (!source.inside(y)) blank = to;
  }
  if (!rows) {
    out.rgb = std::move(narrow);
    return out;
  }
  std::vector<std::int32_t> sums(bytes);
  for (std::size_t y = 0; y < down.first.size(); ++y) {
    detail::start_sums(sums);
    for (int j = 0; j < down.count[y]; ++j)
      detail::add_row(narrow.data() + static_cast<std::size_t>(down.first[y] - first + j) * bytes,
                      down.of(y)[j], sums);
    detail::finish_sums(sums, out.row(static_cast<int>(y)));
  }
  return out;
}

/// The whole picture resampled to `width` x `height`.
inline image resize_bicubic(const image& in, int width, int height,
                            resample_order order = resample_order::columns_first) {
  return resize_bicubic(in, width, height, {0, 0, width, height}, {}, order);
}

}  // namespace mlmamba
