// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Convolution and scan of a Mamba-2 mixer on a GPU, for whole sequences.
#pragma once

#include "mlmamba/backend/cuda/causal_conv1d.cuh"
#include "mlmamba/backend/cuda/ssd.cuh"
#include "mlmamba/ops/mamba2_scan.hpp"

namespace mlmamba::backend {

namespace kernels {

template <class E>
struct mamba2_scan_plan {
  static constexpr const char* name = ops::mamba2_scan<E>::name;
  conv_walk_plan<E> conv;
  ssd_tokens_plan<E> tokens;  // op.A is A_log
  unsigned token_blocks;
};

/// The convolution, and what the scan knows about its tokens: none waits for the other.
template <class E>
__global__ void __launch_bounds__(block_threads, 4)
    mamba2_before_scan_kernel(const mamba2_scan_plan<E> plan) {
  wait_for_launch_before();
  if (blockIdx.x < plan.token_blocks) return ssd_tokens_block<constant<1>>(plan.tokens, blockIdx.x);
  causal_conv1d_walk<constant<4>, constant<1>>(
      plan.conv.op, plan.conv.run,
      index_t(blockIdx.x - plan.token_blocks) * block_threads + threadIdx.x);
}

/// Its parts.
template <class E>
ops::causal_conv1d<E> convolution_of(const ops::mamba2_scan<E>& op, out<E, 3> convolved) {
  return {.x = op.xBC,
          .weight = op.conv_weight,
          .bias = op.conv_bias,
          .initial_states = op.window,
          .y = convolved,
          .final_states = op.window};
}
template <class E>
ops::ssd<E> scan_of(const ops::mamba2_scan<E>& op, in<E, 3> convolved) {
  const index_t p = op.state.size[2], n = op.state.size[3], d = op.scanned(), gn = op.groups * n;
  ops::ssd<E> scan;
  scan.x = convolved.slice(2, 0, d).split(2, p);
  scan.dt = op.dt;
  scan.A = op.A_log;
  scan.B = convolved.slice(2, d, gn).split(2, n);
  scan.C = convolved.slice(2, d + gn, gn).split(2, n);
  scan.D = op.D;
  scan.dt_bias = op.dt_bias;
  scan.dt_softplus = true, scan.dt_min = op.dt_min, scan.dt_max = op.dt_max;
  scan.chunk_size = op.chunk_size;
  if (op.z) scan.z = op.z.split(2, p);
  scan.y = op.y.split(2, p);
  scan.initial_states = op.state, scan.final_states = op.state;
  return scan;
}

}  // namespace kernels

/// Where the scan goes by heads (ssd_heads.cuh); with a gate only in bf16, since rows that are not
/// yet normalised may be beyond the numbers of f16.
template <class E>
bool prefers(const context<cuda>&, const ops::mamba2_scan<E>& op) {
  if constexpr (is_16_bit<typename E::value>) {
    const index_t length = op.xBC.size[1], p = op.state.size[2], n = op.state.size[3];
    return op.xBC.size[0] > 0 && length >= 16 && n > 64 && n <= 128 && n % 8 == 0 && p % 8 == 0 &&
           (op.chunk_size == 0 || op.chunk_size >= kernels::ssd_tile) &&
           kernels::in_pieces(op.y.split(2, p)) && kernels::copied_as_tiles(op.y.split(2, p)) &&
           (!op.z ||
            (std::is_same_v<typename E::value, bf16> && p <= kernels::ssd_tile &&
             kernels::in_pieces(op.z.split(2, p)) && kernels::copied_as_tiles(op.z.split(2, p)))) &&
           kernels::conv_in_pieces(kernels::convolution_of(op, {})) && kernels::has_warpgroups();
  } else {
    return false;
  }
}

template <class E>
void execute(context<cuda>& ctx, const ops::mamba2_scan<E>& op) {
  using namespace kernels;
  if constexpr (is_16_bit<typename E::value>) {
    if (!prefers(ctx, op))
      fail<shape_error>("cuda: mamba2_scan: operands are ", to_string(op.xBC), " and ",
                        to_string(op.state), "; what prefers() takes is wanted");
    auto frame = ctx.scratch.make_frame();
    const auto convolved = ctx.template make<E, 3>(op.xBC.shape());
    const ops::ssd<E> scan = scan_of(op, convolved);
    ssd_plan<E> heads = plan_ssd_heads(ctx, scan);
    heads.gate_weight = op.gate_weight, heads.squares = op.squares;
    mamba2_scan_plan<E> plan{plan_conv_walk(ctx, convolution_of(op, convolved)),
                             ssd_tokens_of(heads)};
    plan.token_blocks = blocks_for(plan.tokens.blocks(), 1);
    launch_early(ctx, op.name, mamba2_before_scan_kernel<E>,
                 plan.token_blocks + blocks_for(plan.conv.threads(), block_threads), block_threads,
                 0, plan);
    launch_ssd_heads(ctx, heads);
  } else {
    fail<shape_error>("cuda: mamba2_scan: values are neither bf16 nor f16; one of them is wanted");
  }
}

}  // namespace mlmamba::backend
