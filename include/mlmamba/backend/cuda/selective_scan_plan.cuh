// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What the kernels of the selective scan share: the plan of launches, the step, the join of states.
#pragma once

#include "mlmamba/backend/cuda/launch.cuh"
#include "mlmamba/ops/selective_scan.hpp"

namespace mlmamba::backend::kernels {

/// As ssd_plan (ssd_plan.cuh), with a decay for each element of the state.
template <class E>
struct selective_scan_plan {
  static constexpr const char* name = ops::selective_scan<E>::name;
  ops::selective_scan<E> op;
  index_t chunk, chunks;
  view<typename E::accum, 4, memory::device> ends, decay;  // (B, chunks, D, N)
  view<typename E::accum, 3, memory::device> partial;      // (B, L, D)
  index_t first_n = 0;
};

/// Lanes that share a channel. Mamba-1's state has 16 elements.
inline constexpr int scan_lanes = 16;

/// dt' from dt and its bias.
template <class Op, class A>
__device__ A scan_dt(const Op& op, A raw, index_t d) {
  const A dt = op.dt_bias ? raw + op.dt_bias(d) : raw;
  return op.dt_softplus ? math::softplus(dt) : dt;
}

/// Does another sequence begin with token t?
template <class E>
__device__ bool scan_begins(const in_index<E, 2>& seq_idx, index_t b, index_t t) {
  return seq_idx(b, t) != (t > 0 ? seq_idx(b, t - 1) : 0);
}
/// The same where there may be no seq_idx: all tokens are of one.
template <template <class> class Op, class E>
__device__ bool scan_starts(const Op<E>& op, index_t b, index_t t) {
  return op.seq_idx && scan_begins<E>(op.seq_idx, b, t);
}

template <class E>
__global__ void selective_scan_join_kernel(const selective_scan_plan<E> plan) {
  using A = typename E::accum;
  const ops::selective_scan<E>& op = plan.op;
  index_t b = thread_index();
  if (b >= op.x.size[0] * plan.ends.size[2] * plan.ends.size[3]) return;
  const index_t n = take_index(b, plan.ends.size[3]), d = take_index(b, plan.ends.size[2]);
  A state = op.initial_states ? A(op.initial_states(b, d, n)) : A(0);
  for (index_t c = 0; c < plan.chunks; ++c) {
    A& slot = plan.ends(b, c, d, n);
    if (c + 1 == plan.chunks && !op.final_states) {
      slot = state;
      return;
    }
    const A left = slot, decay = plan.decay(b, c, d, n);
    slot = state;
    state = decay == A(0) ? left : multiply_add(decay, state, left);
  }
  if (op.final_states) op.final_states(b, d, n) = typename E::state(state);
}

}  // namespace mlmamba::backend::kernels
