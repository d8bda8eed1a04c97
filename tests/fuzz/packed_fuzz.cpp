// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fuzz target: any bytes as a safetensors file of quantised weights; what is accepted is finite,
// and is the same after it was packed and written again.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mlmamba/io/packed_weights.hpp"
#include "mlmamba/io/safetensors.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mlmamba;
  try {
    const auto file = safetensors_file::parse(std::as_bytes(std::span(data, size)), "fuzz");
    const std::vector<safetensors_entry> all(file.entries().begin(), file.entries().end());
    for (const safetensors_entry& e : unpacked_weights(all, "fuzz")) {
      if (file.find(e.name + ".layout") == nullptr) continue;
      const bool nibbles = file.find(e.name + ".q4") != nullptr;
      const auto layout = read_values<std::int64_t>(*file.find(e.name + ".layout"));
      const index_t rows = e.shape[0], k = e.shape[1];
      if (rows != layout[0] || k != layout[1]) std::abort();
      const std::vector<float> values = read_values<float>(e);
      if (std::ssize(values) != rows * k) std::abort();
      if (rows * k == 0 || rows * k > 4096) continue;
      for (const float v : values)
        if (!std::isfinite(v)) return 0;  // from the rows that are stored as float
      tensor<float, 2> w({rows, k});
      std::copy(values.begin(), values.end(), w.data());
      const weight_format format{nibbles ? weight_scheme::int4 : weight_scheme::int8, layout[2]};
      std::vector<safetensors_entry> once, twice;
      append_packed(once, "x", packed_matrix(std::as_const(w).view(), format));
      const auto first = read_values<float>(unpacked_weights(once, "once").at(0));
      std::copy(first.begin(), first.end(), w.data());
      append_packed(twice, "x", packed_matrix(std::as_const(w).view(), format));
      if (first != read_values<float>(unpacked_weights(twice, "twice").at(0))) std::abort();
    }
  } catch (const error&) {
  }
  return 0;
}
