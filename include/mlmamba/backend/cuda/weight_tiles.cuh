// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Rows of weights times up to 16 vectors, at the speed of memory (Hopper): tiles of 8 whole rows on
// their way to shared memory by bulk copies, which begin before the launch before this one has
// ended; tensor cores.
#pragma once

#include <algorithm>

#include "mlmamba/backend/cuda/bulk_copy.cuh"

namespace mlmamba::backend::kernels {

inline constexpr int weight_tile_vectors = 16;  ///< at most
inline constexpr int weight_tile_rows = 8;
inline constexpr int weight_tile_threads = 512, weight_tile_warps = weight_tile_threads / warp_size;
inline constexpr int weight_tile_depth = 32;  ///< terms of a warp's turn

/// How the tiles of a matrix of this depth lie in the shared memory of a block.
struct weight_tile_plan {
  static constexpr int most_stages = 8;
  static constexpr int part = weight_tile_vectors * weight_tile_rows;  // sums of a tile
  static constexpr int part_step = part + 2;                           // hits different banks
  static constexpr int sums_bytes = 2 * weight_tile_warps * part_step * int(sizeof(float));
  // So many bytes on their way keep memory busy; with more, what else is read arrives later (120
  // and 160 KB: a step of a 2.7b model took 2 and 3 % longer).
  static constexpr int enough_bytes = 80 << 10;

  int row_bytes;      // of a row, so that 8 rows hit different banks
  int stages, early;  // early: before the launch before has ended; one more is behind the vectors

  explicit weight_tile_plan(index_t depth) {
    const int bytes = int(depth) * 2;
    row_bytes = bytes % 128 == 0 ? bytes + 64 : bytes;
    early = std::min((enough_bytes + tile_bytes() - 1) / tile_bytes(), most_stages);
    stages = std::max(early, 2);
  }
  int tile_bytes() const { return weight_tile_rows * row_bytes; }
  int bytes() const { return sums_bytes + stages * tile_bytes(); }
};

/// The depth that a lane holds of the vectors: `Turns` turns of its warp.
template <class Turns>
inline constexpr index_t weight_tile_most_depth =
    Turns::value* weight_tile_warps* weight_tile_depth;
using few_weight_turns = constant<5>;
using many_weight_turns = constant<10>;

/// Can it be done so: a depth of whole turns, no longer than a lane can hold?
template <class T>
bool in_weight_tiles(const view<const T, 2, memory::device>& v) {
  return v.size[1] % weight_tile_depth == 0 && in_pieces(v) && v.size[1] > 0 &&
         v.size[1] <= weight_tile_most_depth<many_weight_turns>;
}

/// The terms of the vectors that a lane holds: of turn i, 8 that lie together, of the vectors m(0)
/// and m(1). Terms of a turn are taken in an order in which it has the same 8 of the weights.
struct weight_tile_lane {
  static __device__ int step(int i) { return warp_index() + i * weight_tile_warps; }
  static __device__ int at(int i) { return step(i) * weight_tile_depth + lane_index() % 4 * 8; }
  static __device__ int m(int k) { return lane_index() / 4 + 8 * k; }
};
template <class Turns>
using held_vectors = uint4[Turns::value][2];

/// w x for up to 16 vectors x; w must have been written long before. A row is summed in turns of 32
/// terms by 16 warps, then over these in ascending order, so that a vector has the same bits beside
/// any others.
///   early(n, end)      may ask for what is needed for rows n up to end; the launch before this one
///                      may still be at work
///   fill(held)         gives the vectors, zeros where there are none, by all threads
///   factor(m)          what the products of a vector are multiplied by; after all have filled
///   ready(m, n)        what finish needs, for each vector m and row n of a tile, by one thread;
///                      either may be past the end
///   finish(m, n, sum, ready)  the same, of rows that are there
template <class Turns, class T, class Early, class Fill, class Factor, class Ready, class Finish>
__device__ void rows_times_vectors(const weight_tile_plan& plan,
                                   const view<const T, 2, memory::device>& w, unsigned char* shared,
                                   Early&& early, Fill&& fill, Factor&& factor, Ready&& ready,
                                   Finish&& finish) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  constexpr int turns = Turns::value, warps = weight_tile_warps, tile_rows = weight_tile_rows;
  constexpr int part = weight_tile_plan::part, part_step = weight_tile_plan::part_step;
  __shared__ copy_barrier arrived[weight_tile_plan::most_stages];
  float* const sums = reinterpret_cast<float*>(shared);
  unsigned char* const weights = shared + weight_tile_plan::sums_bytes;
  const int stages = plan.stages, stage_bytes = tile_rows * plan.row_bytes;
  const int rows = int(w.size[0]), steps = int(w.size[1]) / weight_tile_depth;
  const index_t tiles = (rows + tile_rows - 1) / tile_rows;
  const int begin = int(tiles * blockIdx.x / gridDim.x);
  const int end = int(tiles * (blockIdx.x + 1) / gridDim.x);
  const auto fetch = [&](int tile, int stage) {  // by one thread
    if (tile >= end) return;
    const unsigned bytes = unsigned(w.size[1]) * unsigned(sizeof(T));
    const int there = min(tile_rows, rows - tile * tile_rows);
    expect_copies(arrived[stage], bytes * unsigned(there));
    for (int r = 0; r < there; ++r)
      copy_bulk(weights + stage * stage_bytes + r * plan.row_bytes,
                w.data + (index_t(tile) * tile_rows + r) * w.stride[0], bytes, arrived[stage]);
  };
  early(begin * tile_rows, min(end * tile_rows, rows));
  if (threadIdx.x == 0) {
    for (int i = 0; i < stages; ++i) open_barrier(arrived[i]);
    barriers_are_open();
    for (int i = 0; i < stages; ++i) {
      if (i == plan.early) wait_for_launch_before();
      fetch(begin + i, i);
    }
  }
  wait_for_launch_before();
  held_vectors<Turns> held;
  fill(held);
  __syncthreads();  // barriers are open

  // Four neighbours add the parts of one sum; the first finishes it.
  constexpr int adders = weight_tile_threads / part;
  const int mine = int(threadIdx.x) / adders, m = mine / tile_rows, lane = lane_index();
  const bool first = int(threadIdx.x) % adders == 0;
  const float by = factor(m);
  int stage = 0;
  unsigned odd = 0;
  float* to = sums;
  for (int tile = begin; tile < end; ++tile) {
    const int n = tile * tile_rows + mine % tile_rows;
    decltype(ready(m, n)) own{};
    if (first) own = ready(m, n);
    wait_for_copies(arrived[stage], odd);
    const unsigned char* from =
        weights + stage * stage_bytes + lane / 4 * plan.row_bytes + lane % 4 * 16;
    float sum[4] = {};
#pragma unroll
    for (int i = 0; i < turns; ++i) {
      const int step = weight_tile_lane::step(i);
      if (step >= steps) break;
      const uint4 b = *reinterpret_cast<const uint4*>(from + step * weight_tile_depth * 2);
      const uint4 &upper = held[i][0], &lower = held[i][1];
      const unsigned a0[4] = {upper.x, lower.x, upper.y, lower.y};
      const unsigned a1[4] = {upper.z, lower.z, upper.w, lower.w};
      multiply_tile<T>(sum, a0, b.x, b.y);
      multiply_tile<T>(sum, a1, b.z, b.w);
    }
    float* const at = to + warp_index() * part_step + lane / 4 * tile_rows + lane % 4 * 2;
    *reinterpret_cast<float2*>(at) = make_float2(sum[0], sum[1]);
    *reinterpret_cast<float2*>(at + 8 * tile_rows) = make_float2(sum[2], sum[3]);
    __syncthreads();  // the tile is read, its parts are written
    if (threadIdx.x == 0) fetch(tile + stages, stage);
    float all = 0;
#pragma unroll
    for (int k = 0; k < warps / adders; ++k)
      all += to[(int(threadIdx.x) % adders * (warps / adders) + k) * part_step + mine];
    all = warp_sum<adders>(all);
    if (first && n < rows) finish(m, n, all * by, own);
    to = to == sums ? sums + warps * part_step : sums;
    if (++stage == stages) stage = 0, odd ^= 1;
  }
#endif
}

}  // namespace mlmamba::backend::kernels
