// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Launches of the SSD forward by heads (ssd_roles.cuh).
#pragma once

#include <algorithm>

#include "mlmamba/backend/cuda/ssd_roles.cuh"

namespace mlmamba::backend::kernels {

/// Does ssd_role_kernel do this op, which has tiles?
template <class E>
bool ssd_by_heads(const ops::ssd<E>& op) {
  return op.state_size() > 64 && has_warpgroups() && copied_as_tiles(op.x) &&
         copied_as_tiles(op.B) && copied_as_tiles(op.C) && copied_as_tiles(op.z) &&
         copied_as_tiles(op.y);
}

/// Blocks of one segment of all sequences of `batch`.
template <class E>
index_t ssd_head_blocks(const ops::ssd<E>& op, index_t batch) {
  return batch * op.x.size[2] * ((op.x.size[3] + ssd_tile - 1) / ssd_tile);
}

/// Into how many segments a sequence of so many tiles is cut, where there is room for `room`: it
/// pays if their ends, the wait for others and the join of their states take less than the rest of
/// the sequence would.
inline index_t ssd_segments_of(index_t tiles, index_t room) {
  // Nanoseconds on an H100: a tile's part in an end and in y, the wait, a state that is joined.
  constexpr double end = 600, y = 1000, wait = 6000, joined = 400;
  index_t best = 1;
  double least = double(tiles) * y;
  for (index_t some = 2; some <= std::min(room, tiles / 2); ++some) {
    const double cost =
        double((tiles + some - 1) / some) * (end + y) + wait + double(some - 1) * joined;
    if (cost < least) least = cost, best = some;
  }
  return best;
}

/// A function of sizes and of the GPU: runs repeat bit for bit, but rows of another batch size may
/// be cut elsewhere (unless they are to be independent). Scratch is of the caller's frame.
template <class E>
ssd_plan<E> plan_ssd_heads(context<cuda>& ctx, const ops::ssd<E>& op) {
  const auto& n = op.x.size;
  ssd_plan<E> plan{op};
  const index_t tiles = (n[1] + ssd_tile - 1) / ssd_tile,
                blocks = ssd_head_blocks(op, ctx.independent_rows ? 1 : n[0]);
  const index_t segments =
      ssd_segments_of(tiles, ctx.multiprocessors / std::max<index_t>(blocks, 1));
  const index_t per = (tiles + segments - 1) / segments;
  plan.chunk = per * ssd_tile, plan.chunks = (tiles + per - 1) / per;
  plan.tokens =
      ctx.scratch.template make<float>(shape<1>{{n[0] * tiles * n[2] * ssd_tokens_size(op)}}).data;
  if (plan.chunks == 1) return plan;
  const index_t ends = plan.chunks - 1;  // and one for the initial state
  plan.ends = ctx.scratch.template make<float>(
      shape<5>{{n[0], ends + 1, n[2], (n[3] + ssd_tile - 1) / ssd_tile * ssd_tile, 2 * ssd_tile}});
  plan.decay = ctx.scratch.template make<float>(
      shape<3>{{n[0], ends, n[2] * ((n[3] + ssd_tile - 1) / ssd_tile)}});
  plan.flag_count = plan.chunks * ssd_head_blocks(op, n[0]);
  plan.flags = ctx.scratch.template make<int>(shape<1>{{plan.flag_count}}).data;
  return plan;
}

/// What comes before: fills tokens, and makes the flags zero.
template <class E>
ssd_tokens_plan<E> ssd_tokens_of(const ssd_plan<E>& plan) {
  return {plan.op, plan.tokens, plan.flags, plan.flag_count};
}

template <class E>
void launch_ssd_heads(context<cuda>& ctx, const ssd_plan<E>& plan) {
  const ops::ssd<E>& op = plan.op;
  ssd_role_plan<E> all{plan};
  all.x = map_tiles(op.x, ssd_tile, op.name), all.y = map_tiles(op.y, ssd_tile / 4, op.name);
  all.B = map_tiles(op.B, ssd_tile, op.name), all.C = map_tiles(op.C, ssd_tile, op.name);
  if (op.z) all.z = map_tiles(op.z, ssd_tile, op.name);
  constexpr int bytes = int(sizeof(ssd_role_memory<typename E::value>)) + 1024;  // to align it
  const auto launch = [&](auto work, auto starts, auto gated) {
    const auto kernel = ssd_role_kernel<decltype(work), decltype(starts), decltype(gated), E>;
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
               plan.name);
    launch_early(ctx, plan.name, kernel,
                 blocks_for(plan.chunks * ssd_head_blocks(op, op.x.size[0]), 1), ssd_role_threads,
                 bytes, all);
  };
  const constant<0> no;
  const constant<1> yes;
  const constant<2> with_squares;
  const auto launch_work = [&](auto starts, auto gated) {
    plan.flags ? launch(ssd_both{}, starts, gated) : launch(ssd_y{}, starts, gated);
  };
  if (plan.squares) {
    launch_work(no, with_squares);
  } else if (op.seq_idx) {
    op.z ? launch_work(yes, yes) : launch_work(yes, no);
  } else {
    op.z ? launch_work(no, yes) : launch_work(no, no);
  }
}

template <class E>
void run_ssd_heads(context<cuda>& ctx, const ops::ssd<E>& op) {
  auto frame = ctx.scratch.make_frame();
  const ssd_plan<E> plan = plan_ssd_heads(ctx, op);
  launch_ssd_steps(ctx, ssd_tokens_of(plan));
  launch_ssd_heads(ctx, plan);
}

}  // namespace mlmamba::backend::kernels
