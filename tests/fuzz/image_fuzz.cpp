// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fuzz target: any bytes as a picture, small ones only; what is accepted is resized too.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "mlmamba/io/image.hpp"
#include "mlmamba/io/image_transform.hpp"

namespace {

/// Checksums would turn nearly every mutation of a PNG into the same refusal: make them right.
void repair_checksums(std::uint8_t* data, std::size_t size) {
  for (std::size_t at = 8; at + 12 <= size;) {
    std::size_t length = 0;
    for (std::size_t i = 0; i < 4; ++i) length = length << 8 | data[at + i];
    if (length > size - at - 12) return;
    std::uint32_t crc = 0xFFFFFFFFu;
    for (std::size_t i = at + 4; i < at + 8 + length; ++i) {
      crc ^= data[i];
      for (int k = 0; k < 8; ++k) crc = (crc >> 1) ^ (0xEDB88320u & (0u - (crc & 1u)));
    }
    at += 8 + length;
    for (std::size_t i = 0; i < 4; ++i)
      data[at + i] = static_cast<std::uint8_t>(~crc >> (24 - 8 * i));
    at += 4;
  }
}

}  // namespace

// Weak: the replay program has no libFuzzer.
extern "C" __attribute__((weak)) std::size_t LLVMFuzzerMutate(std::uint8_t*, std::size_t,
                                                              std::size_t);
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t most, unsigned seed) {
  size = LLVMFuzzerMutate(data, size, most);
  if (seed % 8 != 0) repair_checksums(data, size);
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mlmamba;
  try {
    const image_limits limits{64, 1024};
    const image picture = decode_image(std::as_bytes(std::span(data, size)), "fuzz", limits);
    const std::size_t pixels = picture.rgb.size() / 3;
    if (pixels == 0 || pixels > limits.pixels) std::abort();
    const auto strategy = static_cast<resize_strategy>(size % 3);
    image_transform transform{5, strategy};
    if (size % 2 == 0) transform.order = resample_order::tall_rows_first;
    if (transform(picture).size() != 75) std::abort();
  } catch (const io_error&) {
  }
  return 0;
}
