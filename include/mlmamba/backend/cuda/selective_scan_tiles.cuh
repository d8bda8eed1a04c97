// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Tiles of tokens and channels in shared memory, as the kernels of selective_scan_channels.cuh and
// of its backward read, prepare and write them.
#pragma once

#include "mlmamba/backend/cuda/mma.cuh"
#include "mlmamba/backend/cuda/pieces.cuh"
#include "mlmamba/backend/cuda/selective_scan_plan.cuh"

namespace mlmamba::backend::kernels {

inline constexpr int scan_state_size = 16;  ///< elements of the state of a channel
inline constexpr int scan_quarter = 4;      ///< of them in a lane, and lanes of a channel
inline constexpr int scan_block = 64;       ///< channels of a block
inline constexpr int scan_threads = scan_block * scan_quarter;
inline constexpr int scan_tile = 16;  ///< tokens that are in shared memory
inline constexpr int scan_kept = 8;   ///< tokens from one kept state to the next (backward)

/// 2^x for exponents that are never positive, in the precision that results of type V keep.
template <class V>
__device__ float decay_of_2(float x) {
  if constexpr (is_16_bit<V>) {
    return power_of_2(x);
  } else {
    return exp2f(x);
  }
}
/// softplus and its derivative, in the precision that results of type V keep.
template <class V>
__device__ float fast_softplus(float x) {
  if constexpr (is_16_bit<V>) {
    const float e = power_of_2(1.44269504f * x);
    // For small e the series of log(1 + e), since the logarithm's error is absolute.
    const float y =
        e < 0.03f ? e * (1.0f - e * (0.5f - e * (1.0f / 3))) : 0.69314718f * __log2f(1.0f + e);
    return x > 20.0f ? x : y;
  } else {
    return math::softplus(x);
  }
}
template <class V>
__device__ float fast_softplus_slope(float x) {
  if constexpr (is_16_bit<V>) {
    return x > 20.0f ? 1.0f : quick_sigmoid(x);
  } else {
    return math::softplus_derivative(x);
  }
}

template <class V>
using scan_rows = V[scan_tile][scan_block];

/// The tile of x, dt, z or dy at token t0 into shared memory, in the background; zeros where there
/// is nothing. `index`: which of the arrays, so that all threads have something to do.
template <class V>
__device__ void scan_copy(scan_rows<V>& to, const view<const V, 3, memory::device>& from, index_t b,
                          index_t t0, int count, index_t d0, int index) {
  constexpr int piece = 16 / int(sizeof(V)), in_row = scan_block / piece;
  constexpr int pieces = scan_tile * in_row;
  static_assert(pieces <= scan_threads && scan_threads % pieces == 0);
  const int e = int(threadIdx.x) - index * pieces % scan_threads;
  if (e < 0 || e >= pieces) return;
  const int t = e / in_row, c = e % in_row * piece;
  const bool there = t < count && d0 + c < from.size[2];
  copy_piece(&to[t][c], there ? &from(b, t0 + t, d0 + c) : from.data, there);
}
/// A tile of results back.
template <class V>
__device__ void scan_write(const view<V, 3, memory::device>& to, const scan_rows<V>& from,
                           index_t b, index_t t0, int count, index_t d0, int index) {
  constexpr int piece = 16 / int(sizeof(V)), in_row = scan_block / piece;
  constexpr int pieces = scan_tile * in_row;
  const int e = int(threadIdx.x) - index * pieces % scan_threads;
  if (e < 0 || e >= pieces) return;
  const int t = e / in_row, c = e % in_row * piece;
  if (t < count && d0 + c < to.size[2])
    *reinterpret_cast<uint4*>(&to(b, t0 + t, d0 + c)) =
        *reinterpret_cast<const uint4*>(&from[t][c]);
}

/// Sums over the four lanes of a channel: lane q gets that of v[q].
__device__ inline float scan_sums(float (&v)[4]) {
  const int lane = lane_index();
  const bool second = lane & 2, first = lane & 1;
  float a[2];
#pragma unroll
  for (int i = 0; i < 2; ++i)
    a[i] = (second ? v[i + 2] : v[i]) + __shfl_xor_sync(all_lanes, second ? v[i] : v[i + 2], 2);
  return (first ? a[1] : a[0]) + __shfl_xor_sync(all_lanes, first ? a[0] : a[1], 1);
}

/// Prepares four channels of token t: dt' (no step at all unless `there`), dt' x, dv.
template <bool Adjoints, class V, template <class> class Memory>
__device__ void scan_prepare(Memory<V>& s, int at, int t, int channel, const float (&bias)[4],
                             bool there, bool softplus, bool gated) {
  float x[4], dt[4], steps[8];
  read_piece(x, &s.x[at][t][channel]);
  read_piece(dt, &s.dt[at][t][channel]);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    dt[i] += bias[i];
    if (softplus) dt[i] = fast_softplus<V>(dt[i]);
    steps[2 * i] = there ? dt[i] : 0.0f;
    steps[2 * i + 1] = steps[2 * i] * x[i];
  }
  write_piece(&s.steps[t][channel].x, steps);
  if constexpr (Adjoints) {
    float dv[4], z[4];
    read_piece(dv, &s.dy[at][t][channel]);
    if (gated) {
      read_piece(z, &s.z[at][t][channel]);
#pragma unroll
      for (int i = 0; i < 4; ++i) dv[i] *= silu_as<V>(z[i]);
    }
    write_piece(&s.dv[t][channel], dv);
  }
}

}  // namespace mlmamba::backend::kernels
