// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Gradients of the rows of a table on a GPU: tokens in the order of their indices, in chunks; an
// index outside the table is ignored.
#pragma once

#include <algorithm>

#include "mlmamba/backend/cuda/launch.cuh"
#include "mlmamba/ops/embedding.hpp"

namespace mlmamba::backend {

namespace kernels {

inline constexpr int embedding_chunk = 64;

/// A few launches, so that a row that occurs often has many blocks, and sums have one order:
///   1. the tokens sorted by index, then time (two launches)
///   2. chunks of 64 sorted tokens: runs of one index that are in one chunk are added to the table,
///      others leave what they have in this chunk
///   3. runs over several chunks: the chunk where one begins adds what all have left
template <class E>
struct embedding_backward_plan {
  static constexpr const char* name = ops::embedding_backward<E>::name;
  ops::embedding_backward<E> op;
  view<std::int32_t, 1, memory::device> place;      // (T): of a token among the sorted ones
  view<std::int32_t, 1, memory::device> sorted;     // (T): tokens
  view<typename E::accum, 3, memory::device> left;  // (chunks, 2, D): came here, goes on

  __device__ index_t row(index_t i) const { return op.index(sorted(i)); }
  /// Do sorted tokens i - 1 and i share a row?
  __device__ bool joined(index_t i) const {
    return i > 0 && i < sorted.size[0] && row(i - 1) == row(i);
  }
  __device__ bool known(index_t r) const { return r >= 0 && r < op.dtable.size[0]; }
};

inline constexpr index_t embedding_share = 1024;  ///< tokens that a block compares its own with

/// A token's place is the number of tokens before it: all pairs are compared, which up to 10^5
/// tokens is less work than their sums. A block has 256 tokens and a share of the others; counts
/// are whole numbers, so that the order in which shares are added is nobody's concern.
template <class E>
__global__ void __launch_bounds__(block_threads)
    embedding_place_kernel(const embedding_backward_plan<E> plan) {
  __shared__ std::int32_t others[embedding_share];
  const auto& index = plan.op.index;
  const index_t tokens = index.size[0], tiles = (tokens + block_threads - 1) / block_threads;
  index_t share = blockIdx.x;
  const index_t t = take_index(share, tiles) * block_threads + threadIdx.x;
  const index_t from = share * embedding_share;
  const int count = int(tokens - from < embedding_share ? tokens - from : embedding_share);
  for (int u = int(threadIdx.x); u < count; u += block_threads) others[u] = index(from + u);
  __syncthreads();
  if (t >= tokens) return;
  const std::int32_t mine = index(t);
  const int before = int(t - from < 0 ? 0 : t - from < count ? t - from : index_t(count));
  int n = 0;
#pragma unroll 8
  for (int u = 0; u < count; ++u) n += others[u] < mine || (others[u] == mine && u < before);
  atomicAdd(&plan.place(t), n);
}
template <class E>
__global__ void embedding_sort_kernel(const embedding_backward_plan<E> plan) {
  const index_t t = thread_index();
  if (t < plan.place.size[0]) plan.sorted(plan.place(t)) = std::int32_t(t);
}

/// A block has a chunk and 32 to 256 elements d.
template <class E>
__global__ void embedding_chunk_kernel(const embedding_backward_plan<E> plan) {
  using A = typename E::accum;
  const auto& op = plan.op;
  const index_t width = op.dtable.size[1], tokens = op.index.size[0];
  index_t c = blockIdx.x;
  const index_t d = take_index(c, (width + blockDim.x - 1) / blockDim.x) * blockDim.x + threadIdx.x;
  if (d >= width) return;
  const index_t begin = c * embedding_chunk;
  const index_t end = begin + embedding_chunk < tokens ? begin + embedding_chunk : tokens;
  index_t first = begin;  // of the run
  A sum = 0;
  for (index_t i = begin; i < end; ++i) {
    sum += A(op.dy(plan.sorted(i), d));
    if (i + 1 < end && plan.joined(i + 1)) continue;
    const index_t r = plan.row(i);
    if (first == begin && plan.joined(begin)) {
      plan.left(c, 0, d) = sum;
    } else if (plan.joined(i + 1)) {
      plan.left(c, 1, d) = sum;
    } else if (plan.known(r)) {
      op.dtable(r, d) += sum;
    }
    first = i + 1, sum = 0;
  }
}

template <class E>
__global__ void embedding_join_kernel(const embedding_backward_plan<E> plan) {
  using A = typename E::accum;
  const auto& op = plan.op;
  const index_t width = op.dtable.size[1], tokens = op.index.size[0];
  index_t c = blockIdx.x;
  const index_t d = take_index(c, (width + blockDim.x - 1) / blockDim.x) * blockDim.x + threadIdx.x;
  const index_t begin = c * embedding_chunk, next = begin + embedding_chunk;
  if (d >= width || !plan.joined(next)) return;  // the last run ends here
  const index_t r = plan.row(next);
  // It also came from before: the chunk where it began adds it.
  if (plan.joined(begin) && plan.row(begin) == r) return;
  if (!plan.known(r)) return;
  A sum = plan.left(c, 1, d);
  for (index_t k = c + 1; k * embedding_chunk < tokens; ++k) {
    sum += plan.left(k, 0, d);
    const index_t after = (k + 1) * embedding_chunk;
    if (!plan.joined(after) || plan.row(after) != r) break;
  }
  op.dtable(r, d) += sum;
}

}  // namespace kernels

template <class E>
void execute(context<cuda>& ctx, const ops::embedding_backward<E>& op) {
  const index_t tokens = op.index.size[0], width = op.dtable.size[1];
  if (tokens == 0 || width == 0) return;
  if (tokens > 0x7fffffff)
    fail<shape_error>("embedding_backward: ", tokens, " tokens; wanted on cuda are less than 2^31");
  constexpr index_t chunk = kernels::embedding_chunk, warp = kernels::warp_size;
  const index_t chunks = (tokens + chunk - 1) / chunk;
  auto frame = ctx.scratch.make_frame();
  kernels::embedding_backward_plan<E> plan{
      op, ctx.scratch.template make<std::int32_t>(shape<1>{{tokens}}),
      ctx.scratch.template make<std::int32_t>(shape<1>{{tokens}}),
      ctx.scratch.template make<typename E::accum>(shape<3>{{chunks, 2, width}})};
  kernels::cuda_check(
      cudaMemsetAsync(plan.place.data, 0, std::size_t(tokens) * sizeof(std::int32_t), ctx.stream),
      op.name);
  const index_t shares = (tokens + kernels::embedding_share - 1) / kernels::embedding_share;
  const index_t tiles = (tokens + kernels::block_threads - 1) / kernels::block_threads;
  kernels::embedding_place_kernel<E>
      <<<kernels::blocks_for(tiles * shares, 1), kernels::block_threads, 0, ctx.stream>>>(plan);
  kernels::launched(op.name);
  kernels::launch_elements(ctx, kernels::embedding_sort_kernel<E>, tokens, plan);
  const index_t threads =
      std::min<index_t>(kernels::block_threads, (width + warp - 1) / warp * warp);
  const unsigned blocks = kernels::blocks_for(chunks * ((width + threads - 1) / threads), 1);
  kernels::embedding_chunk_kernel<E><<<blocks, unsigned(threads), 0, ctx.stream>>>(plan);
  kernels::launched(op.name);
  kernels::embedding_join_kernel<E><<<blocks, unsigned(threads), 0, ctx.stream>>>(plan);
  kernels::launched(op.name);
}

}  // namespace mlmamba::backend
