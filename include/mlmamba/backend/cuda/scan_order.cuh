// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Scan orders of a grid of tokens on a GPU: one thread per element.
#pragma once

#include "mlmamba/backend/cuda/launch.cuh"
#include "mlmamba/ops/scan_order.hpp"

namespace mlmamba::backend {

namespace kernels {

template <class E>
__global__ void scan_order_kernel(const ops::scan_order<E> op) {
  index_t b = thread_index();
  if (b >= op.y.count()) return;
  const index_t d = take_index(b, op.y.size[2]), k = take_index(b, op.y.size[1]);
  const index_t source = ops::scan_source(op.direction, k, op.grid_rows, op.grid_columns);
  if (op.inverse) {
    op.y(b, source, d) = op.x(b, k, d);
  } else {
    op.y(b, k, d) = op.x(b, source, d);
  }
}

}  // namespace kernels

template <class E>
void execute(context<cuda>& ctx, const ops::scan_order<E>& op) {
  kernels::launch_elements(ctx, kernels::scan_order_kernel<E>, op.y.count(), op);
}

}  // namespace mlmamba::backend
