// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Reductions on a GPU.
#pragma once

#include "mlmamba/backend/cuda/column_sums.cuh"
#include "mlmamba/ops/reduce.hpp"

namespace mlmamba::backend {

namespace kernels {

template <class E>
struct sum_rows_term {
  static constexpr const char* name = ops::sum_rows<E>::name;
  static constexpr int outputs = 1;
  using accum = typename E::accum;
  ops::sum_rows<E> op;

  index_t rows() const { return op.x.size[0]; }
  index_t columns() const { return op.x.size[1]; }
  __device__ void add(index_t t, index_t d, accum (&sums)[outputs]) const {
    sums[0] += accum(op.x(t, d));
  }
  __device__ accum* target(int, index_t d) const { return &op.y(d); }
};

template <class E>
struct sum_squares_plan {
  static constexpr const char* name = ops::sum_squares<E>::name;
  ops::sum_squares<E> op;
  view<double, 1, memory::device> parts;  // of ops::sum_squares::block elements each
};

template <class E>
__global__ void sum_squares_parts_kernel(const sum_squares_plan<E> plan) {
  __shared__ double shared[warp_size];
  constexpr index_t block = ops::sum_squares<E>::block;
  const auto& x = plan.op.x;
  const index_t begin = index_t(blockIdx.x) * block;
  const index_t end = begin + block < x.size[0] ? begin + block : x.size[0];
  double sum = 0;
  for (index_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
    const double v = double(x(i));
    sum = multiply_add(v, v, sum);
  }
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) plan.parts(index_t(blockIdx.x)) = sum;
}

/// One block adds the parts.
template <class E>
__global__ void sum_squares_kernel(const sum_squares_plan<E> plan) {
  __shared__ double shared[warp_size];
  double sum = 0;
  for (index_t i = threadIdx.x; i < plan.parts.size[0]; i += blockDim.x) sum += plan.parts(i);
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) plan.op.y(0) += sum;
}

// A candidate beats another if it is larger, or equal and earlier. NaN is no candidate; in a row
// without candidates the first element is taken.
template <class A>
__device__ bool beats(A v, int i, A best, int at) {
  return at < 0 ? i >= 0 : i >= 0 && (v > best || (v == best && i < at));
}

__device__ inline int block_min(int v) {
  __shared__ int shared[warp_size];
  v = __reduce_min_sync(all_lanes, v);
  if (lane_index() == 0) shared[warp_index()] = v;
  __syncthreads();
  for (int w = 0; w < int(blockDim.x) / warp_size; ++w) v = shared[w] < v ? shared[w] : v;
  return v;
}

template <class E, class X>
__global__ void argmax_kernel(const ops::argmax<E, X> op) {
  using A = accum_t<X>;
  __shared__ A values[warp_size];
  __shared__ int places[warp_size];
  constexpr int ahead = 8;  // elements that are under way
  const index_t t = blockIdx.x;
  A best = 0;
  int at = -1;
  const int columns = int(op.x.size[1]), threads = int(blockDim.x);
  int unfit = columns;
  for (int from = int(threadIdx.x); from < columns; from += ahead * threads) {
    A x[ahead];
#pragma unroll
    for (int k = 0; k < ahead; ++k) {
      const int v = from + k * threads;
      x[k] = v < columns ? A(op.x(t, v)) : -A(INFINITY);
    }
#pragma unroll
    for (int k = 0; k < ahead; ++k) {
      const int v = from + k * threads;
      if (v >= columns) break;
      if (x[k] == x[k] && (at < 0 || x[k] > best)) best = x[k], at = v;
      if (!(x[k] < A(INFINITY)) && v < unfit) unfit = v;
    }
  }
  if (op.unfit) unfit = block_min(unfit);
  for (int o = warp_size / 2; o > 0; o /= 2) {
    const A x = __shfl_xor_sync(all_lanes, best, o);
    const int v = __shfl_xor_sync(all_lanes, at, o);
    if (beats(x, v, best, at)) best = x, at = v;
  }
  if (lane_index() == 0) values[warp_index()] = best, places[warp_index()] = at;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < int(blockDim.x) / warp_size; ++w)
    if (beats(values[w], places[w], best, at)) best = values[w], at = places[w];
  op.index(t) = std::int32_t(at < 0 ? 0 : at);
  if (op.unfit) op.unfit(t) = unfit < columns ? unfit : best == -A(INFINITY) ? 0 : -1;
}

}  // namespace kernels

template <class E>
void execute(context<cuda>& ctx, const ops::sum_rows<E>& op) {
  kernels::add_column_sums(ctx, kernels::sum_rows_term<E>{op});
}
template <class E>
requires std::same_as < typename ops::sum_squares<E>::sum_type,
double > void execute(context<cuda>& ctx, const ops::sum_squares<E>& op) {
  if (op.x.size[0] == 0) return;
  auto frame = ctx.scratch.make_frame();
  const index_t parts = (op.x.size[0] + op.block - 1) / op.block;
  kernels::sum_squares_plan<E> plan{op, ctx.scratch.template make<double>(shape<1>{{parts}})};
  kernels::launch_rows(ctx, kernels::sum_squares_parts_kernel<E>, parts, plan);
  kernels::launch_rows(ctx, kernels::sum_squares_kernel<E>, 1, plan);
}
template <class E, class X>
void execute(context<cuda>& ctx, const ops::argmax<E, X>& op) {
  if (op.x.size[0] == 0) return;
  // A vocabulary has many columns, and a step few rows.
  const unsigned threads = op.x.size[1] > 8192 ? 1024 : kernels::block_threads;
  kernels::argmax_kernel<E, X>
      <<<kernels::blocks_for(op.x.size[0], 1), threads, 0, ctx.stream>>>(op);
  kernels::launched(op.name);
}

}  // namespace mlmamba::backend
