// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The gradients by dt and A of a chunk's tokens, from sums over the paths that cross them.
#pragma once

#include "mlmamba/backend/cuda/ssd_backward_walk.cuh"

namespace mlmamba::backend::kernels {

/// What a lane knows of its tokens 2 lane and 2 lane + 1, for one head. A path leads from a token,
/// or from the state before the chunk, to a token or to the state after it (ssd_chunk_kernel).
struct ssd_path_sums {
  float ends[2];    ///< paths that end at the token, less those in the chunk that begin there
  float leaves[2];  ///< paths from the token to the state after the chunk
};

/// By one warp. through: parts of the sum S.G of the states before and after the chunk. Of token
/// 2 lane + e, xu(e): x by the gradient by dt x; raw_dt(e): dt with its bias.
template <class E, class Xu, class RawDt>
__device__ __forceinline__ void ssd_step_gradients(
    const ssd_backward_tiles_plan<E>& plan, const ssd_tokens& tokens, const ssd_path_sums& sums,
    const float (&through)[ssd_backward_threads / warp_size], const Xu& xu, const RawDt& raw_dt,
    index_t b, index_t c, index_t h) {
  const auto& op = plan.op;
  const int lane = lane_index();
  const index_t t0 = c * ssd_tile, length = op.x.size[1];
  const float(&ends)[2] = sums.ends, (&leaves)[2] = sums.leaves;
  // The gradient by log decay[j]: paths that end at j or later less those that also begin there,
  // those from before the chunk, those to after it, those through it.
  float from_here = ends[0] + ends[1], until = leaves[0] + leaves[1];
#pragma unroll
  for (int o = 1; o < warp_size; o *= 2) {
    const float later = __shfl_down_sync(all_lanes, from_here, o);
    const float earlier = __shfl_up_sync(all_lanes, until, o);
    if (lane + o < warp_size) from_here += later;
    if (lane >= o) until += earlier;
  }
  float whole = 0;
  for (const float v : through) whole += v;
  const float carried = tokens.carry[ssd_tile - 1];
  whole = carried == 0.0f ? 0.0f : whole * carried;
  const float slopes[2] = {from_here + (until - leaves[0] - leaves[1]) + whole,
                           from_here - ends[0] + (until - leaves[1]) + whole};
  const float rate = op.A(h);
  float dA = 0, bias = 0;
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    const int i = 2 * lane + e;
    if (t0 + i >= length) continue;
    const float& raw = raw_dt(e);
    const float soft = op.dt_softplus ? math::softplus(raw) : raw;
    const bool clamped = soft < float(op.dt_min) || soft > float(op.dt_max);
    const float slope = clamped ? 0.0f : op.dt_softplus ? math::softplus_derivative(raw) : 1.0f;
    const float log_slope = ssd_starts(op, b, t0 + i) ? 0.0f : slopes[e];
    const float ddt = (xu(e) + rate * log_slope) * slope;
    dA = multiply_add(tokens.dt[i], log_slope, dA);
    op.ddt(b, t0 + i, h) = typename E::value(ddt);
    bias += ddt;
  }
  dA = warp_sum(dA), bias = warp_sum(bias);
  if (lane == 0) plan.dA(b, c, h) = dA, plan.ddt_bias(b, c, h) = bias;
}

}  // namespace mlmamba::backend::kernels
