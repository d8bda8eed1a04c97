// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Pictures: JPEG and PNG to 8-bit RGB, with the pixels that Pillow's convert("RGB") gives.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "mlmamba/core/error.hpp"
#include "mlmamba/io/detail/jpeg.hpp"
#include "mlmamba/io/detail/png.hpp"
#include "mlmamba/io/mapped_file.hpp"
#include "mlmamba/io/pixels.hpp"
#include "mlmamba/io/write_file.hpp"

namespace mlmamba {

/// Decodes a JPEG or PNG picture; `who` names it in errors.
///
/// Accepts   PNG: grey, palette, RGB, with alpha, 1 to 16 bits, interlaced. JPEG: grey, YCbCr, RGB,
///           CMYK and YCCK (taken as inverted, as Adobe writes them), baseline and progressive
/// Numerics  alpha is dropped, not blended; 16-bit samples keep their high byte (Pillow does so for
///           colour, but clips grey at 255, which turns nearly all of it white); CMYK becomes RGB
///           by 255 - k - c (255 - k) / 255, rounded as Pillow does. Orientation tags, gamma and
///           colour profiles are not applied
/// Errors    io_error if it is neither (with its first bytes), is truncated or corrupt, or exceeds
///           the limits
inline image decode_image(std::span<const std::byte> bytes, std::string_view who,
                          const image_limits& limits = {}) {
  constexpr std::array<std::uint8_t, 8> png{0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
  constexpr std::array<std::uint8_t, 3> jpeg{0xFF, 0xD8, 0xFF};
  if (detail::begins_with(bytes, png)) return detail::decode_png(bytes, who, limits);
  if (detail::begins_with(bytes, jpeg)) return detail::decode_jpeg(bytes, who, limits);
  if (bytes.empty()) fail<io_error>(who, ": empty; a JPEG or PNG picture is wanted");
  std::string first;
  constexpr char digits[] = "0123456789abcdef";
  for (std::size_t i = 0; i < std::min<std::size_t>(bytes.size(), 8); ++i) {
    const auto b = std::to_integer<std::uint8_t>(bytes[i]);
    (first += ' ').append({digits[b >> 4], digits[b & 15]});
  }
  fail<io_error>(who, ": begins with", first, "; a JPEG or PNG picture is wanted");
}

/// Reads a picture from a file.
inline image read_image(const std::filesystem::path& path, const image_limits& limits = {}) {
  const mapped_file file(path);
  return decode_image(file.bytes(), path.string(), limits);
}

/// Writes a picture as 8-bit RGB PNG, atomically.
inline void write_png(const std::filesystem::path& path, const image& picture) {
  write_file(path, detail::encode_png(picture, path.string()));
}

}  // namespace mlmamba
