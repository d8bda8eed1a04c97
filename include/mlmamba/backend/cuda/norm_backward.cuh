// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Backward of norms on a GPU. Where rows are not in pieces: one block per row (per row and group),
// weights by sums of columns.
#pragma once

#include "mlmamba/backend/cuda/column_sums.cuh"
#include "mlmamba/backend/cuda/row_norm_backward_rules.cuh"
#include "mlmamba/ops/norm.hpp"

namespace mlmamba::backend {

namespace kernels {

template <class E, class X>
__global__ void rms_norm_backward_kernel(const ops::rms_norm_backward<E, X> op) {
  using A = typename E::accum;
  __shared__ A shared[warp_size];
  const index_t t = blockIdx.x, width = op.x.size[1];
  const A rstd = op.rstd(t);
  const auto scaled = [&](index_t d) {  // g
    return A(op.dy(t, d)) * (op.weight ? op.weight(d) : A(1));
  };
  A sum = 0;
  for (index_t d = threadIdx.x; d < width; d += blockDim.x)
    sum = multiply_add(scaled(d), A(op.x(t, d)) * rstd, sum);
  const A mean = block_sum(sum, shared) / A(width);
  for (index_t d = threadIdx.x; d < width; d += blockDim.x) {
    const A dx = (scaled(d) - A(op.x(t, d)) * rstd * mean) * rstd;
    op.dx(t, d) = X(op.accumulate ? A(op.dx(t, d)) + dx : dx);
  }
}

template <class E, class X>
struct rms_norm_term {
  static constexpr const char* name = ops::rms_norm_backward<E, X>::name;
  static constexpr int outputs = 1;
  using accum = typename E::accum;
  ops::rms_norm_backward<E, X> op;

  index_t rows() const { return op.x.size[0]; }
  index_t columns() const { return op.x.size[1]; }
  __device__ void add(index_t t, index_t d, accum (&sums)[outputs]) const {
    sums[0] = multiply_add(accum(op.dy(t, d)), accum(op.x(t, d)) * op.rstd(t), sums[0]);
  }
  __device__ accum* target(int, index_t d) const { return &op.dweight(d); }
};

template <class E, class X>
__global__ void layer_norm_backward_kernel(const ops::layer_norm_backward<E, X> op) {
  using A = typename E::accum;
  __shared__ A shared[warp_size];
  const index_t t = blockIdx.x, width = op.x.size[1];
  const A rstd = op.rstd(t), center = op.mean(t);
  const auto scaled = [&](index_t d) {  // g
    return A(op.dy(t, d)) * (op.weight ? op.weight(d) : A(1));
  };
  A sum = 0, products = 0;
  for (index_t d = threadIdx.x; d < width; d += blockDim.x) {
    const A g = scaled(d);
    sum += g;
    products = multiply_add(g, (A(op.x(t, d)) - center) * rstd, products);
  }
  const A mean = block_sum(sum, shared) / A(width);
  const A mean_product = block_sum(products, shared) / A(width);
  for (index_t d = threadIdx.x; d < width; d += blockDim.x) {
    const A xhat = (A(op.x(t, d)) - center) * rstd;
    const A dx = (scaled(d) - mean - xhat * mean_product) * rstd;
    op.dx(t, d) = X(op.accumulate ? A(op.dx(t, d)) + dx : dx);
  }
}

template <class E, class X>
struct layer_norm_term {
  static constexpr const char* name = ops::layer_norm_backward<E, X>::name;
  static constexpr int outputs = 2;  // dweight, dbias
  using accum = typename E::accum;
  ops::layer_norm_backward<E, X> op;

  index_t rows() const { return op.x.size[0]; }
  index_t columns() const { return op.x.size[1]; }
  __device__ void add(index_t t, index_t d, accum (&sums)[outputs]) const {
    const accum dy = accum(op.dy(t, d));
    sums[0] = multiply_add(dy, (accum(op.x(t, d)) - op.mean(t)) * op.rstd(t), sums[0]);
    sums[1] += dy;
  }
  __device__ accum* target(int k, index_t d) const {
    if (k == 0) return op.dweight ? &op.dweight(d) : nullptr;
    return op.dbias ? &op.dbias(d) : nullptr;
  }
};

/// silu(z), or 1 without a gate.
template <class E>
__device__ typename E::accum gate_of(const ops::gated_rms_norm_backward<E>& op, index_t t,
                                     index_t d) {
  using A = typename E::accum;
  return op.z ? apply_activation(activation::silu, A(op.z(t, d))) : A(1);
}

template <class E>
__global__ void gated_rms_norm_backward_kernel(const ops::gated_rms_norm_backward<E> op) {
  using A = typename E::accum;
  using V = typename E::value;
  __shared__ A shared[warp_size];
  const index_t width = op.x.size[1], group = op.group_size == 0 ? width : op.group_size;
  index_t t = blockIdx.x;
  const index_t index = take_index(t, width / group), from = index * group;
  const A rstd = op.rstd(t, index);
  A sum = 0;
  for (index_t i = threadIdx.x; i < group; i += blockDim.x) {
    const index_t d = from + i;
    const A gate = gate_of(op, t, d), weight = op.weight ? op.weight(d) : A(1);
    // g uhat holds the gate once, in whichever of the two it is
    sum = multiply_add(A(op.dy(t, d)) * weight, A(op.x(t, d)) * gate * rstd, sum);
  }
  const A mean = block_sum(sum, shared) / A(group);
  for (index_t i = threadIdx.x; i < group; i += blockDim.x) {
    const index_t d = from + i;
    const A gate = gate_of(op, t, d), weight = op.weight ? op.weight(d) : A(1);
    const A x = A(op.x(t, d)), dy = A(op.dy(t, d));
    const A slope = op.z ? activation_derivative(activation::silu, A(op.z(t, d))) : A(0);
    if (op.norm_before_gate) {
      const A uhat = x * rstd;
      op.dx(t, d) = V((dy * weight * gate - uhat * mean) * rstd);
      if (op.z) op.dz(t, d) = V(dy * uhat * weight * slope);
    } else {
      const A du = (dy * weight - x * gate * rstd * mean) * rstd;
      op.dx(t, d) = V(du * gate);
      if (op.z) op.dz(t, d) = V(du * x * slope);
    }
  }
}

template <class E>
struct gated_rms_norm_term {
  static constexpr const char* name = ops::gated_rms_norm_backward<E>::name;
  static constexpr int outputs = 1;
  using accum = typename E::accum;
  ops::gated_rms_norm_backward<E> op;
  index_t group;

  index_t rows() const { return op.x.size[0]; }
  index_t columns() const { return op.x.size[1]; }
  __device__ void add(index_t t, index_t d, accum (&sums)[outputs]) const {
    index_t index = d;
    take_index(index, group);
    const accum normed = accum(op.x(t, d)) * gate_of(op, t, d) * op.rstd(t, index);
    sums[0] = multiply_add(accum(op.dy(t, d)), normed, sums[0]);
  }
  __device__ accum* target(int, index_t d) const { return &op.dweight(d); }
};

}  // namespace kernels

template <class E, class X>
void execute(context<cuda>& ctx, const ops::rms_norm_backward<E, X>& op) {
  using rule = kernels::row_norm_backward_rule<E, X, ops::rms_norm_backward<E, X>>;
  if (kernels::launch_row_norm_backward(ctx, rule{op}, op.x.size[0], 1, op.x.size[1])) return;
  if (op.dweight) kernels::add_column_sums(ctx, kernels::rms_norm_term<E, X>{op});
  kernels::launch_rows(ctx, kernels::rms_norm_backward_kernel<E, X>, op.x.size[0], op.x.size[1],
                       op);
}
template <class E, class X>
void execute(context<cuda>& ctx, const ops::layer_norm_backward<E, X>& op) {
  using rule = kernels::row_norm_backward_rule<E, X, ops::layer_norm_backward<E, X>>;
  if (kernels::launch_row_norm_backward(ctx, rule{op}, op.x.size[0], 1, op.x.size[1])) return;
  if (op.dweight || op.dbias) kernels::add_column_sums(ctx, kernels::layer_norm_term<E, X>{op});
  kernels::launch_rows(ctx, kernels::layer_norm_backward_kernel<E, X>, op.x.size[0], op.x.size[1],
                       op);
}
template <class E>
void execute(context<cuda>& ctx, const ops::gated_rms_norm_backward<E>& op) {
  if (op.x.size[1] == 0) return;
  if (kernels::launch_gated_rms_norm_backward(ctx, op)) return;
  if (op.dweight) kernels::add_column_sums(ctx, kernels::gated_rms_norm_term<E>{op, op.group()});
  kernels::launch_rows(ctx, kernels::gated_rms_norm_backward_kernel<E>,
                       op.x.size[0] * (op.x.size[1] / op.group()), op.group(), op);
}

}  // namespace mlmamba::backend
