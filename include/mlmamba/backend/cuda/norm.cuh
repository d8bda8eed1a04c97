// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Norms on a GPU: one block per row (per row and group).
#pragma once

#include <algorithm>

#include "mlmamba/backend/cuda/elementwise.cuh"
#include "mlmamba/backend/cuda/mma.cuh"
#include "mlmamba/backend/cuda/row_norm.cuh"
#include "mlmamba/ops/norm.hpp"

namespace mlmamba::backend {

namespace kernels {

template <class E, class X>
__global__ void rms_norm_kernel(const ops::rms_norm<E, X> op) {
  using A = typename E::accum;
  __shared__ A shared[warp_size];
  const index_t t = blockIdx.x, width = op.x.size[1];
  A sum = 0;
  for (index_t d = threadIdx.x; d < width; d += blockDim.x) {
    const A x = A(op.x(t, d));
    sum += x * x;
  }
  const A mean = block_sum(sum, shared) / A(width);
  const A rstd = A(1) / math::sqrt(mean + A(op.epsilon));
  for (index_t d = threadIdx.x; d < width; d += blockDim.x) {
    const A weight = op.weight ? op.weight(d) : A(1);
    op.y(t, d) = typename E::value(A(op.x(t, d)) * rstd * weight);
  }
  if (op.rstd && threadIdx.x == 0) op.rstd(t) = rstd;
}

template <class E, class X>
__global__ void layer_norm_kernel(const ops::layer_norm<E, X> op) {
  using A = typename E::accum;
  __shared__ A shared[warp_size];
  const index_t t = blockIdx.x, width = op.x.size[1];
  A sum = 0;
  for (index_t d = threadIdx.x; d < width; d += blockDim.x) sum += A(op.x(t, d));
  const A mean = block_sum(sum, shared) / A(width);
  A squares = 0;
  for (index_t d = threadIdx.x; d < width; d += blockDim.x) {
    const A c = A(op.x(t, d)) - mean;
    squares += c * c;
  }
  const A variance = block_sum(squares, shared) / A(width);
  const A rstd = A(1) / math::sqrt(variance + A(op.epsilon));
  for (index_t d = threadIdx.x; d < width; d += blockDim.x) {
    const A weight = op.weight ? op.weight(d) : A(1), bias = op.bias ? op.bias(d) : A(0);
    op.y(t, d) = typename E::value((A(op.x(t, d)) - mean) * rstd * weight + bias);
  }
  if (op.mean && threadIdx.x == 0) op.mean(t) = mean, op.rstd(t) = rstd;
}

template <class E>
__global__ void gated_rms_norm_kernel(const ops::gated_rms_norm<E> op) {
  using A = typename E::accum;
  __shared__ A shared[warp_size];
  const index_t width = op.x.size[1], group = op.group_size == 0 ? width : op.group_size;
  index_t t = blockIdx.x;
  const index_t g = take_index(t, width / group), from = g * group;
  const auto gate = [&](index_t d) {
    return op.z ? apply_activation(activation::silu, A(op.z(t, d))) : A(1);
  };
  const auto normed = [&](index_t d) {  // u
    const A x = A(op.x(t, d));
    return op.norm_before_gate ? x : x * gate(d);
  };
  A sum = 0;
  for (index_t i = threadIdx.x; i < group; i += blockDim.x) {
    const A u = normed(from + i);
    sum += u * u;
  }
  const A mean = block_sum(sum, shared) / A(group);
  const A rstd = A(1) / math::sqrt(mean + A(op.epsilon));
  for (index_t i = threadIdx.x; i < group; i += blockDim.x) {
    const index_t d = from + i;
    const A weight = op.weight ? op.weight(d) : A(1);
    A y = normed(d) * rstd * weight;
    if (op.norm_before_gate) y *= gate(d);
    op.y(t, d) = typename E::value(y);
  }
  if (op.rstd && threadIdx.x == 0) op.rstd(t, g) = rstd;
}

inline constexpr int gated_norm_threads = 640;  ///< 5120 channels are 640 pieces of bf16
inline constexpr int gated_norm_ahead = 3;      ///< rows that are under way

/// The same with each element read once. A block has one group of many rows, which come through
/// shared memory: a thread has `Per` pieces of each, and reads what it has copied itself.
template <class Per, class E>
__global__ void __launch_bounds__(gated_norm_threads, Per::value == 1 ? 3 : 1)
    gated_rms_norm_pieces_kernel(const ops::gated_rms_norm<E> op) {
  using A = typename E::accum;
  using V = typename E::value;
  constexpr int per = Per::value, count = piece<V>::count, ahead = gated_norm_ahead;
  __shared__ A shared[2][warp_size];
  extern __shared__ __align__(128) unsigned char raw[];
  const int threads = int(blockDim.x), warps = threads / warp_size;
  const index_t width = op.x.size[1], group = op.group_size == 0 ? width : op.group_size;
  index_t first = blockIdx.x;
  const index_t g = take_index(first, width / group), from = g * group, rows = op.x.size[0];
  const index_t step = gridDim.x / (width / group);
  const auto place = [&](int k) { return (index_t(k) * threads + threadIdx.x) * count; };
  // Rows in turn: pieces of x, then of z.
  const auto slot = [&](int turn, int array, int k) {
    const int at = ((turn * 2 + array) * per + k) * threads + int(threadIdx.x);
    return reinterpret_cast<V*>(raw + 16 * at);
  };
  const auto copy = [&](index_t t, int turn) {
#pragma unroll
    for (int k = 0; k < per; ++k) {
      const bool there = t < rows && place(k) < group;
      if (there) copy_piece(slot(turn, 0, k), &op.x(t, from + place(k)), true);
      if (there && op.z) copy_piece(slot(turn, 1, k), &op.z(t, from + place(k)), true);
    }
    commit_copies();
  };
#pragma unroll
  for (int i = 0; i < ahead; ++i) copy(first + i * step, i);
  A weight[per][count];
#pragma unroll
  for (int k = 0; k < per; ++k)
#pragma unroll
    for (int i = 0; i < count; ++i)
      weight[k][i] = op.weight && place(k) < group ? op.weight(from + place(k) + i) : A(1);
  int turn = 0, half = 0;
  for (index_t t = first; t < rows; t += step, half ^= 1) {
    wait_copies<ahead - 1>();
    A u[per][count], sum = 0;
    piece<V> gate[per];
#pragma unroll
    for (int k = 0; k < per; ++k) {
      if (place(k) >= group) continue;
      read_piece(u[k], slot(turn, 0, k));
      if (op.z) gate[k] = *reinterpret_cast<const piece<V>*>(slot(turn, 1, k));
#pragma unroll
      for (int i = 0; i < count; ++i) {
        if (op.z && !op.norm_before_gate) u[k][i] *= silu_as<V>(A(gate[k].at[i]));
        sum += u[k][i] * u[k][i];
      }
    }
    copy(t + ahead * step, turn);
    turn = turn + 1 < ahead ? turn + 1 : 0;
    sum = warp_sum(sum);
    if (lane_index() == 0) shared[half][warp_index()] = sum;
    __syncthreads();  // the other half is read until the next one
    A total = 0;
    for (int w = 0; w < warps; ++w) total += shared[half][w];
    const A rstd = A(1) / math::sqrt(total / A(group) + A(op.epsilon));
#pragma unroll
    for (int k = 0; k < per; ++k) {
      if (place(k) >= group) continue;
#pragma unroll
      for (int i = 0; i < count; ++i) {
        u[k][i] *= rstd * weight[k][i];
        if (op.z && op.norm_before_gate) u[k][i] *= silu_as<V>(A(gate[k].at[i]));
      }
      write_piece(&op.y(t, from + place(k)), u[k]);
    }
    if (op.rstd && threadIdx.x == 0) op.rstd(t, g) = rstd;
  }
}

/// Launches it if operands are aligned and the group is not too wide; says whether.
template <class E>
bool launch_gated_rms_norm_pieces(context<cuda>& ctx, const ops::gated_rms_norm<E>& op) {
  constexpr index_t count = piece<typename E::value>::count, most = gated_norm_threads;
  const index_t group = op.group(), pieces = group / count, groups = op.x.size[1] / group;
  if (group % count != 0 || pieces > 2 * most || !in_pieces(op.x) || !in_pieces(op.z) ||
      !in_pieces(op.y))
    return false;
  const auto launch = [&](auto per) {
    const auto kernel = gated_rms_norm_pieces_kernel<decltype(per), E>;
    const index_t warps = ((pieces + per.value - 1) / per.value + warp_size - 1) / warp_size;
    const int bytes = int(warps) * warp_size * per.value * 2 * 16 * gated_norm_ahead;
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
               op.name);
    const index_t at_once = std::min<index_t>((per.value == 1 ? 60 : 20) / warps, 16);
    const index_t room = std::max<index_t>(at_once * ctx.multiprocessors / groups, 1);
    kernel<<<blocks_for(std::min(op.x.size[0], room) * groups, 1), unsigned(warps * warp_size),
             bytes, ctx.stream>>>(op);
    launched(op.name);
    return true;
  };
  if (op.x.size[0] == 0) return true;
  return pieces <= most ? launch(constant<1>{}) : launch(constant<2>{});
}

/// The norm of plus.sum, which is made by an op of its own.
template <class E, class X, class Op>
Op after_sum(context<cuda>& ctx, Op op) {
  if (!op.plus) return op;
  if (op.plus.gamma) {
    run(ctx, ops::channel_scale<E, X>{
                 .x = op.plus.branch, .gamma = op.plus.gamma, .residual = op.x, .y = op.plus.sum});
  } else {
    run(ctx, ops::add<E, X, typename E::value>{.a = op.x, .b = op.plus.branch, .y = op.plus.sum});
  }
  op.x = op.plus.sum, op.plus = {};
  return op;
}

}  // namespace kernels

template <class E, class X>
void execute(context<cuda>& ctx, const ops::rms_norm<E, X>& op) {
  if (kernels::launch_row_norm<typename E::value, X>(ctx, op)) return;
  kernels::launch_rows(ctx, kernels::rms_norm_kernel<E, X>, op.x.size[0],
                       kernels::after_sum<E, X>(ctx, op));
}
template <class E, class X>
void execute(context<cuda>& ctx, const ops::layer_norm<E, X>& op) {
  if (kernels::launch_row_norm<typename E::value, X>(ctx, op)) return;
  kernels::launch_rows(ctx, kernels::layer_norm_kernel<E, X>, op.x.size[0],
                       kernels::after_sum<E, X>(ctx, op));
}
template <class E>
void execute(context<cuda>& ctx, const ops::gated_rms_norm<E>& op) {
  if (op.x.size[1] == 0) return;
  if (kernels::launch_gated_rms_norm_pieces(ctx, op)) return;
  kernels::launch_rows(ctx, kernels::gated_rms_norm_kernel<E>,
                       op.x.size[0] * (op.x.size[1] / op.group()), op);
}

}  // namespace mlmamba::backend
