// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Backward of the causal depthwise convolution on a GPU.
#pragma once

#include "mlmamba/backend/cuda/causal_conv1d.cuh"
#include "mlmamba/backend/cuda/causal_conv1d_backward_pieces.cuh"
#include "mlmamba/backend/cuda/column_sums.cuh"

namespace mlmamba::backend {

namespace kernels {

template <class E>
struct causal_conv1d_backward_plan {
  static constexpr const char* name = ops::causal_conv1d_backward<E>::name;
  ops::causal_conv1d_backward<E> op;
  view<typename E::accum, 3, memory::device> g;  // (B, L, D): gradients before the activation
};

/// The value at time s; before 0 it is in the initial states.
template <class E>
__device__ typename E::accum conv_input(const ops::causal_conv1d_backward<E>& op, index_t b,
                                        index_t s, index_t d) {
  using A = typename E::accum;
  if (s >= 0) return A(op.x(b, s, d));
  return op.initial_states ? A(op.initial_states(b, d, op.weight.size[1] - 1 + s)) : A(0);
}

/// Does time s count for time t?
template <class E>
__device__ bool conv_counts(const ops::causal_conv1d_backward<E>& op, index_t b, index_t s,
                            index_t t) {
  if (!op.seq_idx) return true;
  const std::int32_t here = op.seq_idx(b, t);
  return here >= 0 && op.seq_idx(b, s < 0 ? 0 : s) == here;
}

template <class E>
__global__ void causal_conv1d_slope_kernel(const causal_conv1d_backward_plan<E> plan) {
  using A = typename E::accum;
  const auto& op = plan.op;
  index_t b = thread_index();
  if (b >= plan.g.count()) return;
  const index_t d = take_index(b, op.x.size[2]), t = take_index(b, op.x.size[1]);
  A g = 0;
  if (!op.seq_idx || op.seq_idx(b, t) >= 0) {
    g = A(op.dy(b, t, d));
    if (op.activation != activation::none) {
      const index_t width = op.weight.size[1];
      A v = op.bias ? op.bias(d) : A(0);
      for (index_t w = 0; w < width; ++w) {
        const index_t s = t + w - (width - 1);
        if (conv_counts(op, b, s, t)) v = multiply_add(op.weight(d, w), conv_input(op, b, s, d), v);
      }
      g *= activation_derivative(op.activation, v);
    }
  }
  plan.g(b, t, d) = g;
}

/// One thread per element of (initial states, x).
template <class E>
__global__ void causal_conv1d_input_kernel(const causal_conv1d_backward_plan<E> plan) {
  using A = typename E::accum;
  using V = typename E::value;
  const auto& op = plan.op;
  const index_t length = op.x.size[1], before = op.weight.size[1] - 1;
  index_t b = thread_index();
  if (b >= op.x.size[0] * (length + before) * op.x.size[2]) return;
  const index_t d = take_index(b, op.x.size[2]), at = take_index(b, length + before);
  if (at < before && !op.dinitial_states) return;
  A sum = 0;
  for (index_t w = before; w >= 0; --w) {  // times ascending
    const index_t t = at - w;
    if (t >= 0 && t < length && conv_counts(op, b, at - before, t))
      sum = multiply_add(op.weight(d, w), plan.g(b, t, d), sum);
  }
  if (op.dfinal_states && at >= length) sum += A(op.dfinal_states(b, d, at - length));
  if (at < before) {
    op.dinitial_states(b, d, at) = V(sum);
  } else {
    op.dx(b, at - before, d) = V(sum);
  }
}

template <class E>
struct causal_conv1d_term {
  static constexpr const char* name = ops::causal_conv1d_backward<E>::name;
  static constexpr int widest = 8, outputs = widest + 1;  // dweight, then dbias
  using accum = typename E::accum;
  causal_conv1d_backward_plan<E> plan;

  index_t rows() const { return plan.op.x.size[0] * plan.op.x.size[1]; }
  index_t columns() const { return plan.op.x.size[2]; }
  __device__ void add(index_t b, index_t d, accum (&sums)[outputs]) const {
    const auto& op = plan.op;
    const index_t t = take_index(b, op.x.size[1]), width = op.weight.size[1];
    const accum g = plan.g(b, t, d);
    sums[widest] += g;
#pragma unroll
    for (int w = 0; w < widest; ++w) {
      const index_t s = t + w - (width - 1);
      if (w < width && conv_counts(op, b, s, t))
        sums[w] = multiply_add(g, conv_input(op, b, s, d), sums[w]);
    }
  }
  __device__ accum* target(int k, index_t d) const {
    if (k == widest) return plan.op.dbias ? &plan.op.dbias(d) : nullptr;
    return plan.op.dweight && k < plan.op.weight.size[1] ? &plan.op.dweight(d, k) : nullptr;
  }
};

}  // namespace kernels

template <class E>
void execute(context<cuda>& ctx, const ops::causal_conv1d_backward<E>& op) {
  if (kernels::conv_in_pieces(op)) return kernels::run_conv_pieces(ctx, op);
  auto frame = ctx.scratch.make_frame();
  kernels::causal_conv1d_backward_plan<E> plan{
      op, ctx.scratch.template make<typename E::accum>(op.x.shape())};
  kernels::launch_elements(ctx, kernels::causal_conv1d_slope_kernel<E>, plan.g.count(), plan);
  if (op.dweight || op.dbias) kernels::add_column_sums(ctx, kernels::causal_conv1d_term<E>{plan});
  kernels::launch_elements(ctx, kernels::causal_conv1d_input_kernel<E>,
                           op.x.size[0] * (op.x.size[1] + op.weight.size[1] - 1) * op.x.size[2],
                           plan);
}

}  // namespace mlmamba::backend
