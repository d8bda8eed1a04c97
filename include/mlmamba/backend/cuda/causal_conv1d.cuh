// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Causal depthwise convolution on a GPU: a thread has some channels and walks over some tokens.
#pragma once

#include "mlmamba/backend/cuda/causal_conv1d_stream.cuh"
#include "mlmamba/backend/cuda/pieces.cuh"
#include "mlmamba/ops/causal_conv1d.hpp"

namespace mlmamba::backend {

namespace kernels {

/// ext[b, i, d], i = t + W - 1.
template <class E>
__device__ typename E::value extended(const ops::causal_conv1d<E>& op, index_t b, index_t i,
                                      index_t d) {
  const index_t before = op.weight.size[1] - 1;
  if (i >= before) return op.x(b, i - before, d);
  return op.initial_states ? op.initial_states(b, d, i) : typename E::value(typename E::accum(0));
}

template <class E>
__global__ void causal_conv1d_kernel(const ops::causal_conv1d<E> op) {
  using A = typename E::accum;
  index_t b = thread_index();
  if (b >= op.y.count()) return;
  const index_t d = take_index(b, op.y.size[2]), t = take_index(b, op.y.size[1]);
  const index_t width = op.weight.size[1], here = op.seq_idx ? op.seq_idx(b, t) : 0;
  if (here < 0) {  // padding
    op.y(b, t, d) = typename E::value(A(0));
    return;
  }
  A v = op.bias ? op.bias(d) : A(0);
  for (index_t w = 0; w < width; ++w) {
    const index_t s =
        t + w - (width - 1);  // the time of this tap; before 0 it is token 0's sequence
    if (op.seq_idx && op.seq_idx(b, s < 0 ? 0 : s) != here) continue;
    v = multiply_add(op.weight(d, w), A(extended(op, b, t + w, d)), v);
  }
  op.y(b, t, d) = typename E::value(apply_activation(op.activation, v));
}

inline constexpr int conv_channels = 2;

/// The same for one sequence: a thread has `conv_channels` channels and `run` tokens, whose last W
/// values stay in registers; the next tokens are read while it works on these. The thread of the
/// first tokens writes the final states too: nobody else reads the initial ones, which may be them.
template <class Width, class Activated, class E>
__device__ void causal_conv1d_walk(const ops::causal_conv1d<E>& op, index_t run, index_t thread) {
  using A = typename E::accum;
  using V = typename E::value;
  constexpr int width = Width::value, before = width - 1, count = conv_channels, ahead = 8;
  const index_t length = op.x.size[1], pieces = op.x.size[2] / count;
  const index_t runs = (length + run - 1) / run;
  index_t b = thread;
  if (b >= op.x.size[0] * runs * pieces) return;
  const index_t d = take_index(b, pieces) * count, begin = take_index(b, runs) * run;
  const int tokens = int(length - begin < run ? length - begin : run);
  const int from_step = int(op.x.stride[1]), to_step = int(op.y.stride[1]);
  const V* from = &op.x(b, begin, d);
  V* to = &op.y(b, begin, d);
  piece<V, count> next[ahead];
  const auto read = [&](int left) {  // `left` tokens, no more than `ahead`
#pragma unroll
    for (int k = 0; k < ahead; ++k)
      if (k < left) next[k] = *reinterpret_cast<const piece<V, count>*>(from + k * from_step);
    from += ahead * from_step;
  };
  read(tokens < ahead ? tokens : ahead);
  A weight[count][width], bias[count] = {}, last[before][count] = {};
#pragma unroll
  for (int w = 0; w < before; ++w) {
    if (begin - before + w >= 0) {
      read_piece(last[w], &op.x(b, begin - before + w, d));
    } else if (op.initial_states) {
#pragma unroll
      for (int i = 0; i < count; ++i) last[w][i] = A(op.initial_states(b, d + i, begin + w));
    }
  }
  if (begin == 0 && op.final_states && length >= before)
#pragma unroll
    for (int w = 0; w < before; ++w)
#pragma unroll
      for (int i = 0; i < count; ++i)
        op.final_states(b, d + i, w) = op.x(b, length - before + w, d + i);
#pragma unroll
  for (int i = 0; i < count; ++i) {
    read_piece(weight[i], &op.weight(d + i, 0));
    if (op.bias) bias[i] = op.bias(d + i);
  }
  A all[before + ahead][count];
  const auto put = [&](int left) {
#pragma unroll
    for (int k = 0; k < ahead; ++k) {
      A v[count];
      convolve<V, Activated>(v, all + k, weight, bias);
      if (k < left) write_piece(to + k * to_step, v);
    }
    to += ahead * to_step;
  };
  for (int t0 = 0; t0 < tokens; t0 += ahead) {
#pragma unroll
    for (int i = 0; i < count; ++i) {
#pragma unroll
      for (int k = 0; k < ahead; ++k) all[before + k][i] = A(next[k].at[i]);
#pragma unroll
      for (int w = 0; w < before; ++w) all[w][i] = last[w][i], last[w][i] = all[ahead + w][i];
    }
    const int left = tokens - t0, behind = left - ahead;
    // Whole groups, which most are, need no tests.
    if (behind >= ahead) {
      read(ahead);
    } else if (behind > 0) {
      read(behind);
    }
    if (behind >= 0) {
      put(ahead);
    } else {
      put(left);
    }
  }
}

template <class E>
struct conv_walk_plan {
  static constexpr const char* name = ops::causal_conv1d<E>::name;
  ops::causal_conv1d<E> op;
  index_t run;

  index_t threads() const {
    return op.x.size[0] * (op.x.size[2] / conv_channels) * ((op.x.size[1] + run - 1) / run);
  }
};
template <class Width, class Activated, class E>
__global__ void __launch_bounds__(block_threads, 4)
    causal_conv1d_pieces_kernel(const conv_walk_plan<E> plan) {
  wait_for_launch_before();
  causal_conv1d_walk<Width, Activated>(plan.op, plan.run, thread_index());
}

/// 64 tokens a thread, which reads three more; fewer as long as there is room for all threads at
/// once.
template <class E>
conv_walk_plan<E> plan_conv_walk(const context<cuda>& ctx, const ops::causal_conv1d<E>& op) {
  conv_walk_plan<E> plan{op, 64};
  while (plan.run > 8 && 2 * plan.threads() <= index_t(ctx.multiprocessors) * 4 * block_threads)
    plan.run /= 2;
  return plan;
}

template <class E>
bool conv_in_pieces(const ops::causal_conv1d<E>& op) {
  return !op.seq_idx && op.weight.size[1] == 4 && in_pieces(op.x, conv_channels) &&
         in_pieces(op.y, conv_channels) && in_pieces(op.weight, 4) && op.x.stride[1] < 1 << 24 &&
         op.y.stride[1] < 1 << 24;
}

// Sources are never before their targets, so the final states may be the initial ones.
template <class E>
__global__ void causal_conv1d_final_kernel(const ops::causal_conv1d<E> op) {
  index_t b = thread_index();
  if (b >= op.x.size[0] * op.x.size[2]) return;
  const index_t d = take_index(b, op.x.size[2]), length = op.x.size[1];
  for (index_t i = 0; i < op.weight.size[1] - 1; ++i)
    op.final_states(b, d, i) = extended(op, b, length + i, d);
}

template <class E>
__global__ void causal_conv1d_step_kernel(const ops::causal_conv1d_step<E> op) {
  using A = typename E::accum;
  index_t b = thread_index();
  if (b >= op.y.count()) return;
  const index_t d = take_index(b, op.y.size[1]), last = op.weight.size[1] - 1;
  const typename E::value x = op.x(b, d);
  A v = op.bias ? op.bias(d) : A(0);
  for (index_t w = 0; w < last; ++w) {
    v = multiply_add(op.weight(d, w), A(op.state(b, d, w)), v);
    op.state(b, d, w) = w + 1 < last ? op.state(b, d, w + 1) : x;
  }
  v = multiply_add(op.weight(d, last), A(x), v);
  op.y(b, d) = typename E::value(apply_activation(op.activation, v));
}

inline constexpr int conv_step_channels = 4;
inline constexpr int conv_step_rows = 4;  ///< at most

/// The same for channels that lie together, in the window too, and the usual width. A thread has
/// `Rows` rows, all of which it reads first.
template <class Width, class Rows, class E>
__global__ void __launch_bounds__(block_threads)
    causal_conv1d_step_pieces_kernel(const ops::causal_conv1d_step<E> op) {
  using A = typename E::accum;
  using V = typename E::value;
  constexpr int last = Width::value - 1, count = conv_step_channels, rows = Rows::value;
  const index_t pieces = op.y.size[1] / count;
  index_t b0 = thread_index();
  const index_t d = take_index(b0, pieces) * count;
  b0 *= rows;
  if (b0 >= op.y.size[0]) return;
  wait_for_launch_before();
  piece<V, count> before[rows][last], x[rows];
#pragma unroll
  for (int r = 0; r < rows; ++r) {
    if (b0 + r >= op.y.size[0]) break;
#pragma unroll
    for (int w = 0; w < last; ++w)
      before[r][w] = *reinterpret_cast<const piece<V, count>*>(&op.state(b0 + r, d, w));
    x[r] = *reinterpret_cast<const piece<V, count>*>(&op.x(b0 + r, d));
  }
  A weight[count][last + 1], bias[count] = {};
#pragma unroll
  for (int i = 0; i < count; ++i) {
    read_piece(weight[i], &op.weight(d + i, 0));
    if (op.bias) bias[i] = op.bias(d + i);
  }
#pragma unroll
  for (int r = 0; r < rows; ++r) {
    const index_t b = b0 + r;
    if (b >= op.y.size[0]) break;
    A v[count];
#pragma unroll
    for (int i = 0; i < count; ++i) {
      v[i] = bias[i];
#pragma unroll
      for (int w = 0; w < last; ++w) v[i] = multiply_add(weight[i][w], A(before[r][w].at[i]), v[i]);
      v[i] = multiply_add(weight[i][last], A(x[r].at[i]), v[i]);
      if (op.activation == activation::silu) v[i] = silu_as<V>(v[i]);
    }
#pragma unroll
    for (int w = 0; w < last; ++w)
      *reinterpret_cast<piece<V, count>*>(&op.state(b, d, w)) =
          w + 1 < last ? before[r][w + 1 < last ? w + 1 : w] : x[r];
    write_piece(&op.y(b, d), v);
  }
}

/// The window's channels are its last axis, if they lie together.
template <class E>
bool conv_step_in_pieces(const ops::causal_conv1d_step<E>& op) {
  return op.weight.size[1] == 4 && in_pieces(op.state.transposed(1, 2), conv_step_channels) &&
         in_pieces(op.x, conv_step_channels) && in_pieces(op.y, conv_step_channels) &&
         in_pieces(op.weight, 4);
}

}  // namespace kernels

template <class E>
void execute(context<cuda>& ctx, const ops::causal_conv1d<E>& op) {
  bool final_states = bool(op.final_states);
  if (kernels::conv_in_pieces(op)) {  // the width of all published models
    if (kernels::launch_conv_stream(ctx, op)) return;
    const auto plan = kernels::plan_conv_walk(ctx, op);
    final_states = final_states && op.x.size[1] < op.weight.size[1] - 1;
    const auto launch = [&](auto activated) {
      kernels::launch_early(
          ctx, op.name,
          kernels::causal_conv1d_pieces_kernel<kernels::constant<4>, decltype(activated), E>,
          kernels::blocks_for(plan.threads(), kernels::block_threads), kernels::block_threads, 0,
          plan);
    };
    if (op.activation == activation::none) {
      launch(kernels::constant<0>{});
    } else {
      launch(kernels::constant<1>{});
    }
  } else {
    kernels::launch_elements(ctx, kernels::causal_conv1d_kernel<E>, op.y.count(), op);
  }
  if (final_states)
    kernels::launch_elements(ctx, kernels::causal_conv1d_final_kernel<E>,
                             op.x.size[0] * op.x.size[2], op);
}
template <class E>
void execute(context<cuda>& ctx, const ops::causal_conv1d_step<E>& op) {
  using namespace kernels;
  if (conv_step_in_pieces(op)) {
    const index_t pieces = op.y.size[1] / conv_step_channels, b = op.y.size[0];
    const auto launch = [&](auto rows) {
      launch_early(ctx, op.name, causal_conv1d_step_pieces_kernel<constant<4>, decltype(rows), E>,
                   blocks_for((b + rows.value - 1) / rows.value * pieces, block_threads),
                   block_threads, 0, op);
    };
    // Several rows where that leaves enough threads.
    if (b * pieces < index_t(ctx.multiprocessors) * 1024) return launch(constant<1>{});
    return launch(constant<conv_step_rows>{});
  }
  launch_elements(ctx, causal_conv1d_step_kernel<E>, op.y.count(), op);
}

}  // namespace mlmamba::backend
