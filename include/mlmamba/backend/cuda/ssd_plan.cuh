// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What the kernels of SSD share: the plan of launches, the step of a token, the join of states.
#pragma once

#include "mlmamba/backend/cuda/pieces.cuh"
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
  // By heads (ssd_heads.cuh). (B, chunks, blocks of a chunk): whose end is there
  int* flags = nullptr;
  view<const typename E::accum, 1, memory::device> gate_weight{};  // (H P): see ops::mamba2_scan
  view<typename E::accum, 3, memory::device> squares{};            // (B, L, H)
  index_t flag_count = 0;
};

/// dt' from dt and its bias, of a sequence or of a step.
template <class Op, class A>
__device__ A ssd_limited_dt(const Op& op, A dt) {
  if (op.dt_softplus) dt = math::softplus(dt);
  if (dt < A(op.dt_min)) dt = A(op.dt_min);
  return dt > A(op.dt_max) ? A(op.dt_max) : dt;
}

template <class E>
__device__ typename E::accum ssd_dt(const ops::ssd_inputs<E>& op, index_t b, index_t t, index_t h) {
  using A = typename E::accum;
  A dt = A(op.dt(b, t, h));
  if (op.dt_bias) dt += op.dt_bias(h);
  return ssd_limited_dt(op, dt);
}

template <class E>
__device__ bool ssd_starts(const ops::ssd_inputs<E>& op, index_t b, index_t t) {
  return op.seq_idx && op.seq_idx(b, t) != (t > 0 ? op.seq_idx(b, t - 1) : 0);
}

/// Launch 2: a thread has `Count` elements of the state that lie together. Several chunks are read
/// before the first is written: the compiler can't know that they differ.
template <class Count, class E>
__global__ void ssd_join_kernel(const ssd_plan<E> plan) {
  using A = typename E::accum;
  constexpr int count = Count::value, ahead = 8;
  const ops::ssd<E>& op = plan.op;
  const index_t heads = plan.ends.size[2], width = plan.ends.size[3], states = plan.ends.size[4];
  index_t b = thread_index();
  if (b >= op.x.size[0] * heads * width * (states / count)) return;
  const index_t n = take_index(b, states / count) * count, p = take_index(b, width),
                h = take_index(b, heads);
  A state[count] = {};
#pragma unroll
  for (int i = 0; i < count; ++i)
    if (op.initial_states) state[i] = A(op.initial_states(b, h, p, n + i));
  // What the last chunk leaves is not even computed if nobody wants it.
  const index_t left_there = op.final_states ? plan.chunks : plan.chunks - 1;
  for (index_t c0 = 0; c0 < plan.chunks; c0 += ahead) {
    A left[ahead][count], decay[ahead];
#pragma unroll
    for (int k = 0; k < ahead; ++k) {
      if (c0 + k >= left_there) break;
      read_piece(left[k], &plan.ends(b, c0 + k, h, p, n));
      decay[k] = plan.decay(b, c0 + k, h);
    }
#pragma unroll
    for (int k = 0; k < ahead; ++k) {
      if (c0 + k >= plan.chunks) break;
      write_piece(&plan.ends(b, c0 + k, h, p, n), state);
      if (c0 + k >= left_there) break;
#pragma unroll
      for (int i = 0; i < count; ++i)
        state[i] = decay[k] == A(0) ? left[k][i] : multiply_add(decay[k], state[i], left[k][i]);
    }
  }
#pragma unroll
  for (int i = 0; i < count; ++i)
    if (op.final_states) op.final_states(b, h, p, n + i) = typename E::state(state[i]);
}

template <class E>
void launch_ssd_join(context<cuda>& ctx, const ssd_plan<E>& plan) {
  constexpr int most = 4;
  const index_t states = plan.ends.size[4],
                n = plan.op.x.size[0] * plan.ends.size[2] * plan.ends.size[3] * states;
  if (states % most == 0) {
    launch_elements(ctx, ssd_join_kernel<constant<most>, E>, n / most, plan);
  } else {
    launch_elements(ctx, ssd_join_kernel<constant<1>, E>, n, plan);
  }
}

}  // namespace mlmamba::backend::kernels
