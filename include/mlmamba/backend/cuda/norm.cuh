// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Norms on a GPU: one block per row (per row and group).
#pragma once

#include "mlmamba/backend/cuda/launch.cuh"
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

template <class E>
__global__ void gated_rms_norm_kernel(const ops::gated_rms_norm<E> op) {
  using A = typename E::accum;
  __shared__ A shared[warp_size];
  const index_t width = op.x.size[1], group = op.group_size == 0 ? width : op.group_size;
  index_t t = blockIdx.x;
  const index_t g = take_index(t, width / group), from = g * group;
  const auto gate = [&](index_t d) {
    return op.z ? apply_activation(activation::silu, A(op.z(t, d))) : A(1);
  };
  const auto normed = [&](index_t d) {  // u
    const A x = A(op.x(t, d));
    return op.norm_before_gate ? x : x * gate(d);
  };
  A sum = 0;
  for (index_t i = threadIdx.x; i < group; i += blockDim.x) {
    const A u = normed(from + i);
    sum += u * u;
  }
  const A mean = block_sum(sum, shared) / A(group);
  const A rstd = A(1) / math::sqrt(mean + A(op.epsilon));
  for (index_t i = threadIdx.x; i < group; i += blockDim.x) {
    const index_t d = from + i;
    const A weight = op.weight ? op.weight(d) : A(1);
    A y = normed(d) * rstd * weight;
    if (op.norm_before_gate) y *= gate(d);
    op.y(t, d) = typename E::value(y);
  }
  if (op.rstd && threadIdx.x == 0) op.rstd(t, g) = rstd;
}

}  // namespace kernels

template <class E, class X>
void execute(context<cuda>& ctx, const ops::rms_norm<E, X>& op) {
  kernels::launch_rows(ctx, kernels::rms_norm_kernel<E, X>, op.x.size[0], op);
}
template <class E, class X>
void execute(context<cuda>& ctx, const ops::layer_norm<E, X>& op) {
  kernels::launch_rows(ctx, kernels::layer_norm_kernel<E, X>, op.x.size[0], op);
}
template <class E>
void execute(context<cuda>& ctx, const ops::gated_rms_norm<E>& op) {
  if (op.x.size[1] == 0) return;
  kernels::launch_rows(ctx, kernels::gated_rms_norm_kernel<E>,
                       op.x.size[0] * (op.x.size[1] / op.group()), op);
}

}  // namespace mlmamba::backend
