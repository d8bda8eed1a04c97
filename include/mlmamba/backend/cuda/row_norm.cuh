// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// RMSNorm and LayerNorm with each element read once: a row stays in the registers of a warp or of a
// block.
#pragma once

#include "mlmamba/backend/cuda/pieces.cuh"
#include "mlmamba/ops/norm.hpp"

namespace mlmamba::backend::kernels {

inline constexpr int row_norm_count = 4;  // elements of a piece

/// The factor of a branch whose squares are known: 1 / their root mean square. By whole warps.
template <class A, class Plus>
__device__ A branch_factor(const Plus& plus, index_t t) {
  A squares = 0;
  for (index_t k = lane_index(); k < plus.squares.size[1]; k += warp_size)
    squares += plus.squares(t, k);
  return A(1) / math::sqrt(warp_sum(squares) / A(plus.squares_of) + A(plus.squares_epsilon));
}

/// `Per`: pieces of a thread. `Threads`: of a row; a block of 256 has 8 rows or one.
template <class Per, class Threads, class Op, class Value, class X>
__global__ void __launch_bounds__(block_threads) row_norm_kernel(const Op op) {
  using A = accum_t<X>;
  constexpr int per = Per::value, threads = Threads::value, count = row_norm_count;
  constexpr bool centred = requires(const Op& o) { o.mean; };
  __shared__ A shared[warp_size];
  const index_t t = thread_index() / threads, width = op.x.size[1];
  if (threads == warp_size && t >= op.x.size[0]) return;  // all lanes of a warp agree
  const int i = int(threadIdx.x) % threads;
  const auto place = [&](int k) { return (i + k * threads) * count; };
  wait_for_launch_before();
  const auto sum_of = [&](A v) {
    if constexpr (threads == warp_size) return warp_sum(v);
    return block_sum(v, shared);
  };
  // All reads are on their way before the first result is waited for.
  A x[per][count], branch[per][count] = {}, sum = 0, factor = 1;
#pragma unroll
  for (int k = 0; k < per; ++k) {
    if (place(k) >= width) break;
    read_piece(x[k], &op.x(t, place(k)));
    if (op.plus) read_piece(branch[k], &op.plus.branch(t, place(k)));
  }
  if (op.plus.squares) factor = branch_factor<A>(op.plus, t);
#pragma unroll
  for (int k = 0; k < per; ++k) {
    if (place(k) >= width) break;
    if (op.plus) {
      A gamma[count] = {A(1), A(1), A(1), A(1)};
      if (op.plus.gamma) read_piece(gamma, &op.plus.gamma(place(k)));
#pragma unroll
      for (int j = 0; j < count; ++j) x[k][j] = A(X(branch[k][j] * (gamma[j] * factor) + x[k][j]));
      write_piece(&op.plus.sum(t, place(k)), x[k]);
    }
#pragma unroll
    for (int j = 0; j < count; ++j) sum += centred ? x[k][j] : x[k][j] * x[k][j];
  }
  sum = sum_of(sum);
  A mean = 0;
  if constexpr (centred) {
    mean = sum / A(width);
    sum = 0;
#pragma unroll
    for (int k = 0; k < per; ++k) {
      if (place(k) >= width) break;
#pragma unroll
      for (int j = 0; j < count; ++j) {
        x[k][j] -= mean;
        sum += x[k][j] * x[k][j];
      }
    }
    sum = sum_of(sum);
  }
  const A rstd = A(1) / math::sqrt(sum / A(width) + A(op.epsilon));
#pragma unroll
  for (int k = 0; k < per; ++k) {
    if (place(k) >= width) break;
    A w[count] = {A(1), A(1), A(1), A(1)};
    if (op.weight) read_piece(w, &op.weight(place(k)));
#pragma unroll
    for (int j = 0; j < count; ++j) x[k][j] *= rstd * w[j];
    if constexpr (centred) {
      A b[count] = {};
      if (op.bias) read_piece(b, &op.bias(place(k)));
#pragma unroll
      for (int j = 0; j < count; ++j) x[k][j] += b[j];
    }
    write_piece(&op.y(t, place(k)), x[k]);
  }
  if (i != 0) return;
  if constexpr (centred) {
    if (op.mean) op.mean(t) = mean, op.rstd(t) = rstd;
  } else {
    if (op.rstd) op.rstd(t) = rstd;
  }
}

/// Launches it if operands are aligned and rows not too wide; says whether.
template <class Value, class X, class Op>
bool launch_row_norm(context<cuda>& ctx, const Op& op) {
  if constexpr (!std::is_same_v<accum_t<X>, float>) {
    return false;
  } else {
    const index_t rows = op.x.size[0], width = op.x.size[1];
    bool fits = in_pieces(op.x, row_norm_count) && in_pieces(op.y, row_norm_count) &&
                in_pieces(op.weight, row_norm_count) && width <= 8 * 256 * row_norm_count;
    if constexpr (requires { op.bias; }) fits = fits && in_pieces(op.bias, row_norm_count);
    if (op.plus)
      fits = fits && in_pieces(op.plus.branch, row_norm_count) &&
             in_pieces(op.plus.gamma, row_norm_count) && in_pieces(op.plus.sum, row_norm_count);
    if (!fits || width == 0) return false;
    if (rows == 0) return true;
    const auto launch = [&](auto per, auto threads) {
      launch_early(ctx, op.name, row_norm_kernel<decltype(per), decltype(threads), Op, Value, X>,
                   blocks_for(rows * threads.value, block_threads), block_threads, 0, op);
      return true;
    };
    const index_t pieces = width / row_norm_count;
    // Few rows are shared by more threads, unless that would change their sums.
    const bool many = ctx.independent_rows || rows >= 16 * ctx.multiprocessors;
    if (many && pieces <= 4 * warp_size) return launch(constant<4>{}, constant<warp_size>{});
    if (many && pieces <= 9 * warp_size) return launch(constant<9>{}, constant<warp_size>{});
    if (pieces <= block_threads) return launch(constant<1>{}, constant<block_threads>{});
    if (pieces <= 3 * block_threads) return launch(constant<3>{}, constant<block_threads>{});
    return launch(constant<8>{}, constant<block_threads>{});
  }
}

}  // namespace mlmamba::backend::kernels
