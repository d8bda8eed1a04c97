// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Pictures to rows of patches on a GPU: one thread per element.
#pragma once

#include "mlmamba/backend/cuda/launch.cuh"
#include "mlmamba/ops/patchify.hpp"

namespace mlmamba::backend {

namespace kernels {

template <class E>
__global__ void patchify_kernel(const ops::patchify<E> op) {
  index_t b = thread_index();
  if (b >= op.y.count()) return;
  const index_t p = op.patch, k = take_index(b, op.y.size[2]), token = take_index(b, op.y.size[1]);
  index_t channel = k, row = token;
  const index_t j = take_index(channel, p), i = take_index(channel, p);
  const index_t column = take_index(row, op.x.size[3] / p);
  op.y(b, token, k) = op.x(b, channel, row * p + i, column * p + j);
}

template <class E>
__global__ void patchify_backward_kernel(const ops::patchify_backward<E> op) {
  using V = typename E::value;
  index_t b = thread_index();
  if (b >= op.dx.count()) return;
  const index_t p = op.patch, x = take_index(b, op.dx.size[3]), y = take_index(b, op.dx.size[2]),
                channel = take_index(b, op.dx.size[1]);
  const index_t rows = op.dx.size[2] / p, columns = op.dx.size[3] / p;
  index_t row = y, column = x;
  const index_t i = take_index(row, p), j = take_index(column, p);
  op.dx(b, channel, y, x) = row < rows && column < columns
                                ? op.dy(b, row * columns + column, (channel * p + i) * p + j)
                                : V(typename E::accum(0));
}

}  // namespace kernels

template <class E>
void execute(context<cuda>& ctx, const ops::patchify<E>& op) {
  kernels::launch_elements(ctx, kernels::patchify_kernel<E>, op.y.count(), op);
}

template <class E>
void execute(context<cuda>& ctx, const ops::patchify_backward<E>& op) {
  kernels::launch_elements(ctx, kernels::patchify_backward_kernel<E>, op.dx.count(), op);
}

}  // namespace mlmamba::backend
