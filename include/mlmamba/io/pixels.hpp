// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A picture in memory, and how large one may be.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

#include "mlmamba/core/error.hpp"

namespace mlmamba {

/// An 8-bit RGB picture: row by row from the top, 3 bytes a pixel, no padding.
struct image {
  int width = 0;
  int height = 0;
  std::vector<std::uint8_t> rgb;  // 3 width height bytes

  std::size_t row_bytes() const { return 3 * static_cast<std::size_t>(width); }
  const std::uint8_t* row(int y) const {
    return rgb.data() + row_bytes() * static_cast<std::size_t>(y);
  }
  std::uint8_t* row(int y) { return rgb.data() + row_bytes() * static_cast<std::size_t>(y); }
  friend bool operator==(const image&, const image&) = default;
};

/// The largest picture that is decoded; larger ones are refused before memory is asked for.
struct image_limits {
  std::uint32_t side = 20'000;                    // pixels
  std::uint64_t pixels = std::uint64_t{1} << 28;  // 16,384 x 16,384: 768 MiB of RGB
};

namespace detail {

/// Refuses an impossible or too large size.
inline void check_image_size(std::uint64_t width, std::uint64_t height, const image_limits& limits,
                             std::string_view who) {
  if (width == 0 || height == 0)
    fail<io_error>(who, ": a picture of ", width, " x ", height,
                   " pixels; at least 1 x 1 is wanted");
  const auto most = static_cast<std::uint64_t>(std::numeric_limits<std::int32_t>::max());
  const std::uint64_t side = std::min<std::uint64_t>(limits.side, most);
  if (width > side || height > side || width * height > limits.pixels)
    fail<io_error>(who, ": a picture of ", width, " x ", height, " pixels; at most ", limits.side,
                   " a side and ", limits.pixels, " in all are read");
}

inline image allocate_image(std::uint64_t width, std::uint64_t height) {
  image picture;
  picture.width = static_cast<int>(width);
  picture.height = static_cast<int>(height);
  picture.rgb.resize(static_cast<std::size_t>(3 * width * height));
  return picture;
}

inline bool begins_with(std::span<const std::byte> bytes, std::span<const std::uint8_t> magic) {
  if (bytes.size() < magic.size()) return false;
  for (std::size_t i = 0; i < magic.size(); ++i)
    if (std::to_integer<std::uint8_t>(bytes[i]) != magic[i]) return false;
  return true;
}

}  // namespace detail
}  // namespace mlmamba
