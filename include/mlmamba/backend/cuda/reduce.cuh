// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Reductions on a GPU.
#pragma once

#include "mlmamba/backend/cuda/column_sums.cuh"
#include "mlmamba/ops/reduce.hpp"
#include "mlmamba/ops/series.hpp"

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

/// Arrays whose sums of squares are added to one number, in their order.
template <class E>
struct sum_squares_plan {
  static constexpr const char* name = ops::sum_squares<E>::name;
  static constexpr int most = 128;  // parameters of a launch are at most 4 KB
  struct array {
    const typename E::accum* x;
    index_t n, first;  // its size; its first part
  };
  double *parts, *sums, *y;  // parts: of ops::sum_squares::block elements each; sums: of arrays
  index_t all = 0;           // parts
  int count = 0;
  array arrays[most];
};

template <class E>
__global__ void __launch_bounds__(block_threads)
    sum_squares_parts_kernel(const __grid_constant__ sum_squares_plan<E> plan) {
  __shared__ double shared[warp_size];
  constexpr index_t block = ops::sum_squares<E>::block;
  const auto& a = plan.arrays[last_before(plan.arrays, plan.count, index_t(blockIdx.x))];
  const index_t begin = (index_t(blockIdx.x) - a.first) * block;
  const index_t end = begin + block < a.n ? begin + block : a.n;
  double sum = 0;
  for (index_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
    const double v = double(a.x[i]);
    sum = multiply_add(v, v, sum);
  }
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) plan.parts[blockIdx.x] = sum;
}

/// A block adds the parts of an array.
template <class E>
__global__ void __launch_bounds__(block_threads)
    sum_squares_kernel(const __grid_constant__ sum_squares_plan<E> plan) {
  __shared__ double shared[warp_size];
  const int k = int(blockIdx.x);
  const index_t end = k + 1 < plan.count ? plan.arrays[k + 1].first : plan.all;
  double sum = 0;
  for (index_t i = plan.arrays[k].first + threadIdx.x; i < end; i += blockDim.x)
    sum += plan.parts[i];
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) plan.sums[k] = sum;
}
/// A thread adds the sums.
template <class E>
__global__ void sum_squares_total_kernel(const __grid_constant__ sum_squares_plan<E> plan) {
  double sum = *plan.y;
  for (int k = 0; k < plan.count; ++k) sum += plan.sums[k];
  *plan.y = sum;
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

/// A row in slices, a block each. The last of them to end has the last word.
template <class E, class X>
struct argmax_plan {
  struct part {
    accum_t<X> best;
    int at, unfit;
  };
  ops::argmax<E, X> op;
  part* parts = nullptr;  // (T, slices), if there are several
  int slices = 1;         // at most a warp
  int* arrivals = nullptr;

  __device__ void finish(index_t t, const part& all) const {
    op.index(t) = std::int32_t(all.at < 0 ? 0 : all.at);
    if (op.unfit)
      op.unfit(t) = all.unfit < int(op.x.size[1])       ? all.unfit
                    : all.best == -accum_t<X>(INFINITY) ? 0
                                                        : -1;
  }
};

template <class E, class X>
__global__ void argmax_kernel(const argmax_plan<E, X> plan) {
  using A = accum_t<X>;
  __shared__ A values[warp_size];
  __shared__ int places[warp_size];
  __shared__ bool is_last;
  constexpr int ahead = 8;  // elements that are under way
  const auto& op = plan.op;
  const index_t t = blockIdx.x / unsigned(plan.slices);
  const int slice = int(blockIdx.x % unsigned(plan.slices));
  const int columns = int(op.x.size[1]), threads = int(blockDim.x);
  const int begin = int(index_t(columns) * slice / plan.slices),
            end = int(index_t(columns) * (slice + 1) / plan.slices);
  A best = 0;
  int at = -1, unfit = columns;
  wait_for_launch_before();
  for (int from = begin + int(threadIdx.x); from < end; from += ahead * threads) {
    A x[ahead];
#pragma unroll
    for (int k = 0; k < ahead; ++k) {
      const int v = from + k * threads;
      x[k] = v < end ? A(op.x(t, v)) : -A(INFINITY);
    }
#pragma unroll
    for (int k = 0; k < ahead; ++k) {
      const int v = from + k * threads;
      if (v >= end) break;
      if (x[k] == x[k] && (at < 0 || x[k] > best)) best = x[k], at = v;
      if (!(x[k] < A(INFINITY)) && v < unfit) unfit = v;
    }
  }
  if (op.unfit) unfit = block_min(unfit);
  const auto best_of_warp = [&] {
    for (int o = warp_size / 2; o > 0; o /= 2) {
      const A x = __shfl_xor_sync(all_lanes, best, o);
      const int v = __shfl_xor_sync(all_lanes, at, o);
      if (beats(x, v, best, at)) best = x, at = v;
    }
  };
  best_of_warp();
  if (lane_index() == 0) values[warp_index()] = best, places[warp_index()] = at;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int w = 1; w < threads / warp_size; ++w)
      if (beats(values[w], places[w], best, at)) best = values[w], at = places[w];
    if (plan.slices == 1) {
      plan.finish(t, {best, at, unfit});
    } else {
      plan.parts[t * plan.slices + slice] = {best, at, unfit};
      __threadfence();
      is_last = atomicAdd(plan.arrivals + t * arrival_step, 1) == plan.slices - 1;
    }
  }
  if (plan.slices == 1) return;
  __syncthreads();
  if (!is_last || warp_index() != 0) return;
  __threadfence();
  const auto& part = plan.parts[t * plan.slices + min(lane_index(), plan.slices - 1)];
  best = part.best, at = part.at;
  best_of_warp();
  unfit = __reduce_min_sync(all_lanes, part.unfit);
  if (lane_index() != 0) return;
  plan.finish(t, {best, at, unfit});
  plan.arrivals[t * arrival_step] = 0;
}

}  // namespace kernels

template <class E>
void execute(context<cuda>& ctx, const ops::sum_rows<E>& op) {
  kernels::add_column_sums(ctx, kernels::sum_rows_term<E>{op});
}
template <class E>
bool prefers(const context<cuda>&, const ops::series<ops::sum_squares<E>>&) {
  return std::is_same_v<typename ops::sum_squares<E>::sum_type, double>;
}
template <class E>
requires std::same_as < typename ops::sum_squares<E>::sum_type,
double > void execute(context<cuda>& ctx, const ops::series<ops::sum_squares<E>>& op) {
  using namespace kernels;
  using plan_type = sum_squares_plan<E>;
  static_assert(sizeof(plan_type) <= 4096);
  const auto all = op.parts;
  for (std::size_t i = 0; i < all.size();) {
    plan_type plan;
    plan.y = all[i].y.data;
    for (; i < all.size() && plan.count < plan.most && all[i].y.data == plan.y; ++i) {
      const index_t n = all[i].x.size[0], some = (n + all[i].block - 1) / all[i].block;
      if (plan.count > 0 && plan.all + some > 0x7fffffff) break;
      if (n == 0) continue;
      plan.arrays[plan.count++] = {all[i].x.data, n, plan.all};
      plan.all += some;
    }
    if (plan.count == 0) continue;
    auto frame = ctx.scratch.make_frame();
    plan.parts = ctx.scratch.template make<double>(shape<1>{{plan.all}}).data;
    plan.sums = ctx.scratch.template make<double>(shape<1>{{index_t(plan.count)}}).data;
    launch_rows(ctx, sum_squares_parts_kernel<E>, plan.all, plan);
    launch_rows(ctx, sum_squares_kernel<E>, plan.count, plan);
    sum_squares_total_kernel<E><<<1, 1, 0, ctx.stream>>>(plan);
    launched(plan.name);
  }
}
template <class E>
requires std::same_as < typename ops::sum_squares<E>::sum_type,
double > void execute(context<cuda>& ctx, const ops::sum_squares<E>& op) {
  execute(ctx, ops::series<ops::sum_squares<E>>{std::span(&op, 1)});
}
template <class E, class X>
void execute(context<cuda>& ctx, const ops::argmax<E, X>& op) {
  if (op.x.size[0] == 0) return;
  using namespace kernels;
  using plan_type = argmax_plan<E, X>;
  // A vocabulary has many columns, and a step few rows.
  const index_t rows = op.x.size[0];
  const bool wide = op.x.size[1] > 8192;
  plan_type plan{op};
  auto frame = ctx.scratch.make_frame();
  if (wide && rows <= arrival_counts) {
    plan.slices = int(std::clamp<index_t>(ctx.multiprocessors / rows, 1, warp_size));
    plan.parts =
        ctx.scratch.template make<typename plan_type::part>(shape<1>{{rows * plan.slices}}).data;
    plan.arrivals = ctx.arrivals.data();
  }
  const unsigned threads = wide && plan.slices < 8 ? 1024 : block_threads;
  launch_early(ctx, op.name, argmax_kernel<E, X>, blocks_for(rows * plan.slices, 1), threads, 0,
               plan);
}

}  // namespace mlmamba::backend
