// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fuzz target: any bytes as a safetensors file; what is accepted is read, whole and converted.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "mlmamba/io/convert.hpp"
#include "mlmamba/io/safetensors.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mlmamba;
  try {
    const auto file = safetensors_file::parse(std::as_bytes(std::span(data, size)), "fuzz");
    std::size_t total = 0;
    for (const safetensors_entry& entry : file.entries()) {
      if (file.find(entry.name) != &entry) std::abort();
      total += entry.bytes.size();
      try {
        volatile float sum = 0;
        for (const float x : read_values<float>(entry)) sum = sum + x;
        (void)read_values<std::int32_t>(entry);
        (void)read_values<bf16>(entry);
      } catch (const io_error&) {
      }
    }
    if (total > size) std::abort();
  } catch (const io_error&) {
  }
  return 0;
}
