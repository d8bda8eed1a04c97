// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Entries of the table for products with weights of 8 and 4 bits: rows of x in 8 bits, tiles.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "mlmamba/backend/cpu/simd/gemm.hpp"

namespace mlmamba::backend::simd {

/// x in 8 bits, w as packed_rows has it, and where results go.
struct quantised_job {
  const std::int8_t* r = nullptr;         // blocks of `height` rows, each [k / unit][row][unit]
  const float* x_scale = nullptr;         // blocks of `height` rows, each [group][row]
  const std::int32_t* x_start = nullptr;  // the same: -offset sum r
  const std::byte* w = nullptr;           // its strips from first_strip on
  index_t first_strip = 0;
  const bf16* w_scale = nullptr;
  index_t height = 0, unit = 4, padded_k = 0, group = 0, groups = 0, strip_bytes = 0;
  bool nibbles = false;  // 4 bits, else 8
  gemm_job out;          // m, n, y, bias, activation, results

  // Of many rows, what will be read next is fetched meanwhile: so many lines of it with every piece
  // of k, by each block of rows.
  std::uintptr_t ahead = 0, ahead_end = 0;
  index_t ahead_lines = 0;
  static constexpr index_t piece = 64;  // or a group, if that is shorter
  index_t pieces() const { return groups * ((group + piece - 1) / piece); }
  void set_ahead(const std::byte* from, index_t bytes, index_t blocks) {
    ahead = reinterpret_cast<std::uintptr_t>(from), ahead_end = ahead + std::uintptr_t(bytes);
    const index_t all = std::max<index_t>(1, blocks * pieces());
    ahead_lines = (bytes / 64 + all - 1) / all;
  }
  /// To be called behind each block of rows.
  void pass_ahead() { ahead += std::uintptr_t(64 * ahead_lines * pieces()); }
};

/// Blocks of so many rows at a time.
struct quantised_way {
  index_t height = 1;
  index_t (*unit)(index_t group) = nullptr;
  // rows [m0, m0 + rows) of x, m0 being the first of a block, with strips [s0, s1) of w
  void (*tile)(const quantised_job&, index_t m0, index_t rows, index_t s0, index_t s1) = nullptr;
  // strip s of 4 bits in 8, for products that read it many times: twice strip_bytes
  void (*unpack)(const quantised_job&, index_t s, std::byte* to) = nullptr;
  bool always_unpack = false;  // `tile` knows it only so; what is 8 bits already, too
};

struct quantised_entries {
  quantised_way few;   // up to its height of rows straight from packed w, which is read once
  quantised_way tall;  // more
  index_t (*few_height)(index_t m) = nullptr;  // rows that `few` multiplies for m: padding, too
  // More than tiles_above, where the processor has tiles: of fewer, what tiles want to have written
  // first takes longer than they save.
  quantised_way tiles;
  index_t tiles_above = std::numeric_limits<index_t>::max();
};

/// X: float or bf16.
template <class X>
struct rounding_entries {
  static constexpr index_t at_once = 4;
  // up to so many rows of x, `stride` apart, whose block has `height`: `unit` bytes of r of each
  // every unit * height; scale and start of a group every height
  void (*rows)(const X* x, index_t stride, index_t rows, index_t k, index_t group, index_t groups,
               int offset, index_t height, index_t unit, std::int8_t* r, float* scale,
               std::int32_t* start) = nullptr;
};

}  // namespace mlmamba::backend::simd
