// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Pooling, pixel shuffle and depthwise convolution of a grid of tokens on a GPU: one thread per
// element of the result.
#pragma once

#include "mlmamba/backend/cuda/launch.cuh"
#include "mlmamba/ops/grid.hpp"

namespace mlmamba::backend {

namespace kernels {

template <class E>
__global__ void adaptive_pool_kernel(const ops::adaptive_pool<E> op) {
  using A = typename E::accum;
  index_t b = thread_index();
  if (b >= op.y.count()) return;
  const index_t d = take_index(b, op.y.size[2]), j = take_index(b, op.out_columns),
                i = take_index(b, op.out_rows);
  const ops::pool_window r(i, op.rows, op.out_rows), c(j, op.columns, op.out_columns);
  A sum = 0;
  for (index_t row = r.from; row < r.to; ++row)
    for (index_t column = c.from; column < c.to; ++column)
      sum += A(op.x(b, row * op.columns + column, d));
  op.y(b, i * op.out_columns + j, d) =
      typename E::value(sum / A((r.to - r.from) * (c.to - c.from)));
}

template <class E>
__global__ void pixel_shuffle_kernel(const ops::pixel_shuffle<E> op) {
  const auto& fine = op.inverse ? op.y.size : op.x.size;
  index_t b = thread_index();
  if (b >= op.x.count()) return;
  const index_t d = take_index(b, fine[2]), column = take_index(b, op.columns),
                row = take_index(b, op.rows), f = op.factor;
  const index_t token = (row / f) * (op.columns / f) + column / f;
  const index_t channel = ((row % f) * f + column % f) * fine[2] + d;
  if (op.inverse) {
    op.y(b, row * op.columns + column, d) = op.x(b, token, channel);
  } else {
    op.y(b, token, channel) = op.x(b, row * op.columns + column, d);
  }
}

template <class E>
__global__ void depthwise_conv2d_kernel(const ops::depthwise_conv2d<E> op) {
  using A = typename E::accum;
  index_t b = thread_index();
  if (b >= op.y.count()) return;
  const index_t d = take_index(b, op.y.size[2]), column = take_index(b, op.columns),
                row = take_index(b, op.rows);
  A sum = op.bias ? op.bias(d) : A(0);
  for (index_t u = 0; u < 3; ++u) {
    for (index_t v = 0; v < 3; ++v) {
      const index_t r = row + u - 1, c = column + v - 1;
      if (r < 0 || r >= op.rows || c < 0 || c >= op.columns) continue;
      sum = multiply_add(op.weight(d, u, v), A(op.x(b, r * op.columns + c, d)), sum);
    }
  }
  op.y(b, row * op.columns + column, d) = typename E::value(sum);
}

}  // namespace kernels

template <class E>
void execute(context<cuda>& ctx, const ops::adaptive_pool<E>& op) {
  kernels::launch_elements(ctx, kernels::adaptive_pool_kernel<E>, op.y.count(), op);
}
template <class E>
void execute(context<cuda>& ctx, const ops::pixel_shuffle<E>& op) {
  kernels::launch_elements(ctx, kernels::pixel_shuffle_kernel<E>, op.x.count(), op);
}
template <class E>
void execute(context<cuda>& ctx, const ops::depthwise_conv2d<E>& op) {
  kernels::launch_elements(ctx, kernels::depthwise_conv2d_kernel<E>, op.y.count(), op);
}

}  // namespace mlmamba::backend
