// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Cross-entropy on a GPU: one block per row; a label that is out of range gives NaN.
#pragma once

#include <limits>

#include "mlmamba/backend/cuda/pieces.cuh"
#include "mlmamba/ops/cross_entropy.hpp"

namespace mlmamba::backend {

namespace kernels {

/// body(piece, first class) for this thread's pieces of row t.
template <class Count, class Op, class Body>
__device__ void for_each_logit_piece(const Op& op, index_t t, const Body& body) {
  constexpr int count = Count::value;
  const index_t classes = op.logits.size[1], step = index_t(blockDim.x) * count;
#pragma unroll 4
  for (index_t v = index_t(threadIdx.x) * count; v < classes; v += step) {
    accum_t<std::remove_cvref_t<decltype(op.logits(t, v))>> x[count];
    read_piece(x, &op.logits(t, v));
    body(x, v);
  }
}
/// exp(x) in the precision that a result of type V keeps.
template <class V, class A>
__device__ A exp_as(A x) {
  if constexpr (is_16_bit<V> && std::is_same_v<A, float>) {
    return power_of_2(1.44269504f * x);
  } else {
    return math::exp(x);
  }
}

/// Not minus infinity, which less itself is NaN.
template <class A>
inline constexpr A lowest_number = std::numeric_limits<A>::lowest();

/// The largest logit of row t, and the sum of exp(logit - largest), by one block that reads them
/// once: where a thread meets a larger one, its sum so far is scaled.
template <class V, class Count, class Op, class A>
__device__ void logit_sums(const Op& op, index_t t, A* shared, A& largest, A& sum) {
  A most = lowest_number<A>, own = 0;
  for_each_logit_piece<Count>(op, t, [&](const auto& x, index_t) {
    A here = most;
#pragma unroll
    for (A v : x) here = v > here ? v : here;
    if (here > most) own *= exp_as<V>(most - here), most = here;
#pragma unroll
    for (A v : x) own += exp_as<V>(v - most);
  });
  largest = block_max(most, shared);
  sum = block_sum(own * exp_as<V>(most - largest), shared);
}

template <class Count, class E>
__global__ void cross_entropy_kernel(const ops::cross_entropy<E> op) {
  using A = typename E::accum;
  __shared__ A shared[warp_size];
  const index_t t = blockIdx.x, classes = op.logits.size[1], label = op.label(t);
  if (label == op.ignore_index || label < 0 || label >= classes) {
    if (threadIdx.x == 0) op.loss(t) = label == op.ignore_index ? A(0) : A(NAN);
    return;
  }
  A largest, sum;
  logit_sums<typename E::value, Count>(op, t, shared, largest, sum);
  if (threadIdx.x == 0) op.loss(t) = largest + math::log(sum) - A(op.logits(t, label));
}

/// dlogits may be logits: nobody writes before all have read for the sum. The row is read twice,
/// the second time from the cache.
template <class Count, class E>
__global__ void cross_entropy_backward_kernel(const ops::cross_entropy_backward<E> op) {
  using A = typename E::accum;
  using V = typename E::value;
  constexpr int count = Count::value;
  __shared__ A shared[warp_size];
  const index_t t = blockIdx.x, classes = op.logits.size[1], label = op.label(t);
  const bool ignored = label == op.ignore_index;
  if (ignored || label < 0 || label >= classes) {
    for (index_t v = threadIdx.x; v < classes; v += blockDim.x)
      op.dlogits(t, v) = V(ignored ? A(0) : A(NAN));
    return;
  }
  A largest, sum;
  logit_sums<V, Count>(op, t, shared, largest, sum);
  const A scale = op.dloss ? op.dloss(t) : A(op.scale), part = A(1) / sum;
  for_each_logit_piece<Count>(op, t, [&](auto& x, index_t v) {
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const A p = exp_as<V>(x[i] - largest) * part;
      x[i] = scale * (p - A(v + i == label ? 1 : 0));
    }
    write_piece(&op.dlogits(t, v), x);
  });
}

/// A block for each row; `pieces`: may logits be read in them?
template <class E, class Op>
void launch_logits(context<cuda>& ctx, const Op& op, void (*by_piece)(Op), void (*one_by_one)(Op),
                   bool pieces) {
  if (op.logits.size[0] == 0) return;
  // Many threads on few rows: what a row's second reading finds in the cache.
  const unsigned threads = op.logits.size[1] < 8192 ? block_threads : 1024;
  (pieces ? by_piece
          : one_by_one)<<<blocks_for(op.logits.size[0], 1), threads, 0, ctx.stream>>>(op);
  launched(op.name);
}
template <class V>
using logit_piece = constant<16 / int(sizeof(V))>;

}  // namespace kernels

template <class E>
void execute(context<cuda>& ctx, const ops::cross_entropy<E>& op) {
  using count = kernels::logit_piece<typename E::value>;
  kernels::launch_logits<E>(ctx, op, kernels::cross_entropy_kernel<count, E>,
                            kernels::cross_entropy_kernel<kernels::constant<1>, E>,
                            kernels::in_pieces(op.logits));
}

template <class E>
void execute(context<cuda>& ctx, const ops::cross_entropy_backward<E>& op) {
  using count = kernels::logit_piece<typename E::value>;
  kernels::launch_logits<E>(ctx, op, kernels::cross_entropy_backward_kernel<count, E>,
                            kernels::cross_entropy_backward_kernel<kernels::constant<1>, E>,
                            kernels::in_pieces(op.logits) && kernels::in_pieces(op.dlogits));
}

}  // namespace mlmamba::backend
