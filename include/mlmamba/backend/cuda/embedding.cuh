// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Rows of a table on a GPU; an index outside the table gives a row of NaN.
#pragma once

#include "mlmamba/backend/cuda/launch.cuh"
#include "mlmamba/ops/embedding.hpp"

namespace mlmamba::backend {

namespace kernels {

template <class E>
__global__ void embedding_kernel(const ops::embedding<E> op) {
  using A = typename E::accum;
  index_t t = thread_index();
  if (t >= op.y.count()) return;
  wait_for_launch_before();
  const index_t d = take_index(t, op.y.size[1]), row = op.index(t);
  const bool known = row >= 0 && row < op.table.size[0];
  op.y(t, d) = typename E::value(known ? A(op.table(row, d)) : A(NAN));
}

}  // namespace kernels

template <class E>
void execute(context<cuda>& ctx, const ops::embedding<E>& op) {
  using namespace kernels;
  launch_early(ctx, op.name, embedding_kernel<E>, blocks_for(op.y.count(), block_threads),
               block_threads, 0, op);
}

}  // namespace mlmamba::backend
