// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Made-up photos, so that tests of garment scenes need no data set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "mlmamba/train/garment/idx.hpp"

namespace mlmamba::train::garment {

/// Twelve photos of each class.
inline source made_up(split which) {
  const std::size_t n = 120;
  idx_file images{{n, 28, 28}, std::vector<std::uint8_t>(n * 784)};
  idx_file labels{{n}, std::vector<std::uint8_t>(n)};
  for (std::size_t i = 0; i < n; ++i) {
    labels.bytes[i] = static_cast<std::uint8_t>(i % 10);
    for (std::size_t p = 0; p < 784; ++p)
      images.bytes[i * 784 + p] = static_cast<std::uint8_t>((i * 31 + p * 7 + p / 28 * i) % 256);
  }
  return make_source(which, std::move(images), std::move(labels), "made-up photos");
}

}  // namespace mlmamba::train::garment
