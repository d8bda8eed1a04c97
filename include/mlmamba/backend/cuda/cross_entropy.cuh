// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Cross-entropy on a GPU: one block per row; a label that is out of range gives NaN.
#pragma once

#include "mlmamba/backend/cuda/launch.cuh"
#include "mlmamba/ops/cross_entropy.hpp"

namespace mlmamba::backend {

namespace kernels {

/// The largest logit of row t, and the sum of exp(logit - largest), by one block.
template <class Op, class A>
__device__ void logit_sums(const Op& op, index_t t, A* shared, A& largest, A& sum) {
  const index_t classes = op.logits.size[1];
  largest = A(op.logits(t, 0));
  for (index_t v = threadIdx.x; v < classes; v += blockDim.x) {
    const A x = A(op.logits(t, v));
    largest = x > largest ? x : largest;
  }
  largest = block_max(largest, shared);
  sum = 0;
  for (index_t v = threadIdx.x; v < classes; v += blockDim.x)
    sum += math::exp(A(op.logits(t, v)) - largest);
  sum = block_sum(sum, shared);
}

template <class E>
__global__ void cross_entropy_kernel(const ops::cross_entropy<E> op) {
  using A = typename E::accum;
  __shared__ A shared[warp_size];
  const index_t t = blockIdx.x, classes = op.logits.size[1], label = op.label(t);
  if (label == op.ignore_index || label < 0 || label >= classes) {
    if (threadIdx.x == 0) op.loss(t) = label == op.ignore_index ? A(0) : A(NAN);
    return;
  }
  A largest, sum;
  logit_sums(op, t, shared, largest, sum);
  if (threadIdx.x == 0) op.loss(t) = largest + math::log(sum) - A(op.logits(t, label));
}

/// dlogits may be logits: nobody writes before all have read for the sum.
template <class E>
__global__ void cross_entropy_backward_kernel(const ops::cross_entropy_backward<E> op) {
  using A = typename E::accum;
  using V = typename E::value;
  __shared__ A shared[warp_size];
  const index_t t = blockIdx.x, classes = op.logits.size[1], label = op.label(t);
  const bool ignored = label == op.ignore_index;
  if (ignored || label < 0 || label >= classes) {
    for (index_t v = threadIdx.x; v < classes; v += blockDim.x)
      op.dlogits(t, v) = V(ignored ? A(0) : A(NAN));
    return;
  }
  A largest, sum;
  logit_sums(op, t, shared, largest, sum);
  const A scale = op.dloss ? op.dloss(t) : A(op.scale);
  for (index_t v = threadIdx.x; v < classes; v += blockDim.x) {
    const A p = math::exp(A(op.logits(t, v)) - largest) / sum;
    op.dlogits(t, v) = V(scale * (p - A(v == label ? 1 : 0)));
  }
}

}  // namespace kernels

template <class E>
void execute(context<cuda>& ctx, const ops::cross_entropy<E>& op) {
  kernels::launch_rows(ctx, kernels::cross_entropy_kernel<E>, op.logits.size[0], op);
}

template <class E>
void execute(context<cuda>& ctx, const ops::cross_entropy_backward<E>& op) {
  kernels::launch_rows(ctx, kernels::cross_entropy_backward_kernel<E>, op.logits.size[0], op);
}

}  // namespace mlmamba::backend
