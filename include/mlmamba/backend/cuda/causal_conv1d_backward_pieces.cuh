// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Backward of the causal convolution of one sequence in one pass: a thread has two channels and
// walks over some tokens.
#pragma once

#include "mlmamba/backend/cuda/pieces.cuh"
#include "mlmamba/ops/causal_conv1d.hpp"

namespace mlmamba::backend::kernels {

inline constexpr int conv_backward_channels = 2;     ///< of a thread
inline constexpr index_t conv_backward_tokens = 64;  ///< of a warp, which has 64 channels

template <class E>
struct conv_pieces_plan {
  static constexpr const char* name = ops::causal_conv1d_backward<E>::name;
  ops::causal_conv1d_backward<E> op;
  index_t blocks;                                   // over the sequence
  view<typename E::accum, 3, memory::device> sums;  // (blocks of all batches, W + 1, D); last: bias
};

/// With g = dy activation'(v) and everything behind the end zero,
///   dx[t] = sum over w of weight[w] g[t + W-1 - w],   dweight[w] += g[t] x[t + w - (W-1)].
/// The warps of a block have the same channels, and runs of tokens one after the other.
template <class Width, class Activated, class E>
__global__ void __launch_bounds__(block_threads, 3)
    conv_backward_pieces_kernel(const conv_pieces_plan<E> plan) {
  using A = typename E::accum;
  using V = typename E::value;
  constexpr int width = Width::value, before = width - 1, count = conv_backward_channels, ahead = 4;
  constexpr int warps = block_threads / warp_size;
  constexpr int outputs = (width + 1) * count;
  __shared__ A shared[warps][outputs][warp_size];
  const auto& op = plan.op;
  const index_t length = op.x.size[1], channels = op.x.size[2];
  constexpr index_t per_block = index_t(count) * warp_size;
  index_t b = blockIdx.x;
  const index_t d =
      take_index(b, (channels + per_block - 1) / per_block) * per_block + count * lane_index();
  const index_t block = take_index(b, plan.blocks);
  const index_t begin = (block * warps + warp_index()) * conv_backward_tokens;
  const index_t left = length - begin;
  const bool busy = d < channels && left > 0;
  // Of this run; and to the end: the gradients behind the run are part of it, too.
  const int tokens = int(left < conv_backward_tokens ? left : conv_backward_tokens);
  const int there = busy ? int(left < tokens + width - 1 ? left : tokens + width - 1) : 0;
  const int x_step = int(op.x.stride[1]), dy_step = int(op.dy.stride[1]),
            dx_step = int(op.dx.stride[1]);
  const V *x_at = nullptr, *dy_at = nullptr;
  V* dx_at = nullptr;
  if (busy) {
    x_at = &op.x(b, begin, d), dy_at = &op.dy(b, begin, d);
    dx_at = &op.dx(b, begin, d) - before * op.dx.stride[1];
  }
  piece<V, count> next_x[ahead], next_dy[ahead];
  const auto read = [&](int left) {  // zeros behind `left` tokens
#pragma unroll
    for (int k = 0; k < ahead; ++k) {
      next_x[k] = next_dy[k] = piece<V, count>{};
      if (k < left) {
        next_x[k] = *reinterpret_cast<const piece<V, count>*>(x_at + k * x_step);
        next_dy[k] = *reinterpret_cast<const piece<V, count>*>(dy_at + k * dy_step);
      }
    }
    x_at += ahead * x_step, dy_at += ahead * dy_step;
  };
  A weight[count][width] = {}, bias[count] = {}, sums[width + 1][count] = {};
  A last_x[before][count] = {}, last_g[before][count] = {};
  if (busy) {
    read(there);
#pragma unroll
    for (int w = 0; w < before; ++w)
      if (begin - before + w >= 0) read_piece(last_x[w], &op.x(b, begin - before + w, d));
#pragma unroll
    for (int i = 0; i < count; ++i) {
      read_piece(weight[i], &op.weight(d + i, 0));
      if (op.bias) bias[i] = op.bias(d + i);
    }
  }
  A x[before + ahead][count], g[before + ahead][count];
  // Writes dx of the tokens `before` earlier: of those that are among [first, first + many).
  const auto put = [&](int first, int many, int counted) {
#pragma unroll
    for (int k = 0; k < ahead; ++k) {
      A dx[count];
#pragma unroll
      for (int i = 0; i < count; ++i) {
        if constexpr (Activated::value) {
          A v = bias[i];
#pragma unroll
          for (int w = 0; w < width; ++w) v = multiply_add(weight[i][w], x[k + w][i], v);
          g[before + k][i] *= silu_slope_as<V>(v);
        }
        if (k < counted) {
#pragma unroll
          for (int w = 0; w < width; ++w)
            sums[w][i] = multiply_add(g[before + k][i], x[k + w][i], sums[w][i]);
          sums[width][i] += g[before + k][i];
        }
        dx[i] = A(0);
#pragma unroll
        for (int w = 0; w < width; ++w)
          dx[i] = multiply_add(weight[i][width - 1 - w], g[k + w][i], dx[i]);
      }
      if (k >= first && k < many) write_piece(dx_at + k * dx_step, dx);
    }
    dx_at += ahead * dx_step;
  };
  const int steps = busy ? tokens + before : 0;
  for (int t0 = 0; t0 < steps; t0 += ahead) {
#pragma unroll
    for (int i = 0; i < count; ++i) {
#pragma unroll
      for (int w = 0; w < before; ++w) x[w][i] = last_x[w][i], g[w][i] = last_g[w][i];
#pragma unroll
      for (int k = 0; k < ahead; ++k)
        x[before + k][i] = A(next_x[k].at[i]), g[before + k][i] = A(next_dy[k].at[i]);
    }
    const int behind = there - t0 - ahead;
    // Groups in the middle, which most are, need no tests.
    if (behind >= ahead) {
      read(ahead);
    } else {
      read(behind);
    }
    if (t0 > 0 && t0 + ahead <= tokens) {
      put(0, ahead, ahead);
    } else {
      put(before - t0, steps - t0, tokens - t0);
    }
#pragma unroll
    for (int i = 0; i < count; ++i)
#pragma unroll
      for (int w = 0; w < before; ++w)
        last_x[w][i] = x[ahead + w][i], last_g[w][i] = g[ahead + w][i];
  }
  if (!plan.sums) return;
#pragma unroll
  for (int w = 0; w <= width; ++w)
#pragma unroll
    for (int i = 0; i < count; ++i) shared[warp_index()][w * count + i][lane_index()] = sums[w][i];
  __syncthreads();
  for (int o = warp_index(); o < outputs && d < channels; o += warps) {
    A sum = 0;
#pragma unroll
    for (int k = 0; k < warps; ++k) sum += shared[k][o][lane_index()];
    plan.sums(b * plan.blocks + block, o / count, d + o % count) = sum;
  }
}

/// One thread per element of dweight and dbias, runs in order.
template <class E>
__global__ void conv_backward_sums_kernel(const conv_pieces_plan<E> plan) {
  using A = typename E::accum;
  const index_t channels = plan.sums.size[2], width = plan.sums.size[1] - 1;
  index_t w = thread_index();
  if (w >= (width + 1) * channels) return;
  const index_t d = take_index(w, channels);
  A* to = nullptr;
  if (w == width && plan.op.dbias) to = &plan.op.dbias(d);
  if (w < width && plan.op.dweight) to = &plan.op.dweight(d, w);
  if (!to) return;
  A sum = 0;
#pragma unroll 8
  for (index_t r = 0; r < plan.sums.size[0]; ++r) sum += plan.sums(r, w, d);
  *to += sum;
}

/// Does conv_backward_pieces_kernel do this op?
template <class E>
bool conv_in_pieces(const ops::causal_conv1d_backward<E>& op) {
  constexpr int count = conv_backward_channels;
  return !op.seq_idx && !op.initial_states && !op.dinitial_states && !op.dfinal_states &&
         op.weight.size[1] == 4 && in_pieces(op.x, count) && in_pieces(op.dy, count) &&
         in_pieces(op.dx, count) && in_pieces(op.weight, 4) && op.x.stride[1] < 1 << 24 &&
         op.dy.stride[1] < 1 << 24 && op.dx.stride[1] < 1 << 24;
}

template <class E>
void run_conv_pieces(context<cuda>& ctx, const ops::causal_conv1d_backward<E>& op) {
  const index_t b = op.x.size[0], l = op.x.size[1], d = op.x.size[2];
  constexpr index_t tokens = conv_backward_tokens * (block_threads / warp_size),
                    channels = index_t(conv_backward_channels) * warp_size;
  auto frame = ctx.scratch.make_frame();
  conv_pieces_plan<E> plan{op, (l + tokens - 1) / tokens, {}};
  const index_t blocks = b * plan.blocks * ((d + channels - 1) / channels);
  if (blocks == 0) return;
  if (op.dweight || op.dbias)
    plan.sums = ctx.scratch.template make<typename E::accum>(
        shape<3>{{b * plan.blocks, op.weight.size[1] + 1, d}});
  const auto launch = [&](auto activated) {
    conv_backward_pieces_kernel<constant<4>, decltype(activated), E>
        <<<blocks_for(blocks, 1), block_threads, 0, ctx.stream>>>(plan);
    launched(plan.name);
  };
  if (op.activation == activation::none) {
    launch(constant<0>{});
  } else {
    launch(constant<1>{});
  }
  if (plan.sums)
    launch_elements(ctx, conv_backward_sums_kernel<E>, plan.sums.size[1] * plan.sums.size[2], plan);
}

}  // namespace mlmamba::backend::kernels
