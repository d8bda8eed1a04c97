// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What the blocks of ssd_backward_warpgroups.cuh share, and the gradients by dt and A from it.
#pragma once

#include "mlmamba/backend/cuda/ssd_backward_walk.cuh"

namespace mlmamba::backend::kernels {

/// Arrays [2] and [3] belong to heads in turn.
template <class V>
struct ssd_gradient_memory {
  alignas(1024) V B[2 * operand_tile], C[2 * operand_tile];
  alignas(1024) V S[2][2 * operand_tile], G[2][2 * operand_tile];
  alignas(1024) V x[2][operand_tile], dy[2][operand_tile], dx[operand_tile];
  alignas(16) ssd_tokens tokens[3];
  alignas(16) float D[2][ssd_tile];
  // Of each token: sums over the pairs that read it or that it reads, and beyond the chunk.
  float row[2][ssd_tile], column[2][ssd_tile], before[2][ssd_tile];
  float after[2][ssd_tile], xu[2][ssd_tile];
  float dD[2][4][ssd_tile], through[2][ssd_backward_threads / warp_size];
};
template <class V>
inline constexpr int ssd_gradient_bytes = int(sizeof(ssd_gradient_memory<V>)) +
                                          1024;  // to align it

#if defined(MLMAMBA_WARPGROUPS)

/// The gradients by dt and A of one head from the sums: by one warp, a lane has tokens 2 lane and
/// 2 lane + 1. `raw_dt`: what dt and its bias were.
template <class E>
__device__ void ssd_step_gradients(const ssd_backward_tiles_plan<E>& plan,
                                   const ssd_gradient_memory<typename E::value>& s,
                                   const ssd_tokens& tokens, int at, const float (&raw_dt)[2],
                                   index_t b, index_t c, index_t h) {
  const auto& op = plan.op;
  const int lane = lane_index();
  const index_t t0 = c * ssd_tile, length = op.x.size[1];
  // The gradient by log decay[j]: paths that end at j or later less those that also begin there,
  // those from before the chunk, those to after it, those through it.
  float ends[2], leaves[2];
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    const int i = 2 * lane + e;
    ends[e] = s.row[at][i] + s.before[at][i] - s.column[at][i];
    leaves[e] = tokens.dt[i] * s.after[at][i];
  }
  float from_here = ends[0] + ends[1], until = leaves[0] + leaves[1];
#pragma unroll
  for (int o = 1; o < warp_size; o *= 2) {
    const float later = __shfl_down_sync(all_lanes, from_here, o);
    const float earlier = __shfl_up_sync(all_lanes, until, o);
    if (lane + o < warp_size) from_here += later;
    if (lane >= o) until += earlier;
  }
  float through = 0;
  for (const float v : s.through[at]) through += v;
  const float carried = tokens.carry[ssd_tile - 1];
  through = carried == 0.0f ? 0.0f : through * carried;
  const float slopes[2] = {from_here + (until - leaves[0] - leaves[1]) + through,
                           from_here - ends[0] + (until - leaves[1]) + through};
  const float rate = op.A(h);
  float dA = 0, bias = 0;
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    const int i = 2 * lane + e;
    if (t0 + i >= length) continue;
    const float soft = op.dt_softplus ? math::softplus(raw_dt[e]) : raw_dt[e];
    const bool clamped = soft < float(op.dt_min) || soft > float(op.dt_max);
    const float slope = clamped          ? 0.0f
                        : op.dt_softplus ? math::softplus_derivative(raw_dt[e])
                                         : 1.0f;
    const float log_slope = ssd_starts(op, b, t0 + i) ? 0.0f : slopes[e];
    const float ddt = (s.xu[at][i] + rate * log_slope) * slope;
    dA = multiply_add(tokens.dt[i], log_slope, dA);
    op.ddt(b, t0 + i, h) = typename E::value(ddt);
    bias += ddt;
  }
  dA = warp_sum(dA), bias = warp_sum(bias);
  if (lane == 0) plan.dA(b, c, h) = dA, plan.ddt_bias(b, c, h) = bias;
  if (!op.dD) return;
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    const int p = lane + e * warp_size;
    const auto& dD = s.dD[at];
    if (p < op.x.size[3]) plan.dD(b, c, h, p) = (dD[0][p] + dD[1][p]) + (dD[2][p] + dD[3][p]);
  }
}

/// The sum over the 8 rows of a fragment: lane (row, pair) gets numbers 2 row and 2 row + 1.
template <int K = 8>
__device__ void ssd_row_sums(float (&v)[16]) {
  const bool upper = lane_index() & (2 * K);
#pragma unroll
  for (int i = 0; i < K; ++i) {
    const float keep = upper ? v[i + K] : v[i], give = upper ? v[i] : v[i + K];
    v[i] = keep + __shfl_xor_sync(all_lanes, give, 2 * K);
  }
  if constexpr (K > 2) ssd_row_sums<K / 2>(v);
}

#endif

}  // namespace mlmamba::backend::kernels
