// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What the blocks of selective_scan_backward_channels.cuh leave for others to add: dB and dC of
// 64 channels each, the gradients of parameters of a segment each.
#pragma once

#include "mlmamba/backend/cuda/selective_scan_channels.cuh"

namespace mlmamba::backend::kernels {

template <class E>
struct scan_back_plan {
  static constexpr const char* name = ops::selective_scan_backward<E>::name;
  ops::selective_scan_backward<E> op;
  scan_channels_plan<E> forward;
  view<float, 4, memory::device> dBC;           // (B, L, blocks, 32): of dB, then of dC
  view<float, 4, memory::device> dA;            // (B, segments, D, 16)
  view<float, 3, memory::device> dD, ddt_bias;  // (B, segments, D)
};

/// dB and dC: the blocks of channels, ascending.
template <class E>
__global__ void scan_group_kernel(const scan_back_plan<E> plan) {
  const auto& op = plan.op;
  index_t b = thread_index();
  if (b >= op.x.size[0] * op.x.size[1] * warp_size) return;
  const index_t n = take_index(b, warp_size), t = take_index(b, op.x.size[1]);
  const index_t at = n % scan_state_size;
  if (at >= op.A.size[1]) return;
  float sum = 0;
#pragma unroll 8
  for (index_t k = 0; k < plan.forward.blocks; ++k) sum += plan.dBC(b, t, k, n);
  const auto& to = n < scan_state_size ? op.dB : op.dC;
  to(b, t, 0, at) = typename E::value(sum);
}

/// dA, dD and ddt_bias: rows of the batch and segments, ascending. One thread per element of A.
template <class E>
__global__ void scan_parameters_kernel(const scan_back_plan<E> plan) {
  const auto& op = plan.op;
  index_t d = thread_index();
  if (d >= op.A.count()) return;
  const index_t n = take_index(d, op.A.size[1]);
  const auto add = [&](float& to, auto&& part) {
    float sum = 0;
    for (index_t b = 0; b < op.x.size[0]; ++b)
      for (index_t c = 0; c < plan.forward.segments; ++c) sum += part(b, c);
    to += sum;
  };
  if (op.dA) add(op.dA(d, n), [&](index_t b, index_t c) { return plan.dA(b, c, d, n); });
  if (n > 0) return;
  if (op.dD) add(op.dD(d), [&](index_t b, index_t c) { return plan.dD(b, c, d); });
  if (op.ddt_bias)
    add(op.ddt_bias(d), [&](index_t b, index_t c) { return plan.ddt_bias(b, c, d); });
}

}  // namespace mlmamba::backend::kernels
