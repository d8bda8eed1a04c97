// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Sums by bins in shared memory: in which bin the running sum reaches a number.
#pragma once

#include "mlmamba/backend/cuda/launch.cuh"

namespace mlmamba::backend::kernels {

/// Sums of whole numbers of 64 bits, and how many there were. Sums do not depend on the order in
/// which threads add. All threads of the block call each of these, but for `add`.
struct sum_bins {
  static constexpr int size = 2048, digit = 11;  // 2 to this power

  std::uint32_t count[size], low[size], high[size];  // hardware has no addition of 64 bits here
  std::uint64_t sums[warp_size];
  int bin, in_bin;       // what `find` found, and how many are in there
  std::uint64_t before;  // the sum of the bins before it

  __device__ void clear() {
    __syncthreads();
    for (int b = int(threadIdx.x); b < size; b += int(blockDim.x)) count[b] = low[b] = high[b] = 0;
    __syncthreads();
  }
  __device__ void add(int b, std::uint64_t w) {
    const std::uint32_t part = std::uint32_t(w), was = atomicAdd(&low[b], part);
    const std::uint32_t rest = std::uint32_t(w >> 32) + (was + part < was ? 1u : 0u);
    if (rest != 0) atomicAdd(&high[b], rest);
    atomicAdd(&count[b], 1u);
  }

  /// The sum of all bins, and of those before this thread's own ones.
  struct totals {
    std::uint64_t all, before;
  };
  __device__ totals total() {
    __syncthreads();
    const int own = size / int(blockDim.x);
    std::uint64_t sum = 0;
    for (int i = 0; i < own; ++i) sum += of(int(threadIdx.x) * own + i);
    const std::uint64_t up_to = warp_sum_up_to(sum);
    if (lane_index() == warp_size - 1) sums[warp_index()] = up_to;
    __syncthreads();
    totals t{0, up_to - sum};
    for (int w = 0; w < int(blockDim.x) / warp_size; ++w) {
      if (w == warp_index()) t.before += t.all;
      t.all += sums[w];
    }
    return t;
  }
  /// Finds the bin with which the sum reaches `target`, which is 1 or more and at most all.
  __device__ void find(const totals& t, std::uint64_t target) {
    const int own = size / int(blockDim.x);
    std::uint64_t sum = t.before;
    for (int i = 0; i < own; ++i) {
      const int b = int(threadIdx.x) * own + i;
      const std::uint64_t w = of(b);
      if (sum < target && sum + w >= target) bin = b, in_bin = int(count[b]), before = sum;
      sum += w;
    }
    __syncthreads();
  }

  /// The sum of the lanes up to this one.
  static __device__ std::uint64_t warp_sum_up_to(std::uint64_t v) {
    for (int o = 1; o < warp_size; o *= 2) {
      const std::uint64_t other = __shfl_up_sync(all_lanes, v, unsigned(o));
      if (lane_index() >= o) v += other;
    }
    return v;
  }

 private:
  __device__ std::uint64_t of(int b) const { return std::uint64_t{high[b]} << 32 | low[b]; }
};

}  // namespace mlmamba::backend::kernels
