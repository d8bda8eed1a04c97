// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Backward of softmax attention on a GPU: tiles on tensor cores in bf16 and f16; else one warp per
// query for dq, one per key for dk and dv.
#pragma once

#include "mlmamba/backend/cuda/attention.cuh"
#include "mlmamba/backend/cuda/attention_backward_tiles.cuh"
#include "mlmamba/backend/cuda/attention_backward_warpgroups.cuh"

namespace mlmamba::backend {

namespace kernels {

template <class E>
struct attention_backward_plan {
  static constexpr const char* name = ops::attention_backward<E>::name;
  ops::attention_backward<E> op;
  view<typename E::accum, 3, memory::device> delta;  // (B, H, T)

  /// Keys [0, n) count for query i.
  __device__ index_t visible(index_t i) const {
    const index_t keys = op.k.size[1], n = op.causal ? i + keys - op.q.size[1] + 1 : keys;
    return n < 0 ? 0 : n < keys ? n : keys;
  }
};

/// A warp per query.
template <class E>
__global__ void attention_delta_kernel(const attention_backward_plan<E> plan) {
  using A = typename E::accum;
  const auto& op = plan.op;
  index_t b = thread_index() / warp_size;
  if (b >= plan.delta.count()) return;  // all lanes of a warp agree
  const index_t i = take_index(b, op.q.size[1]), h = take_index(b, op.q.size[2]);
  A sum = 0;
  for (index_t c = lane_index(); c < op.q.size[3]; c += warp_size)
    sum = multiply_add(A(op.dy(b, i, h, c)), A(op.y(b, i, h, c)), sum);
  sum = warp_sum(sum);
  if (lane_index() == 0) plan.delta(b, h, i) = sum;
}

/// Rows of others, 32 at a time, in shared memory; + 1: lanes read one column.
template <class A, int Width>
struct attention_block {
  A at[warp_size][Width + 1];

  template <class From>
  __device__ void load(const From& from, index_t b, index_t h, index_t first) {
    const index_t width = from.size[3], rows = from.size[1];
    __syncthreads();  // everybody has read the block before
    for (index_t e = threadIdx.x; e < warp_size * width; e += blockDim.x) {
      index_t j = e;
      const index_t c = take_index(j, width);
      at[j][c] = first + j < rows ? A(from(b, first + j, h, c)) : A(0);
    }
    __syncthreads();
  }
  /// own . row of this lane
  __device__ A dot(const A* own, index_t width) const {
    A sum = 0;
    for (index_t c = 0; c < width; ++c) sum = multiply_add(own[c], at[lane_index()][c], sum);
    return sum;
  }
  /// y += sum over the rows j of (lane j's factor) row_j; a lane has elements lane + 32 r.
  template <int Per>
  __device__ void add(A (&y)[Per], A factor, index_t width) const {
    const int lane = lane_index();
    for (int j = 0; j < warp_size; ++j) {
      const A f = __shfl_sync(all_lanes, factor, j);
#pragma unroll
      for (int r = 0; r < Per; ++r)
        if (lane + r * warp_size < width) y[r] = multiply_add(f, at[j][lane + r * warp_size], y[r]);
    }
  }
};

/// Warps of a block, each with a query (or a key): as many as shared memory has room for.
template <class Per>
inline constexpr int attention_rows = Per::value <= 4 ? 8 : 4;

template <class Per, class E>
__global__ void __launch_bounds__(warp_size* attention_rows<Per>)
    attention_query_kernel(const attention_backward_plan<E> plan) {
  using A = typename E::accum;
  constexpr int rows = attention_rows<Per>, per = Per::value, widest = per * warp_size;
  __shared__ A qs[rows][widest], dys[rows][widest];
  __shared__ attention_block<A, widest> block;
  const auto& op = plan.op;
  const index_t length = op.q.size[1], width = op.q.size[3];
  index_t b = blockIdx.x;
  const index_t tile = take_index(b, (length + rows - 1) / rows), h = take_index(b, op.q.size[2]);
  const int lane = lane_index(), warp = warp_index();
  const index_t i = tile * rows + warp;
  const bool there = i < length;
  for (index_t c = lane; c < width; c += warp_size) {
    qs[warp][c] = there ? A(op.q(b, i, h, c)) : A(0);
    dys[warp][c] = there ? A(op.dy(b, i, h, c)) : A(0);
  }
  const A log_sum = there ? op.log_sum_exp(b, h, i) : A(0);
  const A delta = there ? plan.delta(b, h, i) : A(0);
  const index_t last = tile * rows + rows - 1;
  const index_t seen = there ? plan.visible(i) : 0, wanted = plan.visible(last);
  A dq[per] = {};
  for (index_t j0 = 0; j0 < wanted; j0 += warp_size) {
    block.load(op.v, b, h, j0);
    const A dp = block.dot(dys[warp], width);
    block.load(op.k, b, h, j0);
    const A s = block.dot(qs[warp], width);
    const A p = j0 + lane < seen ? math::exp(s * A(op.scale) - log_sum) : A(0);
    const A ds = j0 + lane < seen ? p * (dp - delta) * A(op.scale) : A(0);
    block.add(dq, ds, width);
  }
  if (!there) return;
#pragma unroll
  for (int r = 0; r < per; ++r)
    if (lane + r * warp_size < width)
      op.dq(b, i, h, lane + r * warp_size) = typename E::value(dq[r]);
}

template <class Per, class E>
__global__ void __launch_bounds__(warp_size* attention_rows<Per>)
    attention_key_kernel(const attention_backward_plan<E> plan) {
  using A = typename E::accum;
  constexpr int rows = attention_rows<Per>, per = Per::value, widest = per * warp_size;
  __shared__ A ks[rows][widest], vs[rows][widest];
  __shared__ attention_block<A, widest> block;
  const auto& op = plan.op;
  const index_t length = op.q.size[1], keys = op.k.size[1], width = op.q.size[3];
  index_t b = blockIdx.x;
  const index_t tile = take_index(b, (keys + rows - 1) / rows), h = take_index(b, op.q.size[2]);
  const int lane = lane_index(), warp = warp_index();
  const index_t j = tile * rows + warp;
  const bool there = j < keys;
  for (index_t c = lane; c < width; c += warp_size) {
    ks[warp][c] = there ? A(op.k(b, j, h, c)) : A(0);
    vs[warp][c] = there ? A(op.v(b, j, h, c)) : A(0);
  }
  // The first query that sees a key of this block.
  const index_t first = op.causal ? tile * rows - (keys - length) : 0;
  A dk[per] = {}, dv[per] = {};
  for (index_t i0 = first < 0 ? 0 : first / warp_size * warp_size; i0 < length; i0 += warp_size) {
    const index_t i = i0 + lane;
    const bool counts = there && i < length && j < plan.visible(i);
    const A log_sum = counts ? op.log_sum_exp(b, h, i) : A(0);
    const A delta = counts ? plan.delta(b, h, i) : A(0);
    block.load(op.q, b, h, i0);
    const A s = block.dot(ks[warp], width);
    block.load(op.dy, b, h, i0);
    const A dp = block.dot(vs[warp], width);
    const A p = counts ? math::exp(s * A(op.scale) - log_sum) : A(0);
    const A ds = counts ? p * (dp - delta) * A(op.scale) : A(0);
    block.add(dv, p, width);
    block.load(op.q, b, h, i0);
    block.add(dk, ds, width);
  }
  if (!there) return;
#pragma unroll
  for (int r = 0; r < per; ++r) {
    const index_t c = lane + r * warp_size;
    if (c >= width) continue;
    op.dk(b, j, h, c) = typename E::value(dk[r]);
    op.dv(b, j, h, c) = typename E::value(dv[r]);
  }
}

template <class Per, class E>
void launch_attention_backward(context<cuda>& ctx, const attention_backward_plan<E>& plan) {
  constexpr index_t rows = attention_rows<Per>;
  constexpr unsigned threads = warp_size * unsigned(rows);
  const auto& op = plan.op;
  const auto blocks = [&](index_t n) {
    return blocks_for(op.q.size[0] * op.q.size[2] * ((n + rows - 1) / rows), 1);
  };
  if (const unsigned n = blocks(op.q.size[1]); n > 0) {
    attention_query_kernel<Per, E><<<n, threads, 0, ctx.stream>>>(plan);
    launched(plan.name);
  }
  if (const unsigned n = blocks(op.k.size[1]); n > 0) {
    attention_key_kernel<Per, E><<<n, threads, 0, ctx.stream>>>(plan);
    launched(plan.name);
  }
}

}  // namespace kernels

template <class E>
void execute(context<cuda>& ctx, const ops::attention_backward<E>& op) {
  if constexpr (is_16_bit<typename E::value>) {
    if (kernels::fits_attention_tiles(op)) {
      using plan_t = kernels::attention_backward_tiles_plan<E>;
      auto frame = ctx.scratch.make_frame();
      const index_t most = plan_t::most_rows, padded = (op.q.size[1] + most - 1) / most * most;
      const auto numbers =
          ctx.scratch.template make<float>(shape<2>{{2, op.q.size[0] * op.q.size[2] * padded}});
      const plan_t plan{op, padded, numbers.data, numbers.data + numbers.stride[0]};
      if (!kernels::attention_backward_by_warpgroups(ctx, plan))
        kernels::attention_backward_by_tiles(ctx, plan);
      return;
    }
  }
  const index_t width = op.q.size[3];
  if (width > 256)
    fail<shape_error>("attention_backward: the head size is ", width,
                      "; wanted on cuda is at most 256");
  auto frame = ctx.scratch.make_frame();
  kernels::attention_backward_plan<E> plan{
      op, ctx.scratch.template make<typename E::accum>(op.log_sum_exp.shape())};
  kernels::launch_elements(ctx, kernels::attention_delta_kernel<E>,
                           plan.delta.count() * kernels::warp_size, plan);
  if (width <= 32) {
    kernels::launch_attention_backward<kernels::constant<1>>(ctx, plan);
  } else if (width <= 64) {
    kernels::launch_attention_backward<kernels::constant<2>>(ctx, plan);
  } else if (width <= 128) {
    kernels::launch_attention_backward<kernels::constant<4>>(ctx, plan);
  } else {
    kernels::launch_attention_backward<kernels::constant<8>>(ctx, plan);
  }
}

}  // namespace mlmamba::backend
