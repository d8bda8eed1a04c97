// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Launches of the SSD forward by pairs of heads (ssd_warpgroups.cuh).
#pragma once

#include "mlmamba/backend/cuda/ssd_warpgroups.cuh"

namespace mlmamba::backend::kernels {

inline constexpr index_t ssd_most_joined =
    8;  ///< ends that blocks for y join themselves (plan.pieces)

/// Launches them. A segment may be cut into several `pieces` whose ends are computed side by side,
/// since that needs less room: plan.ends has the ends of all before the last segment, and one more.
/// Where they are few, each block for y joins those before it, and the first starts from the
/// initial state; else a launch of its own does.
template <class E>
void launch_ssd_pairs(context<cuda>& ctx, ssd_plan<E> plan, index_t pieces) {
  const auto& n = plan.op.x.size;
  const index_t groups = plan.op.groups(), pairs = (n[2] / groups + ssd_pair - 1) / ssd_pair;
  const index_t blocks = n[0] * groups * pairs * ((n[3] + ssd_tile - 1) / ssd_tile);
  launch_ssd_steps<E>(ctx, plan.op, plan.tokens);
  const auto launch = [&](auto kernel, auto ends, const ssd_plan<E>& p, index_t segments) {
    constexpr int bytes =
        int(sizeof(ssd_pair_memory<typename E::value, decltype(ends)::value != 0>)) +
        1024;  // align
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
               p.name);
    launch_early(ctx, p.name, kernel, blocks_for(blocks * segments, 1), ssd_pair_threads, bytes, p);
  };
  const constant<0> no;
  const constant<1> yes;
  const auto launch_all = [&](auto starts, auto gated) {
    using Starts = decltype(starts);
    if (plan.chunks > 1) {
      ssd_plan<E> cut = plan;
      cut.chunk = plan.chunk / pieces, cut.chunks = plan.ends.size[1];
      cut.pieces = plan.pieces;
      launch(ssd_pair_kernel<constant<1>, Starts, constant<0>, E>, yes, cut, cut.chunks - 1);
      cut.op.final_states = {};  // the last segment writes it
      if (plan.pieces == 0) {
        launch_ssd_join(ctx, cut);
        plan.ends.stride[1] *= pieces;
      }
    }
    launch(ssd_pair_kernel<constant<0>, Starts, decltype(gated), E>, no, plan, plan.chunks);
  };
  if (plan.op.seq_idx) {
    plan.op.z ? launch_all(yes, yes) : launch_all(yes, no);
  } else {
    plan.op.z ? launch_all(no, yes) : launch_all(no, no);
  }
}

}  // namespace mlmamba::backend::kernels
