// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The gated RMS norm on a GPU: a block has one group of one row after another.
#pragma once

#include <algorithm>

#include "mlmamba/backend/cuda/bulk_copy.cuh"
#include "mlmamba/backend/cuda/pieces.cuh"
#include "mlmamba/ops/norm.hpp"

namespace mlmamba::backend {

namespace kernels {

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
inline constexpr int gated_norm_stages = 3;
inline constexpr index_t gated_norm_room = 200 << 10;  ///< bytes of a multiprocessor for them

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

/// The same on Hopper, by copies that need no registers: `gated_norm_stages` rows are on their way
/// or at work. A thread has one piece.
template <class Before, class E>
__global__ void __launch_bounds__(gated_norm_threads, 2)
    gated_rms_norm_stream_kernel(const ops::gated_rms_norm<E> op) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  using A = typename E::accum;
  using V = typename E::value;
  constexpr int count = piece<V>::count, stages = gated_norm_stages;
  extern __shared__ __align__(128) unsigned char raw[];
  __shared__ A shared[2][warp_size];
  __shared__ copy_barrier arrived[stages];
  const int width = int(op.x.size[1]), group = op.group_size == 0 ? width : int(op.group_size);
  const index_t groups = width / group, all = op.x.size[0] * groups;
  const int at = int(threadIdx.x) * count;
  const bool mine = at < group;
  V* const rows = reinterpret_cast<V*>(raw);  // [stage][x, z][group]
  if (threadIdx.x == 0)
    for (copy_barrier& b : arrived) open_barrier(b);
  barriers_are_open();
  __syncthreads();
  const auto fetch = [&](index_t row, int stage) {
    if (row >= all || threadIdx.x != 0) return;
    const index_t from = take_index(row, groups) * group;
    const unsigned bytes = unsigned(group) * unsigned(sizeof(V));
    V* const to = rows + index_t(stage) * 2 * group;
    expect_copies(arrived[stage], op.z ? 2 * bytes : bytes);
    copy_bulk(to, &op.x(row, from), bytes, arrived[stage]);
    if (op.z) copy_bulk(to + group, &op.z(row, from), bytes, arrived[stage]);
  };
  wait_for_launch_before();
  for (int i = 0; i + 1 < stages; ++i) fetch(blockIdx.x + index_t(i) * gridDim.x, i);
  int stage = 0;
  unsigned turn = 0;
  for (index_t row = blockIdx.x; row < all; row += gridDim.x) {
    wait_for_copies(arrived[stage], turn & 1);
    const V *x = rows + index_t(stage) * 2 * group + at, *z = x + group;
    A u[count], gate[count], sum = 0;
    if (mine) {
      read_piece(u, x);
      if (op.z) read_piece(gate, z);
#pragma unroll
      for (int i = 0; i < count; ++i) {
        if (op.z) gate[i] = silu_as<V>(gate[i]);
        if (!Before::value && op.z) u[i] *= gate[i];
        sum += u[i] * u[i];
      }
    }
    sum = warp_sum(sum);
    A* const sums = shared[row / gridDim.x & 1];
    if (lane_index() == 0) sums[warp_index()] = sum;
    __syncthreads();  // and nobody reads the row before
    fetch(row + index_t(stages - 1) * gridDim.x, stage == 0 ? stages - 1 : stage - 1);
    sum = warp_sum(lane_index() < int(blockDim.x) / warp_size ? sums[lane_index()] : A(0));
    const A rstd = inverse_root(sum / A(group) + A(op.epsilon));
    index_t t = row;
    const index_t g = take_index(t, groups), from = g * group;
    if (mine) {
      A weight[count];
      if (op.weight) read_piece(weight, &op.weight(from + at));
#pragma unroll
      for (int i = 0; i < count; ++i) {
        u[i] *= op.weight ? rstd * weight[i] : rstd;
        if (Before::value && op.z) u[i] *= gate[i];
      }
      write_piece(&op.y(t, from + at), u);
    }
    if (op.rstd && threadIdx.x == 0) op.rstd(t, g) = rstd;
    if (++stage == stages) stage = 0, ++turn;
  }
#endif
}

/// Launches one of these if operands are aligned and the group is not too wide; says whether.
template <class E>
bool launch_gated_rms_norm_pieces(context<cuda>& ctx, const ops::gated_rms_norm<E>& op) {
  constexpr index_t count = piece<typename E::value>::count, most = gated_norm_threads;
  const index_t group = op.group(), pieces = group / count, groups = op.x.size[1] / group;
  if (group % count != 0 || pieces > 2 * most || op.x.size[1] > 1 << 30 || !in_pieces(op.x) ||
      !in_pieces(op.z) || !in_pieces(op.y) || !in_pieces(op.weight, 4))
    return false;
  const index_t bytes = 2 * gated_norm_stages * group * index_t(sizeof(typename E::value));
  if (ctx.overlaps_launches && pieces <= most) {
    const index_t warps = (pieces + warp_size - 1) / warp_size;
    const index_t room = std::min<index_t>(2 * most / warp_size / warps, gated_norm_room / bytes);
    const auto launch = [&](auto kernel) {
      cuda_check(
          cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes)),
          op.name);
      launch_early(ctx, op.name, kernel,
                   blocks_for(std::min(op.x.size[0] * groups, room * ctx.multiprocessors), 1),
                   unsigned(warps * warp_size), std::size_t(bytes), op);
      return true;
    };
    if (op.x.size[0] == 0) return true;
    return op.norm_before_gate ? launch(gated_rms_norm_stream_kernel<constant<1>, E>)
                               : launch(gated_rms_norm_stream_kernel<constant<0>, E>);
  }
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

}  // namespace kernels

template <class E>
void execute(context<cuda>& ctx, const ops::gated_rms_norm<E>& op) {
  if (op.x.size[1] == 0) return;
  if (kernels::launch_gated_rms_norm_pieces(ctx, op)) return;
  kernels::launch_rows(ctx, kernels::gated_rms_norm_kernel<E>,
                       op.x.size[0] * (op.x.size[1] / op.group()), op);
}

}  // namespace mlmamba::backend
