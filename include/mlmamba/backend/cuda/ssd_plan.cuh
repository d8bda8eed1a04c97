// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What the kernels of SSD share: the plan of launches, the step of a token, the join of states.
#pragma once

#include "mlmamba/backend/cuda/launch.cuh"
#include "mlmamba/ops/ssd.hpp"

namespace mlmamba::backend::kernels {

/// The recurrence in three launches, with Q tokens in a chunk:
///   1. each chunk from a zero state: what it leaves (ends) and by how much it decays a state
///   2. over chunks, in order: the state that enters each
///   3. each chunk from the state that enters it: y
/// With one chunk the third launch does everything.
template <class E>
struct ssd_plan {
  static constexpr const char* name = ops::ssd<E>::name;
  ops::ssd<E> op;
  index_t chunk, chunks;
  view<typename E::accum, 5, memory::device> ends;  // (B, chunks, H, P, N); after 2: the beginnings
  view<typename E::accum, 3, memory::device> decay;    // (B, chunks, H)
  view<typename E::accum, 4, memory::device> partial;  // (B, L, H, P), if N needs several launches
  index_t first_n = 0;                                 // the elements of the state of this launch
  float *scores = nullptr, *tokens = nullptr;          // C B^T, decays (ssd_tokens.cuh)
};

template <class E>
__device__ typename E::accum ssd_dt(const ops::ssd_inputs<E>& op, index_t b, index_t t, index_t h) {
  using A = typename E::accum;
  A dt = A(op.dt(b, t, h));
  if (op.dt_bias) dt += op.dt_bias(h);
  if (op.dt_softplus) dt = math::softplus(dt);
  if (dt < A(op.dt_min)) dt = A(op.dt_min);
  return dt > A(op.dt_max) ? A(op.dt_max) : dt;
}

template <class E>
__device__ bool ssd_starts(const ops::ssd_inputs<E>& op, index_t b, index_t t) {
  return op.seq_idx && op.seq_idx(b, t) != (t > 0 ? op.seq_idx(b, t - 1) : 0);
}

/// Launch 2: one thread per element of the state.
template <class E>
__global__ void ssd_join_kernel(const ssd_plan<E> plan) {
  using A = typename E::accum;
  const ops::ssd<E>& op = plan.op;
  index_t b = thread_index();
  if (b >= op.x.size[0] * plan.ends.size[2] * plan.ends.size[3] * plan.ends.size[4]) return;
  const index_t n = take_index(b, plan.ends.size[4]), p = take_index(b, plan.ends.size[3]),
                h = take_index(b, plan.ends.size[2]);
  A state = op.initial_states ? op.initial_states(b, h, p, n) : A(0);
  constexpr int ahead = 8;  // read together: one after the other they would wait for each other
  A* slot = &plan.ends(b, 0, h, p, n);
  const index_t step = plan.ends.stride[1];
  for (index_t c0 = 0; c0 < plan.chunks; c0 += ahead, slot += ahead * step) {
    const int here = int(plan.chunks - c0 < ahead ? plan.chunks - c0 : index_t(ahead));
    A left[ahead], decay[ahead];
#pragma unroll
    for (int c = 0; c < ahead; ++c) {
      if (c >= here) break;
      left[c] = slot[c * step];
      decay[c] = plan.decay(b, c0 + c, h);
    }
#pragma unroll
    for (int c = 0; c < ahead; ++c) {
      if (c >= here) break;
      slot[c * step] = state;
      if (c0 + c + 1 == plan.chunks && !op.final_states) return;
      state = decay[c] == A(0) ? left[c] : multiply_add(decay[c], state, left[c]);
    }
  }
  if (op.final_states) op.final_states(b, h, p, n) = state;
}

}  // namespace mlmamba::backend::kernels
