// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What warpgroups read in the backward of attention: operand tiles of pairs of arrays.
#pragma once

#include "mlmamba/backend/cuda/attention_backward_plan.cuh"
#include "mlmamba/backend/cuda/warpgroup.cuh"

namespace mlmamba::backend::kernels {

/// A warpgroup has 64 rows (queries, or keys if `ByKey`) and meets 64 rows of the other kind at a
/// time. Such 64 rows of two arrays g (v or dy) and s (k or q) are operand tiles of 64 columns:
/// g's, then s's; of heads of up to 80 one more has the last 16 columns of both.
template <int Width, bool ByKey, int Groups, int Blocks, int Stages>
struct attention_backward_group {
  static constexpr bool by_key = ByKey, tail = Width == 80;
  static constexpr int groups = Groups, blocks = Blocks, stages = Stages;
  static constexpr bool early = blocks < 3;  // reads base while products run: registers allow it
  static constexpr int threads = 128 * groups, rows = 64 * groups;
  static constexpr int depth = Width / 16, whole = Width / 64, tiles = 2 * whole + (tail ? 1 : 0);
  static constexpr int elements = tiles * operand_tile;
  static constexpr int matrix_bytes = (groups + stages) * elements * 2;
  static constexpr int numbers = by_key ? 2 * 64 * stages : 2 * rows;
  static constexpr int bytes = matrix_bytes + 4 * numbers + 1024;  // to align
  // Where g's and s's columns after the first 64 are, from these on.
  static constexpr int g_next = tail ? 2 * operand_tile : operand_tile;
  static constexpr int s_next = tail ? operand_tile + 16 : operand_tile;

  /// Where columns 16 step to 16 step + 15 begin.
  __device__ static constexpr int g_columns(int step) { return step / 4 * g_next + step % 4 * 16; }
  __device__ static constexpr int s_columns(int step) {
    return whole * operand_tile + step / 4 * s_next + step % 4 * 16;
  }
};

/// Copies of a head of g and of s in the background, 64 rows after 64 rows.
template <class T, class V>
class pair_copies {
 public:
  using rows_t = view<const V, 4, memory::device>;
  __device__ pair_copies(const rows_t& g, const rows_t& s, index_t b, index_t h, index_t first)
      : row_(int(threadIdx.x) / 8),
        piece_(int(threadIdx.x) % 8),
        pieces_(int(g.size[3] / 8)),
        g_(&g(b, first + row_, h, 8 * piece_)),
        s_(&s(b, first + row_, h, 8 * piece_)),
        g_step_(at_once * g.stride[1]),
        s_step_(at_once * s.stride[1]) {
    if constexpr (T::tail) {
      const rows_t& of = tail_piece() < 2 ? g : s;
      tail_ = &of(b, first + tail_row(), h, 64 + tail_piece() % 2 * 8);
      tail_step_ = 2 * at_once * of.stride[1];
    }
  }
  /// The next ones, of which `rows` are there (others are zeros).
  __device__ void copy(V* to, int rows) {
    V* const place = to + piece_at<8>(row_, piece_);
#pragma unroll
    for (int i = 0; i < 64 / at_once; ++i) {
#pragma unroll
      for (int w = 0; w < T::whole; ++w) {
        const bool there = row_ + i * at_once < rows && 8 * w + piece_ < pieces_;
        const int at = w * operand_tile + i * at_once * 64;
        copy_piece(place + at, g_ + 64 * w, there);
        copy_piece(place + at + T::whole * operand_tile, s_ + 64 * w, there);
      }
      g_ += g_step_, s_ += s_step_;
    }
    if constexpr (T::tail) {
      V* const tail_place = to + 2 * operand_tile + piece_at<8>(tail_row(), tail_piece());
#pragma unroll
      for (int i = 0; i < 32 / at_once; ++i) {
        copy_piece(tail_place + i * 2 * at_once * 64, tail_,
                   tail_row() + i * 2 * at_once < rows && 8 + tail_piece() % 2 < pieces_);
        tail_ += tail_step_;
      }
    }
  }

 private:
  static constexpr int at_once = T::threads / 8;  // rows of 8 pieces
  __device__ static int tail_row() { return int(threadIdx.x) / 4; }
  __device__ static int tail_piece() { return int(threadIdx.x) % 4; }
  int row_, piece_, pieces_;
  const V *g_, *s_, *tail_ = nullptr;  // never read where nothing is there
  index_t g_step_, s_step_, tail_step_ = 0;
};

}  // namespace mlmamba::backend::kernels
