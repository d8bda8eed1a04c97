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

/// How a sequence is cut: into chunks that keep the multiprocessors busy, no more (each cut costs a
/// pass for the states), and these into pieces whose ends are computed side by side, since that
/// needs less room. A function of sizes and of the GPU: runs repeat bit for bit, but rows of
/// another batch size may be cut elsewhere (unless they are to be independent).
template <class E>
void cut_ssd_pairs(const context<cuda>& ctx, ssd_plan<E>& plan) {
  const auto& n = plan.op.x.size;
  const index_t tiles = (n[1] + ssd_tile - 1) / ssd_tile, groups = plan.op.groups();
  const index_t blocks = std::max<index_t>((ctx.independent_rows ? 1 : n[0]) * groups *
                                               ((n[2] / groups + ssd_pair - 1) / ssd_pair) *
                                               ((n[3] + ssd_tile - 1) / ssd_tile),
                                           1);
  const index_t room = index_t(ctx.multiprocessors) / blocks;
  const index_t chunks = std::max<index_t>(std::min(room, tiles / 2), 1);
  const index_t per = (tiles + chunks - 1) / chunks;
  plan.chunk = per * ssd_tile, plan.chunks = (tiles + per - 1) / per;
  if (plan.chunks == 1) return;
  const index_t ends = 2 * index_t(ctx.multiprocessors) / (blocks * (plan.chunks - 1));
  const index_t piece =
      (per + std::clamp<index_t>(ends, 1, per) - 1) / std::clamp<index_t>(ends, 1, per);
  plan.piece = piece * ssd_tile, plan.pieces = (per + piece - 1) / piece;
  plan.joins = (plan.chunks - 1) * plan.pieces <= ssd_most_joined;
}

/// Runs it. `tokens`: if they are there already (launch_ssd_steps).
template <class E>
void run_ssd_pairs(context<cuda>& ctx, const ops::ssd<E>& op, float* tokens = nullptr) {
  const auto& n = op.x.size;
  const index_t p_tiles = (n[3] + ssd_tile - 1) / ssd_tile, groups = op.groups();
  auto frame = ctx.scratch.make_frame();
  ssd_plan<E> plan{op};
  cut_ssd_pairs(ctx, plan);
  plan.tokens = tokens;
  if (!tokens) {
    const index_t chunks = (n[1] + ssd_tile - 1) / ssd_tile;
    plan.tokens =
        ctx.scratch.template make<float>(shape<1>{{n[0] * chunks * n[2] * ssd_tokens_size(op)}})
            .data;
    launch_ssd_steps<E>(ctx, op, plan.tokens);
  }
  const index_t ends = (plan.chunks - 1) * plan.pieces;
  if (ends > 0) {  // and one for the initial state
    plan.ends = ctx.scratch.template make<float>(
        shape<5>{{n[0], ends + 1, n[2], p_tiles * ssd_tile, 2 * ssd_tile}});
    plan.decay = ctx.scratch.template make<float>(shape<3>{{n[0], ends, n[2]}});
  }
  const index_t blocks = n[0] * groups * ((n[2] / groups + ssd_pair - 1) / ssd_pair) * p_tiles;
  const auto launch = [&](auto kernel, auto only_ends, index_t segments) {
    constexpr int bytes = int(sizeof(ssd_pair_memory<decltype(only_ends)::value != 0>)) + 1024;
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
               plan.name);
    launch_early(ctx, plan.name, kernel, blocks_for(blocks * segments, 1), ssd_pair_threads, bytes,
                 plan);
  };
  const constant<0> no;
  const constant<1> yes;
  const auto launch_all = [&](auto starts, auto gated) {
    using Starts = decltype(starts);
    if (ends > 0) launch(ssd_pair_kernel<constant<1>, Starts, constant<0>, E>, yes, ends);
    if (ends > 0 && !plan.joins)
      launch_early(ctx, plan.name, ssd_pair_join_kernel<E>,
                   blocks_for(plan.ends.count() / (ends + 1) / 4, block_threads), block_threads, 0,
                   plan);
    launch(ssd_pair_kernel<constant<0>, Starts, decltype(gated), E>, no, plan.chunks);
  };
  if (op.seq_idx) {
    op.z ? launch_all(yes, yes) : launch_all(yes, no);
  } else {
    op.z ? launch_all(no, yes) : launch_all(no, no);
  }
}

}  // namespace mlmamba::backend::kernels
