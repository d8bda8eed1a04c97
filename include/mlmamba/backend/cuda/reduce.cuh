// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Reductions on a GPU.
#pragma once

#include "mlmamba/backend/cuda/launch.cuh"
#include "mlmamba/ops/reduce.hpp"

namespace mlmamba::backend {

namespace kernels {

template <class E>
__global__ void sum_rows_kernel(const ops::sum_rows<E> op) {
  const index_t d = thread_index();
  if (d >= op.x.size[1]) return;
  typename E::accum sum = op.y(d);
  for (index_t t = 0; t < op.x.size[0]; ++t) sum += typename E::accum(op.x(t, d));
  op.y(d) = sum;
}

// A candidate beats another if it is larger, or equal and earlier. NaN is no candidate; in a row
// without candidates the first element is taken.
template <class A>
__device__ bool beats(A v, index_t i, A best, index_t at) {
  return at < 0 ? i >= 0 : i >= 0 && (v > best || (v == best && i < at));
}

template <class E, class X>
__global__ void argmax_kernel(const ops::argmax<E, X> op) {
  using A = accum_t<X>;
  __shared__ A values[warp_size];
  __shared__ index_t places[warp_size];
  const index_t t = blockIdx.x;
  A best = 0;
  index_t at = -1;
  for (index_t v = threadIdx.x; v < op.x.size[1]; v += blockDim.x) {
    const A x = A(op.x(t, v));
    if (x == x && beats(x, v, best, at)) best = x, at = v;
  }
  for (int o = warp_size / 2; o > 0; o /= 2) {
    const A x = __shfl_xor_sync(all_lanes, best, o);
    const index_t v = __shfl_xor_sync(all_lanes, at, o);
    if (beats(x, v, best, at)) best = x, at = v;
  }
  if (lane_index() == 0) values[warp_index()] = best, places[warp_index()] = at;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < int(blockDim.x) / warp_size; ++w)
    if (beats(values[w], places[w], best, at)) best = values[w], at = places[w];
  op.index(t) = std::int32_t(at < 0 ? 0 : at);
}

}  // namespace kernels

template <class E>
void execute(context<cuda>& ctx, const ops::sum_rows<E>& op) {
  kernels::launch_elements(ctx, kernels::sum_rows_kernel<E>, op.x.size[1], op);
}
template <class E, class X>
void execute(context<cuda>& ctx, const ops::argmax<E, X>& op) {
  kernels::launch_rows(ctx, kernels::argmax_kernel<E, X>, op.x.size[0], op);
}

}  // namespace mlmamba::backend
