// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fuzz target: any bytes as a GIF. What is accepted has the pixels of its size.
#define MLMAMBA_GIF  // fuzz/run.sh knows of no targets
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "mlmamba/io/gif.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mlmamba;
  try {
    const image picture =
        decode_gif(std::as_bytes(std::span(data, size)), "fuzz", {.side = 4000, .pixels = 1 << 20});
    if (picture.rgb.size() != picture.row_bytes() * std::size_t(picture.height)) std::abort();
  } catch (const io_error&) {
  }
  return 0;
}
