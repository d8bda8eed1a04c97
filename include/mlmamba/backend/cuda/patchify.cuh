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

}  // namespace kernels

template <class E>
void execute(context<cuda>& ctx, const ops::patchify<E>& op) {
  kernels::launch_elements(ctx, kernels::patchify_kernel<E>, op.y.count(), op);
}

}  // namespace mlmamba::backend
