// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Sums by bins in shared memory: in which bin the running sum reaches a number.
#pragma once

#include "mlmamba/backend/cuda/team.cuh"

namespace mlmamba::backend::kernels {

/// Sums of whole numbers of 64 bits, and how many there were, of the blocks of a team. They do not
/// depend on the order in which threads add. All threads call each of these, but for `add`.
struct sum_bins {
  static constexpr int size = 2048, digit = 11;  // 2 to this power

  struct place {
    std::uint64_t all;     // the sum of all bins
    std::uint64_t target;  // what was looked for
    std::uint64_t before;  // the sum of the bins before this one
    int bin, in_bin;       // with which it reaches the target, and how many are in there
    bool found;            // else the target is all or more
  };

  std::uint32_t count[size], low[size], high[size];  // hardware has no addition of 64 bits here
  std::uint64_t sums[warp_size];
  place result;

  __device__ void clear() {
    __syncthreads();
    for (int b = int(threadIdx.x); b < size; b += int(blockDim.x)) count[b] = low[b] = high[b] = 0;
    __syncthreads();
  }
  __device__ void add(int b, std::uint64_t w, std::uint32_t n = 1) {
    const std::uint32_t part = std::uint32_t(w), was = atomicAdd(&low[b], part);
    const std::uint32_t rest = std::uint32_t(w >> 32) + (was + part < was ? 1u : 0u);
    if (rest != 0) atomicAdd(&high[b], rest);
    atomicAdd(&count[b], n);
  }

  /// Where the sum of all blocks reaches target(sum of all bins), which is 1 or more. A target of
  /// all or more is looked for only if `even_all`.
  template <class Target>
  __device__ place find(Target&& target, bool even_all) {
    sum_bins* const first = block_team::of_first(this);
    block_team::sync();
    if (block_team::rank() != 0)
      for (int b = int(threadIdx.x); b < size; b += int(blockDim.x))
        if (count[b] != 0) first->add(b, of(b), count[b]);
    block_team::sync();
    if (block_team::rank() == 0) find_here(target, even_all);
    block_team::sync();
    return first->result;
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

  template <class Target>
  __device__ void find_here(Target&& target, bool even_all) {
    const int own = size / int(blockDim.x), from = int(threadIdx.x) * own;
    std::uint64_t sum = 0;
    for (int b = from; b < from + own; ++b) sum += of(b);
    const std::uint64_t up_to = warp_sum_up_to(sum);
    if (lane_index() == warp_size - 1) sums[warp_index()] = up_to;
    __syncthreads();
    std::uint64_t all = 0, before = up_to - sum;
    for (int w = 0; w < int(blockDim.x) / warp_size; ++w) {
      if (w == warp_index()) before += all;
      all += sums[w];
    }
    const std::uint64_t wanted = target(all);
    const bool found = wanted < all || even_all;
    if (threadIdx.x == 0) result.all = all, result.target = wanted, result.found = found;
    if (!found) return;
    for (int b = from; b < from + own; ++b) {
      const std::uint64_t w = of(b);
      if (before < wanted && before + w >= wanted)
        result.bin = b, result.in_bin = int(count[b]), result.before = before;
      before += w;
    }
  }
};

}  // namespace mlmamba::backend::kernels
