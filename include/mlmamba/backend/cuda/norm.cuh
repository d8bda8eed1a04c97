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

__device__ inline float inverse_root(float x) { return rsqrtf(x); }
__device__ inline double inverse_root(double x) { return 1.0 / math::sqrt(x); }

/// The same with each element read once: a block has one group of one row after another, a thread
/// `Per` pieces of it. `Before`: norm_before_gate. The next row is on its way while this one is
/// worked on: memory would idle else, for there is room for few blocks.
template <class Per, class Before, class E>
__global__ void __launch_bounds__(gated_norm_threads, Per::value == 1 ? 2 : 1)
    gated_rms_norm_pieces_kernel(const ops::gated_rms_norm<E> op) {
  using A = typename E::accum;
  using V = typename E::value;
  constexpr int per = Per::value, count = piece<V>::count;
  __shared__ A shared[2][warp_size];
  const int width = int(op.x.size[1]), group = op.group_size == 0 ? width : int(op.group_size);
  const index_t groups = width / group, all = op.x.size[0] * groups;
  const auto place = [&](int k) { return int(k * blockDim.x + threadIdx.x) * count; };
  wait_for_launch_before();
  piece<V> x[per], z[per];
  const auto read = [&](index_t t) {
    const index_t from = take_index(t, groups) * group;
#pragma unroll
    for (int k = 0; k < per; ++k) {
      if (place(k) >= group) break;
      x[k] = *reinterpret_cast<const piece<V>*>(&op.x(t, from) + place(k));
      if (op.z) z[k] = *reinterpret_cast<const piece<V>*>(&op.z(t, from) + place(k));
    }
  };
  read(blockIdx.x);
  for (index_t row = blockIdx.x, turn = 0; row < all; row += gridDim.x, turn ^= 1) {
    A u[per][count], sum = 0;
    piece<V> gate[Before::value ? per : 1];
#pragma unroll
    for (int k = 0; k < per; ++k) {
      if (place(k) >= group) break;
#pragma unroll
      for (int i = 0; i < count; ++i) {
        u[k][i] = A(x[k].at[i]);
        if (!Before::value && op.z) u[k][i] *= silu_as<V>(A(z[k].at[i]));
        sum += u[k][i] * u[k][i];
      }
      if constexpr (Before::value) gate[k] = z[k];
    }
    if (row + gridDim.x < all) read(row + gridDim.x);
    sum = warp_sum(sum);
    if (lane_index() == 0) shared[turn][warp_index()] = sum;  // those of the row before: other half
    __syncthreads();
    sum = warp_sum(lane_index() < int(blockDim.x) / warp_size ? shared[turn][lane_index()] : A(0));
    const A rstd = inverse_root(sum / A(group) + A(op.epsilon));
    index_t t = row;
    const index_t g = take_index(t, groups), from = g * group;
#pragma unroll
    for (int k = 0; k < per; ++k) {
      if (place(k) >= group) break;
      A weight[count];
      if (op.weight) read_piece(weight, &op.weight(from + place(k)));
#pragma unroll
      for (int i = 0; i < count; ++i) {
        u[k][i] *= op.weight ? rstd * weight[i] : rstd;
        if (Before::value && op.z) u[k][i] *= silu_as<V>(A(gate[k].at[i]));
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
  if (group % count != 0 || pieces > 2 * most || op.x.size[1] > 1 << 30 || !in_pieces(op.x) ||
      !in_pieces(op.z) || !in_pieces(op.y) || !in_pieces(op.weight, 4))
    return false;
  const auto launch_as = [&](auto per, auto before) {
    const index_t warps = ((pieces + per.value - 1) / per.value + warp_size - 1) / warp_size;
    const index_t room = (per.value == 1 ? 2 : 1) * most / warp_size / warps * ctx.multiprocessors;
    launch_early(ctx, op.name, gated_rms_norm_pieces_kernel<decltype(per), decltype(before), E>,
                 blocks_for(std::min(op.x.size[0] * groups, room), 1), unsigned(warps * warp_size),
                 0, op);
    return true;
  };
  const auto launch = [&](auto per) {
    return op.norm_before_gate && op.z ? launch_as(per, constant<1>{})
                                       : launch_as(per, constant<0>{});
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
