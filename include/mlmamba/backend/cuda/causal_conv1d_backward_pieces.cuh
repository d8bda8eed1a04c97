// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Backward of the causal convolution of one sequence in one pass: a thread has four channels and
// walks over some tokens.
#pragma once

#include "mlmamba/backend/cuda/pieces.cuh"
#include "mlmamba/ops/causal_conv1d.hpp"

namespace mlmamba::backend::kernels {

inline constexpr int conv_backward_channels = 4;
inline constexpr index_t conv_backward_tokens = 64;  ///< whose gradients of weights are summed

template <class E>
struct conv_pieces_plan {
  static constexpr const char* name = ops::causal_conv1d_backward<E>::name;
  ops::causal_conv1d_backward<E> op;
  view<typename E::accum, 3, memory::device> sums;  // (runs of all batches, W + 1, D); last: bias
};

/// With g = dy activation'(v) and everything behind the end zero,
///   dx[t] = sum over w of weight[w] g[t + W-1 - w],   dweight[w] += g[t] x[t + w - (W-1)].
template <class Width, class E>
__global__ void __launch_bounds__(block_threads, 2)
    conv_backward_pieces_kernel(const conv_pieces_plan<E> plan) {
  using A = typename E::accum;
  using V = typename E::value;
  constexpr int width = Width::value, count = conv_backward_channels, ahead = 4;
  const auto& op = plan.op;
  const index_t length = op.x.size[1], pieces = op.x.size[2] / count;
  const index_t runs = (length + conv_backward_tokens - 1) / conv_backward_tokens;
  index_t b = thread_index();
  if (b >= op.x.size[0] * runs * pieces) return;
  const index_t d = take_index(b, pieces) * count, run = take_index(b, runs),
                begin = run * conv_backward_tokens;
  const index_t end = begin + conv_backward_tokens < length ? begin + conv_backward_tokens : length;
  A weight[width][count], bias[count], x[width][count], g[width][count];
  A sums[width + 1][count] = {};
#pragma unroll
  for (int i = 0; i < count; ++i) {
    bias[i] = op.bias ? op.bias(d + i) : A(0);
#pragma unroll
    for (int w = 0; w < width; ++w) weight[w][i] = op.weight(d + i, w), x[w][i] = g[w][i] = A(0);
  }
#pragma unroll
  for (int w = 1; w < width; ++w)
    if (begin - width + w >= 0) read_piece(x[w], &op.x(b, begin - width + w, d));
  const bool activated = op.activation != activation::none;
  for (index_t t1 = begin; t1 < end + width - 1; t1 += ahead) {
    piece<V, count> next_x[ahead], next_dy[ahead];  // read before anything is written
#pragma unroll
    for (int k = 0; k < ahead; ++k)
      if (t1 + k < length) {
        next_x[k] = *reinterpret_cast<const piece<V, count>*>(&op.x(b, t1 + k, d));
        next_dy[k] = *reinterpret_cast<const piece<V, count>*>(&op.dy(b, t1 + k, d));
      }
#pragma unroll
    for (int k = 0; k < ahead; ++k) {
      const index_t t = t1 + k;
      if (t >= end + width - 1) break;
      A dx[count];
#pragma unroll
      for (int i = 0; i < count; ++i) {
#pragma unroll
        for (int w = 1; w < width; ++w) x[w - 1][i] = x[w][i], g[w - 1][i] = g[w][i];
        A now = A(0);
        if (t < length) {
          x[width - 1][i] = A(next_x[k].at[i]);
          now = A(next_dy[k].at[i]);
          if (activated) {
            A v = bias[i];
#pragma unroll
            for (int w = 0; w < width; ++w) v = multiply_add(weight[w][i], x[w][i], v);
            now *= silu_slope_as<V>(v);
          }
        }
        g[width - 1][i] = now;
        if (t < end) {
#pragma unroll
          for (int w = 0; w < width; ++w) sums[w][i] = multiply_add(now, x[w][i], sums[w][i]);
          sums[width][i] += now;
        }
        dx[i] = A(0);
#pragma unroll
        for (int w = 0; w < width; ++w)
          dx[i] = multiply_add(weight[width - 1 - w][i], g[w][i], dx[i]);
      }
      const index_t at = t - (width - 1);
      if (at >= begin) write_piece(&op.dx(b, at, d), dx);
    }
  }
  if (!plan.sums) return;
#pragma unroll
  for (int w = 0; w <= width; ++w) write_piece(&plan.sums(b * runs + run, w, d), sums[w]);
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
         in_pieces(op.dx, count);
}

template <class E>
void run_conv_pieces(context<cuda>& ctx, const ops::causal_conv1d_backward<E>& op) {
  const index_t runs = (op.x.size[1] + conv_backward_tokens - 1) / conv_backward_tokens;
  auto frame = ctx.scratch.make_frame();
  conv_pieces_plan<E> plan{op, {}};
  if (op.dweight || op.dbias)
    plan.sums = ctx.scratch.template make<typename E::accum>(
        shape<3>{{op.x.size[0] * runs, op.weight.size[1] + 1, op.x.size[2]}});
  launch_elements(ctx, conv_backward_pieces_kernel<constant<4>, E>,
                  op.x.size[0] * runs * (op.x.size[2] / conv_backward_channels), plan);
  if (plan.sums)
    launch_elements(ctx, conv_backward_sums_kernel<E>, plan.sums.size[1] * plan.sums.size[2], plan);
}

}  // namespace mlmamba::backend::kernels
