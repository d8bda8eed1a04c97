// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// CRC-32C (Castagnoli), the checksum of state files, and CRC-32, that of zip archives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace mlmamba {

namespace detail {
/// of[k][b]: the remainder of byte b followed by k zero bytes. Polynomials are reflected. (Made at
/// run time: as a constant it took the compiler half a second in every file.)
struct crc32_table {
  std::uint32_t of[8][256];
  explicit crc32_table(std::uint32_t polynomial) {
    for (std::uint32_t b = 0; b < 256; ++b) {
      std::uint32_t r = b;
      for (int i = 0; i < 8; ++i) r = r & 1 ? r >> 1 ^ polynomial : r >> 1;
      of[0][b] = r;
    }
    for (int k = 1; k < 8; ++k)
      for (int b = 0; b < 256; ++b) of[k][b] = of[k - 1][b] >> 8 ^ of[0][of[k - 1][b] & 0xFF];
  }
};

template <std::uint32_t Polynomial>
std::uint32_t crc32_of(std::span<const std::byte> bytes, std::uint32_t before) {
  static const crc32_table table(Polynomial);
  const auto& t = table.of;
  std::uint32_t r = ~before;
  // Eight bytes a step: their remainders are independent, so the table reads overlap.
  for (; bytes.size() >= 8; bytes = bytes.subspan(8)) {
    std::uint8_t b[8];
    std::memcpy(b, bytes.data(), 8);
    const auto head = [&](int i) { return (r >> (8 * i) & 0xFF) ^ b[i]; };
    r = t[7][head(0)] ^ t[6][head(1)] ^ t[5][head(2)] ^ t[4][head(3)] ^ t[3][b[4]] ^ t[2][b[5]] ^
        t[1][b[6]] ^ t[0][b[7]];
  }
  for (const std::byte b : bytes) r = r >> 8 ^ t[0][(r ^ std::uint32_t(b)) & 0xFF];
  return ~r;
}
}  // namespace detail

/// The CRC-32C of bytes; give the last result as `before` to go on. "123456789" has 0xE3069283.
inline std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t before = 0) {
  return detail::crc32_of<0x82F63B78u>(bytes, before);  // 0x1EDC6F41
}

/// The CRC-32 of zip and Ethernet, likewise. "123456789" has 0xCBF43926.
inline std::uint32_t crc32(std::span<const std::byte> bytes, std::uint32_t before = 0) {
  return detail::crc32_of<0xEDB88320u>(bytes, before);  // 0x04C11DB7
}

}  // namespace mlmamba
