// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Backward of pooling and of the depthwise convolution of a grid of tokens on a GPU.
#pragma once

#include "mlmamba/backend/cuda/column_sums.cuh"
#include "mlmamba/ops/grid.hpp"

namespace mlmamba::backend {

namespace kernels {

template <class E>
__global__ void adaptive_pool_backward_kernel(const ops::adaptive_pool_backward<E> op) {
  using A = typename E::accum;
  index_t b = thread_index();
  if (b >= op.dx.count()) return;
  const index_t d = take_index(b, op.dx.size[2]), column = take_index(b, op.columns),
                row = take_index(b, op.rows);
  // The windows that hold a cell are the window of that cell over the windows.
  const ops::pool_window is(row, op.out_rows, op.rows), js(column, op.out_columns, op.columns);
  A sum = 0;
  for (index_t i = is.from; i < is.to; ++i) {
    const ops::pool_window r(i, op.rows, op.out_rows);
    for (index_t j = js.from; j < js.to; ++j) {
      const ops::pool_window c(j, op.columns, op.out_columns);
      sum += A(op.dy(b, i * op.out_columns + j, d)) / A((r.to - r.from) * (c.to - c.from));
    }
  }
  op.dx(b, row * op.columns + column, d) = typename E::value(sum);
}

template <class E>
__global__ void depthwise_conv2d_backward_kernel(const ops::depthwise_conv2d_backward<E> op) {
  using A = typename E::accum;
  index_t b = thread_index();
  if (b >= op.dx.count()) return;
  const index_t d = take_index(b, op.dx.size[2]), column = take_index(b, op.columns),
                row = take_index(b, op.rows);
  A sum = 0;
  for (index_t u = 0; u < 3; ++u) {
    for (index_t v = 0; v < 3; ++v) {
      const index_t r = row - (u - 1), c = column - (v - 1);  // the output that saw this input
      if (r < 0 || r >= op.rows || c < 0 || c >= op.columns) continue;
      sum = multiply_add(op.weight(d, u, v), A(op.dy(b, r * op.columns + c, d)), sum);
    }
  }
  op.dx(b, row * op.columns + column, d) = typename E::value(sum);
}

template <class E>
struct depthwise_conv2d_term {
  static constexpr const char* name = ops::depthwise_conv2d_backward<E>::name;
  static constexpr int outputs = 10;  // dweight, then dbias
  using accum = typename E::accum;
  ops::depthwise_conv2d_backward<E> op;

  index_t rows() const { return op.x.size[0] * op.x.size[1]; }
  index_t columns() const { return op.x.size[2]; }
  __device__ void add(index_t b, index_t d, accum (&sums)[outputs]) const {
    const index_t token = take_index(b, op.x.size[1]);
    index_t row = token;
    const index_t column = take_index(row, op.columns);
    const accum dy = accum(op.dy(b, token, d));
    sums[9] += dy;
#pragma unroll
    for (int k = 0; k < 9; ++k) {
      const index_t r = row + k / 3 - 1, c = column + k % 3 - 1;
      if (r >= 0 && r < op.rows && c >= 0 && c < op.columns)
        sums[k] = multiply_add(dy, accum(op.x(b, r * op.columns + c, d)), sums[k]);
    }
  }
  __device__ accum* target(int k, index_t d) const {
    if (k == 9) return op.dbias ? &op.dbias(d) : nullptr;
    return op.dweight ? &op.dweight(d, k / 3, k % 3) : nullptr;
  }
};

}  // namespace kernels

template <class E>
void execute(context<cuda>& ctx, const ops::adaptive_pool_backward<E>& op) {
  kernels::launch_elements(ctx, kernels::adaptive_pool_backward_kernel<E>, op.dx.count(), op);
}
template <class E>
void execute(context<cuda>& ctx, const ops::depthwise_conv2d_backward<E>& op) {
  if (op.dweight || op.dbias) kernels::add_column_sums(ctx, kernels::depthwise_conv2d_term<E>{op});
  kernels::launch_elements(ctx, kernels::depthwise_conv2d_backward_kernel<E>, op.dx.count(), op);
}

}  // namespace mlmamba::backend
