// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// RMSNorm and LayerNorm on a GPU: one block per row.
#pragma once

#include "mlmamba/backend/cuda/elementwise.cuh"
#include "mlmamba/backend/cuda/row_norm.cuh"
#include "mlmamba/ops/norm.hpp"

namespace mlmamba::backend {

namespace kernels {

template <class E, class X>
__global__ void rms_norm_kernel(const ops::rms_norm<E, X> op) {
  using A = typename E::accum;
  __shared__ A shared[warp_size];
  const index_t t = blockIdx.x, width = op.x.size[1];
  A sum = 0;
  for (index_t d = threadIdx.x; d < width; d += blockDim.x) {
    const A x = A(op.x(t, d));
    sum += x * x;
  }
  const A mean = block_sum(sum, shared) / A(width);
  const A rstd = A(1) / math::sqrt(mean + A(op.epsilon));
  for (index_t d = threadIdx.x; d < width; d += blockDim.x) {
    const A weight = op.weight ? op.weight(d) : A(1);
    op.y(t, d) = typename E::value(A(op.x(t, d)) * rstd * weight);
  }
  if (op.rstd && threadIdx.x == 0) op.rstd(t) = rstd;
}

template <class E, class X>
__global__ void layer_norm_kernel(const ops::layer_norm<E, X> op) {
  using A = typename E::accum;
  __shared__ A shared[warp_size];
  const index_t t = blockIdx.x, width = op.x.size[1];
  A sum = 0;
  for (index_t d = threadIdx.x; d < width; d += blockDim.x) sum += A(op.x(t, d));
  const A mean = block_sum(sum, shared) / A(width);
  A squares = 0;
  for (index_t d = threadIdx.x; d < width; d += blockDim.x) {
    const A c = A(op.x(t, d)) - mean;
    squares += c * c;
  }
  const A variance = block_sum(squares, shared) / A(width);
  const A rstd = A(1) / math::sqrt(variance + A(op.epsilon));
  for (index_t d = threadIdx.x; d < width; d += blockDim.x) {
    const A weight = op.weight ? op.weight(d) : A(1), bias = op.bias ? op.bias(d) : A(0);
    op.y(t, d) = typename E::value((A(op.x(t, d)) - mean) * rstd * weight + bias);
  }
  if (op.mean && threadIdx.x == 0) op.mean(t) = mean, op.rstd(t) = rstd;
}

/// plus.sum where the branch is normalised, too.
template <class E, class X, class Op>
__global__ void normalised_sum_kernel(const Op op) {
  using A = typename E::accum;
  const index_t t = blockIdx.x, width = op.x.size[1];
  const A factor = branch_factor<A>(op.plus, t);
  for (index_t d = threadIdx.x; d < width; d += blockDim.x) {
    const A gamma = op.plus.gamma ? op.plus.gamma(d) * factor : factor;
    op.plus.sum(t, d) = X(A(op.plus.branch(t, d)) * gamma + A(op.x(t, d)));
  }
}

/// The norm of plus.sum, which is made by an op of its own.
template <class E, class X, class Op>
Op after_sum(context<cuda>& ctx, Op op) {
  if (!op.plus) return op;
  if (op.plus.squares) {
    launch_rows(ctx, normalised_sum_kernel<E, X, Op>, op.x.size[0], op);
  } else if (op.plus.gamma) {
    run(ctx, ops::channel_scale<E, X>{
                 .x = op.plus.branch, .gamma = op.plus.gamma, .residual = op.x, .y = op.plus.sum});
  } else {
    run(ctx, ops::add<E, X, typename E::value>{.a = op.x, .b = op.plus.branch, .y = op.plus.sum});
  }
  op.x = op.plus.sum, op.plus = {};
  return op;
}

}  // namespace kernels

template <class E, class X>
void execute(context<cuda>& ctx, const ops::rms_norm<E, X>& op) {
  if (kernels::launch_row_norm<typename E::value, X>(ctx, op)) return;
  kernels::launch_rows(ctx, kernels::rms_norm_kernel<E, X>, op.x.size[0],
                       kernels::after_sum<E, X>(ctx, op));
}
template <class E, class X>
void execute(context<cuda>& ctx, const ops::layer_norm<E, X>& op) {
  if (kernels::launch_row_norm<typename E::value, X>(ctx, op)) return;
  kernels::launch_rows(ctx, kernels::layer_norm_kernel<E, X>, op.x.size[0],
                       kernels::after_sum<E, X>(ctx, op));
}

}  // namespace mlmamba::backend
