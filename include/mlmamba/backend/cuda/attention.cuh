// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Softmax attention on a GPU: tiles on tensor cores in bf16 and f16; else one warp per query, keys
// and values in blocks of 32.
#pragma once

#include "mlmamba/backend/cuda/attention_warpgroups.cuh"

namespace mlmamba::backend {

namespace kernels {

/// Per = elements of a head that a lane sums: head sizes up to 32 Per. The block's eight queries
/// are of one head. Keys come in ascending blocks of 32, whatever the other queries are; the sums
/// are rescaled whenever a block raises the maximum.
template <class Per, class E>
__global__ void __launch_bounds__(block_threads) attention_kernel(const ops::attention<E> op) {
  using A = typename E::accum;
  constexpr int queries = block_threads / warp_size, keys = warp_size, per = Per::value,
                widest = per * warp_size;
  __shared__ A qs[queries][widest];
  __shared__ A ks[keys][widest + 1];  // first keys, then values; + 1: lanes read one column

  const index_t length = op.q.size[1], heads = op.q.size[2], width = op.q.size[3],
                sources = op.k.size[1];
  index_t b = blockIdx.x;
  const index_t tile = take_index(b, (length + queries - 1) / queries), h = take_index(b, heads);
  const int lane = lane_index(), warp = warp_index();
  const index_t i = tile * queries + warp;
  const bool there = i < length;
  const auto load = [&](const auto& from, index_t j0) {
    __syncthreads();  // everybody has read the block before
    for (index_t e = threadIdx.x; e < keys * width; e += block_threads) {
      const index_t j = e / width, c = e % width;
      ks[j][c] = j0 + j < sources ? A(from(b, j0 + j, h, c)) : A(0);
    }
    __syncthreads();
  };

  for (index_t c = lane; c < width; c += warp_size)
    qs[warp][c] = there ? A(op.q(b, i, h, c)) : A(0);
  A y[per] = {}, largest = A(-INFINITY), sum = 0;
  // Keys [0, seen) count for query i, [0, wanted) for some query of the block.
  const index_t shift = sources - length;
  const auto visible = [&](index_t query) {
    const index_t n = op.causal ? query + shift + 1 : sources;
    return n < 0 ? 0 : n < sources ? n : sources;
  };
  const index_t seen = there ? visible(i) : 0, wanted = visible(tile * queries + queries - 1);

  for (index_t j0 = 0; j0 < wanted; j0 += keys) {
    load(op.k, j0);
    const bool counts = j0 + lane < seen;
    A s = 0;
    for (index_t c = 0; c < width; ++c) s = multiply_add(qs[warp][c], ks[lane][c], s);
    s = counts ? s * A(op.scale) : A(-INFINITY);
    const A block_largest = warp_max(s), before = largest;
    if (block_largest > largest) largest = block_largest;
    const A p = counts ? math::exp(s - largest) : A(0);
    const A rescale = before == largest ? A(1) : math::exp(before - largest);
    sum = sum * rescale + warp_sum(p);
    for (int r = 0; r < per; ++r) y[r] *= rescale;

    load(op.v, j0);
    const int block_seen = int(seen - j0 < keys ? seen - j0 : index_t(keys));
    for (int j = 0; j < block_seen; ++j) {
      const A pj = __shfl_sync(all_lanes, p, j);
#pragma unroll
      for (int r = 0; r < per; ++r)
        if (lane + r * warp_size < width)
          y[r] = multiply_add(pj, ks[j][lane + r * warp_size], y[r]);
    }
  }

  if (!there) return;
  const bool sees_any = seen > 0;
#pragma unroll
  for (int r = 0; r < per; ++r) {
    const index_t c = lane + r * warp_size;
    if (c < width) op.y(b, i, h, c) = typename E::value(sees_any ? y[r] / sum : A(0));
  }
  if (op.log_sum_exp && lane == 0)
    op.log_sum_exp(b, h, i) = sees_any ? largest + math::log(sum) : A(-INFINITY);
}

}  // namespace kernels

template <class E>
void execute(context<cuda>& ctx, const ops::attention<E>& op) {
  if constexpr (is_16_bit<typename E::value>) {
    if (kernels::fits_attention_tiles(op)) {
      if (!kernels::attention_by_warpgroups(ctx, op)) kernels::attention_by_tiles(ctx, op);
      return;
    }
  }
  constexpr index_t queries = kernels::block_threads / kernels::warp_size;
  const index_t width = op.q.size[3], tiles = (op.q.size[1] + queries - 1) / queries;
  const unsigned blocks = kernels::blocks_for(op.q.size[0] * op.q.size[2] * tiles, 1);
  if (blocks == 0) return;
  const auto launch = [&](auto per) {
    kernels::attention_kernel<decltype(per), E>
        <<<blocks, kernels::block_threads, 0, ctx.stream>>>(op);
    kernels::launched(op.name);
  };
  if (width <= 32) {
    launch(kernels::constant<1>{});
  } else if (width <= 64) {
    launch(kernels::constant<2>{});
  } else if (width <= 128) {
    launch(kernels::constant<4>{});
  } else if (width <= 256) {
    launch(kernels::constant<8>{});
  } else {
    fail<shape_error>("attention: the head size is ", width, "; wanted on cuda is at most 256");
  }
}

}  // namespace mlmamba::backend
