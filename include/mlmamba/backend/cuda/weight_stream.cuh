// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Rows of weights times few vectors, at the speed of memory: each warp has a queue of pieces of its
// rows on the way to shared memory, which is full before the launch before this one has ended.
#pragma once

#include "mlmamba/backend/cuda/gemm_few_rows.cuh"
#include "mlmamba/backend/cuda/mma.cuh"

namespace mlmamba::backend::kernels {

inline constexpr int stream_threads = 384, stream_warps = stream_threads / warp_size;
inline constexpr int stream_slots = 8;  ///< of a warp's queue
inline constexpr int stream_deep = 2;   ///< pieces of 16 bytes of a lane in a slot
/// Shared memory of a block's queues: a multiprocessor has room for those of two launches, each
/// with a row of a wide model.
inline constexpr int stream_bytes = stream_threads * stream_slots * stream_deep * 16;

/// Asks for `count` weights that all blocks read, by all threads of a block.
__device__ inline void prefetch_all(const float* from, int count) {
  for (int i = 32 * int(threadIdx.x); i < count; i += 32 * stream_threads)
    asm volatile("prefetch.global.L2 [%0];\n" ::"l"(from + i));
}

/// Rows of w times M vectors in shared memory, a warp per row: each lane sums every 32nd piece of
/// 16 bytes, then the lanes are added, so that the bits are the same for each M. The queues lie
/// behind the vectors. A lane answers for one of each 32 rows n of its warp:
///   known(n)         may read what no other launch writes; n is -1 where there is no row
///   prepare()        fills the vectors; called once, by all threads
///   ready(n)         may read what finish needs
///   finish(n, sums)  of the M vectors
template <int M, class T, class Known, class Prepare, class Ready, class Finish>
__device__ void rows_times_shared(const view<const T, 2, memory::device>& w, T* shared,
                                  Known&& known, Prepare&& prepare, Ready&& ready,
                                  Finish&& finish) {
  constexpr int per = sixteen_bytes<T>::count, deep = stream_deep, slots = stream_slots;
  const int pieces = int(w.size[1]) / per, lane = lane_index();
  const int rows = int(w.size[0]), warps = int(gridDim.x) * stream_warps;
  const int first = int(blockIdx.x) * stream_warps + warp_index();
  uint4* const queue = reinterpret_cast<uint4*>(shared + index_t(M) * w.size[1]) +
                       warp_index() * slots * deep * warp_size + lane;
  int next = first, next_at = lane;
  const uint4* from = reinterpret_cast<const uint4*>(w.data + first * w.stride[0]);
  const index_t step = index_t(warps) * w.stride[0] / per;
  const auto fetch = [&](int slot) {  // a lane reads what it has copied itself
    if (next < rows) {
#pragma unroll
      for (int i = 0; i < deep; ++i) {
        const int at = next_at + i * warp_size;
        if (at < pieces) copy_piece(queue + (slot * deep + i) * warp_size, from + at, true);
      }
      next_at += deep * warp_size;
      if (next_at - lane >= pieces) next += warps, next_at = lane, from += step;
    }
    commit_copies();
  };
#pragma unroll
  for (int i = 0; i < slots; ++i) fetch(i);
  const auto* x = reinterpret_cast<const uint4*>(shared);
  int slot = 0;
  for (int start = first; start == first || start < rows; start += warp_size * warps) {
    const int mine = start + lane * warps;
    known(mine < rows ? mine : -1);
    if (start == first) {
      prepare();
      __syncthreads();
    }
    if (mine < rows) ready(mine);
    float sums[M] = {};
    for (int i = 0; i < warp_size && start + i * warps < rows; ++i) {
      float sum[M] = {};
      for (int at0 = 0; at0 < pieces; at0 += deep * warp_size) {
        wait_copies<slots - 1>();
#pragma unroll
        for (int k = 0; k < deep; ++k) {
          const int at = at0 + lane + k * warp_size;
          if (at >= pieces) break;
          const sixteen_bytes<T> a(queue[(slot * deep + k) * warp_size]);
#pragma unroll
          for (int m = 0; m < M; ++m) {
            const sixteen_bytes<T> b(x[m * pieces + at]);
#pragma unroll
            for (int e = 0; e < per; ++e) sum[m] = fmaf(a.v[e], b.v[e], sum[m]);
          }
        }
        fetch(slot);
        slot = slot + 1 == slots ? 0 : slot + 1;
      }
#pragma unroll
      for (int m = 0; m < M; ++m) {
        const float v = warp_sum(sum[m]);
        if (lane == i) sums[m] = v;
      }
    }
    if (mine < rows) finish(mine, sums);
  }
}

}  // namespace mlmamba::backend::kernels
