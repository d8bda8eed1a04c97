// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Causal depthwise convolution of much data on Hopper: rows come into shared memory and leave it by
// copies in the background. Memory answers long rows, several at once, better than many short ones.
#pragma once

#include "mlmamba/backend/cuda/tensor_copy.cuh"
#include "mlmamba/ops/causal_conv1d.hpp"

namespace mlmamba::backend::kernels {

inline constexpr int conv_stream_threads = 128, conv_stream_channels = 2 * conv_stream_threads;
inline constexpr int conv_stream_stages = 3;  ///< groups of tokens that are on their way or at work
inline constexpr index_t conv_stream_run = 64;

/// Tokens of a group: 8 KB of x.
template <class V>
inline constexpr int conv_stream_tokens = 32 / int(sizeof(V));
template <class V>
struct conv_stream_memory {
  using group = V[conv_stream_tokens<V>][conv_stream_channels];
  group x[conv_stream_stages], y[2];
};

template <class E>
struct conv_stream_plan {
  static constexpr const char* name = ops::causal_conv1d<E>::name;
  ops::causal_conv1d<E> op;
  index_t tiles, runs;
};

/// A token of some channels from the values before it and its own, the earliest first.
template <class V, class Activated, int Count, int Width, class A>
__device__ void convolve(A (&y)[Count], const A (*x)[Count], const A (&weight)[Count][Width],
                         const A (&bias)[Count]) {
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    y[i] = bias[i];
#pragma unroll
    for (int w = 0; w < Width; ++w) y[i] = multiply_add(weight[i][w], x[w][i], y[i]);
    if constexpr (Activated::value) y[i] = silu_as<V>(y[i]);
  }
}

/// A block has 256 channels and 64 tokens of one sequence, a thread two channels, whose last three
/// values stay in registers. The block of the first tokens writes the final states too: nobody else
/// reads the initial ones, which may be them.
template <class Activated, class E>
__global__ void __launch_bounds__(conv_stream_threads, 5)
    causal_conv1d_stream_kernel(const conv_stream_plan<E> plan) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  using A = typename E::accum;
  using V = typename E::value;
  constexpr int width = 4, before = width - 1, count = 2, stages = conv_stream_stages;
  constexpr int tokens = conv_stream_tokens<V>;
  extern __shared__ __align__(128) unsigned char raw[];
  auto& s = *reinterpret_cast<conv_stream_memory<V>*>(raw);
  __shared__ copy_barrier filled[stages];
  const auto& op = plan.op;
  index_t b = blockIdx.x;
  const index_t d0 = take_index(b, plan.tiles) * conv_stream_channels;
  const index_t begin = take_index(b, plan.runs) * conv_stream_run;
  const index_t length = op.x.size[1], channels = op.x.size[2] - d0;
  const int all = int(length - begin < conv_stream_run ? length - begin : conv_stream_run);
  const int mine = count * int(threadIdx.x), groups = (all + tokens - 1) / tokens;
  const bool there = mine < channels;
  const index_t d = d0 + mine;
  const unsigned bytes =
      unsigned(channels < conv_stream_channels ? channels : conv_stream_channels) * sizeof(V);
  const auto tokens_of = [&](int g) { return min(tokens, all - g * tokens); };
  const auto fetch = [&](int g) {
    const int n = tokens_of(g);
    expect_copies(filled[g % stages], unsigned(n) * bytes);
    for (int t = 0; t < n; ++t)
      copy_bulk(s.x[g % stages][t], &op.x(b, begin + g * tokens + t, d0), bytes,
                filled[g % stages]);
  };
  if (threadIdx.x == 0)
    for (copy_barrier& f : filled) open_barrier(f);
  barriers_are_open();
  wait_for_launch_before();
  if (threadIdx.x == 0)
    for (int g = 0; g + 1 < stages && g < groups; ++g) fetch(g);
  A weight[count][width] = {}, bias[count] = {}, last[before][count] = {};
  if (there) {
#pragma unroll
    for (int w = 0; w < before; ++w) {
      if (begin > 0) {
        read_piece(last[w], &op.x(b, begin - before + w, d));
      } else if (op.initial_states) {
#pragma unroll
        for (int i = 0; i < count; ++i) last[w][i] = A(op.initial_states(b, d + i, w));
      }
    }
#pragma unroll
    for (int i = 0; i < count; ++i) {
      read_piece(weight[i], &op.weight(d + i, 0));
      if (op.bias) bias[i] = op.bias(d + i);
      for (int w = 0; begin == 0 && op.final_states && w < before; ++w)
        op.final_states(b, d + i, w) = op.x(b, length - before + w, d + i);
    }
  }
  __syncthreads();
  A x[before + tokens][count];
  for (int g = 0; g < groups; ++g) {
    wait_for_copies(filled[g % stages], g / stages & 1);
#pragma unroll
    for (int t = 0; t < tokens; ++t) read_piece(x[before + t], &s.x[g % stages][t][mine]);
    if (threadIdx.x == 0) wait_until_read<1>();  // of y, what is two groups back
    __syncthreads();                             // x of the group before was read by all, too
    if (threadIdx.x == 0 && g + stages - 1 < groups) fetch(g + stages - 1);
#pragma unroll
    for (int w = 0; w < before; ++w)
#pragma unroll
      for (int i = 0; i < count; ++i) x[w][i] = last[w][i], last[w][i] = x[tokens + w][i];
#pragma unroll
    for (int t = 0; t < tokens; ++t) {
      A v[count];
      convolve<V, Activated>(v, x + t, weight, bias);
      write_piece(&s.y[g % 2][t][mine], v);
    }
    show_to_copies();
    __syncthreads();
    if (threadIdx.x != 0) continue;
    for (int t = 0; t < tokens_of(g); ++t)
      copy_bulk_out(&op.y(b, begin + g * tokens + t, d0), s.y[g % 2][t], bytes);
    commit_copies_out();
  }
  if (threadIdx.x == 0) wait_until_read();
#endif
}

/// Launches it where there is work for all multiprocessors and operands are aligned; says whether.
template <class E>
bool launch_conv_stream(context<cuda>& ctx, const ops::causal_conv1d<E>& op) {
  using V = typename E::value;
  const auto& n = op.x.size;
  const conv_stream_plan<E> plan{op, (n[2] + conv_stream_channels - 1) / conv_stream_channels,
                                 (n[1] + conv_stream_run - 1) / conv_stream_run};
  const index_t blocks = n[0] * plan.tiles * plan.runs;
  if (!ctx.overlaps_launches || n[1] < op.weight.size[1] || !in_pieces(op.x) || !in_pieces(op.y) ||
      blocks < 8 * ctx.multiprocessors)
    return false;
  const auto launch = [&](auto kernel) {
    constexpr int bytes = sizeof(conv_stream_memory<V>);
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
               op.name);
    launch_early(ctx, op.name, kernel, blocks_for(blocks, 1), conv_stream_threads, bytes, plan);
    return true;
  };
  return op.activation == activation::none ? launch(causal_conv1d_stream_kernel<constant<0>, E>)
                                           : launch(causal_conv1d_stream_kernel<constant<1>, E>);
}

}  // namespace mlmamba::backend::kernels
