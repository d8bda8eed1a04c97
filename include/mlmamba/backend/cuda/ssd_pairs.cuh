// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Launches of the SSD forward by pairs of heads (ssd_warpgroups.cuh).
#pragma once

#include <algorithm>

#include "mlmamba/backend/cuda/ssd_warpgroups.cuh"

namespace mlmamba::backend::kernels {

/// Does ssd_pair_kernel do this op, which has tiles?
template <class E>
bool ssd_in_pairs(const ops::ssd<E>& op) {
  return op.state_size() > 64 && has_warpgroups();
}

/// Ends that a block for y joins itself; more are joined by a launch of its own.
inline constexpr index_t ssd_most_joined = 8;

/// Turns the ends of pieces into the states that enter chunks. A thread has four elements, in the
/// order in which the fragments of threads are stored; several ends are read before one is written.
template <class E>
__global__ void __launch_bounds__(block_threads) ssd_pair_join_kernel(const ssd_plan<E> plan) {
  constexpr int ahead = 8;
  const index_t tile = plan.ends.size[3] * plan.ends.size[4] / 4, heads = plan.ends.size[2];
  const index_t last = (plan.chunks - 1) * plan.pieces;  // before the join: the initial state
  index_t b = thread_index();
  const bool there = b < plan.ends.size[0] * heads * tile;
  const index_t i = take_index(b, tile), h = take_index(b, heads);
  wait_for_launch_before();
  if (!there) return;
  float4* const at = reinterpret_cast<float4*>(&plan.ends(b, 0, h, 0, 0)) + i;
  const index_t step = plan.ends.stride[1] / 4;
  float4 state = plan.op.initial_states ? at[last * step] : float4{};
  for (index_t e0 = 0; e0 < last; e0 += ahead) {
    float4 left[ahead];
    float decay[ahead];
#pragma unroll
    for (int k = 0; k < ahead; ++k) {
      if (e0 + k >= last) break;
      left[k] = at[(e0 + k) * step];
      decay[k] = plan.decay(b, e0 + k, h);
    }
#pragma unroll
    for (int k = 0; k < ahead; ++k) {
      if (e0 + k >= last) break;
      if ((e0 + k) % plan.pieces == 0) at[(e0 + k) * step] = state;
      const bool first = e0 + k == 0;  // it has begun from the initial state
      state.x = first || decay[k] == 0 ? left[k].x : multiply_add(decay[k], state.x, left[k].x);
      state.y = first || decay[k] == 0 ? left[k].y : multiply_add(decay[k], state.y, left[k].y);
      state.z = first || decay[k] == 0 ? left[k].z : multiply_add(decay[k], state.z, left[k].z);
      state.w = first || decay[k] == 0 ? left[k].w : multiply_add(decay[k], state.w, left[k].w);
    }
  }
  at[last * step] = state;
}

/// Tokens of a chunk for which one launch does all: ends of longer ones are better computed in
/// pieces, side by side.
inline constexpr index_t ssd_longest_at_once = 16 * ssd_tile;

/// Blocks for y of one chunk.
template <class E>
index_t ssd_pair_blocks(const ops::ssd<E>& op) {
  const auto& n = op.x.size;
  return op.groups() * ((n[2] / op.groups() + ssd_pair - 1) / ssd_pair) *
         ((n[3] + ssd_tile - 1) / ssd_tile);
}

/// How a sequence is cut: into chunks that keep the multiprocessors busy, no more (each cut costs a
/// pass for the states), and these perhaps into pieces whose ends are computed side by side. A
/// function of sizes and of the GPU: runs repeat bit for bit, but rows of another batch size may be
/// cut elsewhere (unless they are to be independent). Scratch is of the caller's frame.
template <class E>
ssd_plan<E> plan_ssd_pairs(context<cuda>& ctx, const ops::ssd<E>& op) {
  const auto& n = op.x.size;
  ssd_plan<E> plan{op};
  const index_t tiles = (n[1] + ssd_tile - 1) / ssd_tile, of_chunk = ssd_pair_blocks(op);
  const index_t blocks = std::max<index_t>((ctx.independent_rows ? 1 : n[0]) * of_chunk, 1);
  const index_t room = std::max<index_t>(ctx.multiprocessors / blocks, 1);
  const index_t asked = std::clamp<index_t>(tiles / 2, 1, room);
  const index_t per = (tiles + asked - 1) / asked;
  plan.chunk = plan.piece = per * ssd_tile, plan.chunks = (tiles + per - 1) / per;
  plan.joins = true;
  if (plan.chunks > 1 && plan.chunk > ssd_longest_at_once) {
    const index_t ends = std::clamp<index_t>(
        2 * index_t(ctx.multiprocessors) / (blocks * (plan.chunks - 1)), 1, per);
    const index_t piece = (per + ends - 1) / ends;
    plan.piece = piece * ssd_tile, plan.pieces = (per + piece - 1) / piece;
    plan.joins = (plan.chunks - 1) * plan.pieces <= ssd_most_joined;
  }
  const auto floats = [&](index_t count) {
    return ctx.scratch.template make<float>(shape<1>{{count}}).data;
  };
  plan.tokens = floats(n[0] * tiles * n[2] * ssd_tokens_size(op));
  if (plan.chunks == 1) return plan;
  const index_t ends = (plan.chunks - 1) * plan.pieces;  // and one for the initial state
  plan.ends = ctx.scratch.template make<float>(
      shape<5>{{n[0], ends + 1, n[2], (n[3] + ssd_tile - 1) / ssd_tile * ssd_tile, 2 * ssd_tile}});
  plan.decay = ctx.scratch.template make<float>(shape<3>{{n[0], ends, n[2]}});
  if (plan.chunk <= ssd_longest_at_once) {
    plan.flag_count = n[0] * plan.chunks * of_chunk;
    plan.flags = ctx.scratch.template make<int>(shape<1>{{plan.flag_count}}).data;
  }
  return plan;
}

/// What comes before: fills tokens, and makes the flags zero.
template <class E>
ssd_tokens_plan<E> ssd_tokens_of(const ssd_plan<E>& plan) {
  return {plan.op, plan.tokens, plan.flags, plan.flag_count};
}

template <class E>
void launch_ssd_pairs(context<cuda>& ctx, const ssd_plan<E>& plan) {
  const index_t blocks = plan.op.x.size[0] * ssd_pair_blocks(plan.op),
                ends = (plan.chunks - 1) * plan.pieces;
  const auto launch = [&](auto work, auto starts, auto gated, index_t segments) {
    using Work = decltype(work);
    using memory = ssd_pair_memory<typename E::value, std::is_same_v<Work, ssd_ends>,
                                   decltype(gated)::value != 0>;
    constexpr int bytes = int(sizeof(memory)) + 1024;  // to align it
    const auto kernel = ssd_pair_kernel<Work, decltype(starts), decltype(gated), E>;
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
               plan.name);
    launch_early(ctx, plan.name, kernel, blocks_for(blocks * segments, 1), ssd_pair_threads, bytes,
                 plan);
  };
  const constant<0> no;
  const constant<1> yes;
  const constant<2> with_squares;
  const auto launch_all = [&](auto starts, auto gated) {
    if (plan.flags) return launch(ssd_both{}, starts, gated, plan.chunks);
    if (ends > 0) launch(ssd_ends{}, starts, no, ends);
    if (!plan.joins)
      launch_early(ctx, plan.name, ssd_pair_join_kernel<E>,
                   blocks_for(plan.ends.count() / (ends + 1) / 4, block_threads), block_threads, 0,
                   plan);
    launch(ssd_y{}, starts, gated, plan.chunks);
  };
  if (plan.squares) {
    launch_all(no, with_squares);
  } else if (plan.op.seq_idx) {
    plan.op.z ? launch_all(yes, yes) : launch_all(yes, no);
  } else {
    plan.op.z ? launch_all(no, yes) : launch_all(no, no);
  }
}

template <class E>
void run_ssd_pairs(context<cuda>& ctx, const ops::ssd<E>& op) {
  auto frame = ctx.scratch.make_frame();
  const ssd_plan<E> plan = plan_ssd_pairs(ctx, op);
  launch_ssd_steps(ctx, ssd_tokens_of(plan));
  launch_ssd_pairs(ctx, plan);
}

}  // namespace mlmamba::backend::kernels
