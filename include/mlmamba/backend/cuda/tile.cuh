// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Small matrix products of one block, for kernels that chain several.
#pragma once

#include "mlmamba/backend/cuda/launch.cuh"

namespace mlmamba::backend::kernels {

inline constexpr int tile_rows = 32, tile_depth = 32, tile_lanes = 16;

/// What a product is staged through. + 1: threads that read one column hit different banks.
template <class A>
struct tile_operands {
  A left[tile_depth][tile_rows + 1];
  A right[tile_depth][4 * tile_lanes + 1];
};

/// Which index of an operand is contiguous in memory: consecutive threads read along it.
enum class along : std::uint8_t { depth, other };

/// A tile of 32 rows and 16 Per columns of a product, spread over a block of 256 threads: a thread
/// has rows y, y + 16 and columns x + 16 c.
template <class A, int Per>
struct tile {
  static constexpr int columns = tile_lanes * Per;
  A at[2][Per] = {};

  __device__ static int row(int r) { return int(threadIdx.x) / tile_lanes + tile_lanes * r; }
  __device__ static int column(int c) { return int(threadIdx.x) % tile_lanes + tile_lanes * c; }

  /// at += sum over k < depth of left(row, k) right(k, column), k ascending. Ends with no barrier.
  template <class Left, class Right>
  __device__ void add(tile_operands<A>& s, index_t depth, along left_is, const Left& left,
                      along right_is, const Right& right) {
    for (index_t k0 = 0; k0 < depth; k0 += tile_depth) {
      const int deep = int(depth - k0 < tile_depth ? depth - k0 : index_t(tile_depth));
      __syncthreads();  // everybody is done with the operands before
#pragma unroll 2
      for (int e = int(threadIdx.x); e < tile_depth * tile_rows; e += block_threads) {
        const int k = left_is == along::depth ? e % tile_depth : e / tile_rows;
        const int i = left_is == along::depth ? e / tile_depth : e % tile_rows;
        s.left[k][i] = k < deep ? left(i, k0 + k) : A(0);
      }
#pragma unroll 2
      for (int e = int(threadIdx.x); e < tile_depth * columns; e += block_threads) {
        const int k = right_is == along::depth ? e % tile_depth : e / columns;
        const int j = right_is == along::depth ? e / tile_depth : e % columns;
        s.right[k][j] = k < deep ? right(k0 + k, j) : A(0);
      }
      __syncthreads();
#pragma unroll 4
      for (int k = 0; k < deep; ++k) {
        const A above = s.left[k][row(0)], below = s.left[k][row(1)];
#pragma unroll
        for (int c = 0; c < Per; ++c) {
          const A v = s.right[k][column(c)];
          at[0][c] = multiply_add(above, v, at[0][c]);
          at[1][c] = multiply_add(below, v, at[1][c]);
        }
      }
    }
  }
  /// to[row] += sum over the columns of factor(row, column) at; one thread adds for a row.
  template <class Factor>
  __device__ void add_row_sums(A* to, const Factor& factor) const {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      A sum = 0;
#pragma unroll
      for (int c = 0; c < Per; ++c) sum = multiply_add(factor(row(r), column(c)), at[r][c], sum);
      sum = warp_sum<tile_lanes>(sum);
      if (threadIdx.x % tile_lanes == 0) to[row(r)] += sum;
    }
  }
  /// Each row by its factor; 0 wipes out even infinities.
  __device__ void scale_rows(const A* factor) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const A f = factor[row(r)];
#pragma unroll
      for (int c = 0; c < Per; ++c) at[r][c] = f == A(0) ? A(0) : f * at[r][c];
    }
  }
  template <class F>
  __device__ void for_each(const F& f) const {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
      for (int c = 0; c < Per; ++c) f(row(r), column(c), at[r][c]);
    }
  }
};

}  // namespace mlmamba::backend::kernels
