// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Ops on grids of tokens on the CPU: tasks are runs of output tokens, channels are vectors.
// Gradients of convolution weights: tasks are runs of channels, which walk all tokens first to
// last.
#pragma once

#include "mlmamba/backend/cpu/simd/dispatch.hpp"
#include "mlmamba/backend/cpu/workers.hpp"
#include "mlmamba/ops/grid.hpp"

namespace mlmamba::backend {

namespace detail {

/// f(b, i, j) for every token of a grid, by runs.
template <class F>
void for_each_token(context<cpu>& ctx, index_t batch, index_t rows, index_t columns, index_t width,
                    const F& f) {
  const index_t tokens = rows * columns;
  for_each_run(ctx, batch * tokens, 8192 / std::max<index_t>(width, 1),
               [&](index_t from, index_t to) {
                 for (index_t t = from; t < to; ++t)
                   f(t / tokens, t % tokens / columns, t % columns);
               });
}
template <class View>
auto token(const View& v, index_t b, index_t t) {
  return v.data + b * v.stride[0] + t * v.stride[1];
}

/// (9, D), so that channels are vectors.
template <class A>
view<A, 2> taps_first(context<cpu>& ctx, const view<const A, 3>& weight) {
  const view<A, 2> w = ctx.scratch.template make<A, 2>({{9, weight.size[0]}});
  for (index_t k = 0; k < 9; ++k)
    for (index_t d = 0; d < weight.size[0]; ++d) w(k, d) = weight(d, k / 3, k % 3);
  return w;
}

}  // namespace detail

template <class E>
void execute(context<cpu>& ctx, const ops::adaptive_pool<E>& op) {
  using A = typename E::accum;
  const auto kernel = simd::cpu_kernels<simd::grid_entries<typename E::value>>().window;
  const index_t n = op.x.size[2];
  detail::for_each_token(
      ctx, op.x.size[0], op.out_rows, op.out_columns, n, [&](index_t b, index_t i, index_t j) {
        const ops::pool_window r(i, op.rows, op.out_rows), c(j, op.columns, op.out_columns);
        kernel(detail::token(op.x, b, r.from * op.columns + c.from), op.columns * op.x.stride[1],
               r.to - r.from, op.x.stride[1], c.to - c.from, nullptr, nullptr,
               A((r.to - r.from) * (c.to - c.from)), detail::token(op.y, b, i * op.out_columns + j),
               n);
      });
}

template <class E>
void execute(context<cpu>& ctx, const ops::adaptive_pool_backward<E>& op) {
  using A = typename E::accum;
  const auto kernel = simd::cpu_kernels<simd::grid_entries<typename E::value>>().window;
  const index_t n = op.dx.size[2];
  auto frame = ctx.scratch.make_frame();
  auto shares = [&](index_t size, index_t outputs) {  // 1 / length of each window
    const view<A, 1> w = ctx.scratch.template make<A, 1>({{outputs}});
    for (index_t i = 0; i < outputs; ++i) {
      const ops::pool_window v(i, size, outputs);
      w(i) = A(1) / A(v.to - v.from);
    }
    return w;
  };
  const auto row_share = shares(op.rows, op.out_rows);
  const auto column_share = shares(op.columns, op.out_columns);
  detail::for_each_token(
      ctx, op.dx.size[0], op.rows, op.columns, n, [&](index_t b, index_t i, index_t j) {
        // The windows that hold row s are those from floor(s p / n) to ceil((s + 1) p / n).
        const ops::pool_window r(i, op.out_rows, op.rows), c(j, op.out_columns, op.columns);
        kernel(detail::token(op.dy, b, r.from * op.out_columns + c.from),
               op.out_columns * op.dy.stride[1], r.to - r.from, op.dy.stride[1], c.to - c.from,
               row_share.data + r.from, column_share.data + c.from, A(1),
               detail::token(op.dx, b, i * op.columns + j), n);
      });
}

template <class E>
void execute(context<cpu>& ctx, const ops::pixel_shuffle<E>& op) {
  const index_t f = op.factor, n = op.inverse ? op.y.size[2] : op.x.size[2];
  detail::for_each_token(
      ctx, op.x.size[0], op.rows, op.columns, n, [&](index_t b, index_t i, index_t j) {
        const index_t fine = i * op.columns + j, coarse = (i / f) * (op.columns / f) + j / f;
        const index_t channel = ((i % f) * f + j % f) * n;
        if (op.inverse) {
          std::copy_n(detail::token(op.x, b, coarse) + channel, n, detail::token(op.y, b, fine));
        } else {
          std::copy_n(detail::token(op.x, b, fine), n, detail::token(op.y, b, coarse) + channel);
        }
      });
}

template <class E>
void execute(context<cpu>& ctx, const ops::depthwise_conv2d<E>& op) {
  using V = typename E::value;
  const auto kernel = simd::cpu_kernels<simd::grid_entries<V>>().stencil;
  const index_t n = op.x.size[2];
  auto frame = ctx.scratch.make_frame();
  const auto weight = detail::taps_first(ctx, op.weight);
  // The bias is one vector load per output: it needs unit stride, which the contract does not ask.
  const auto bias = op.bias ? ctx.template make_accum<E, 1>({{n}}) : out_accum<E, 1>{};
  for (index_t d = 0; op.bias && d < n; ++d) bias(d) = op.bias(d);
  detail::for_each_token(
      ctx, op.x.size[0], op.rows, op.columns, n, [&](index_t b, index_t i, index_t j) {
        const V* taps[9];
        for (index_t k = 0; k < 9; ++k) {
          const index_t y = i + k / 3 - 1, x = j + k % 3 - 1;
          const bool inside = y >= 0 && y < op.rows && x >= 0 && x < op.columns;
          taps[k] = inside ? detail::token(op.x, b, y * op.columns + x) : nullptr;
        }
        kernel(taps, weight.data, n, bias.data, detail::token(op.y, b, i * op.columns + j), n);
      });
}

template <class E>
void execute(context<cpu>& ctx, const ops::depthwise_conv2d_backward<E>& op) {
  using V = typename E::value;
  using A = typename E::accum;
  const auto& kernels = simd::cpu_kernels<simd::grid_entries<V>>();
  const index_t n = op.x.size[2];
  auto frame = ctx.scratch.make_frame();
  const auto weight = detail::taps_first(ctx, op.weight);
  detail::for_each_token(
      ctx, op.x.size[0], op.rows, op.columns, n, [&](index_t b, index_t i, index_t j) {
        const V* taps[9];
        for (index_t k = 0; k < 9; ++k) {  // the output that saw this input through weight k
          const index_t y = i - (k / 3 - 1), x = j - (k % 3 - 1);
          const bool inside = y >= 0 && y < op.rows && x >= 0 && x < op.columns;
          taps[k] = inside ? detail::token(op.dy, b, y * op.columns + x) : nullptr;
        }
        kernels.stencil(taps, weight.data, n, nullptr, detail::token(op.dx, b, i * op.columns + j),
                        n);
      });
  if (!op.dweight && !op.dbias) return;
  const view<A, 2> sums = ctx.scratch.template make<A, 2>({{10, n}});
  const index_t tokens = std::max<index_t>(op.x.size[0] * op.x.size[1], 1);
  detail::for_each_run(ctx, n, std::max<index_t>(16, 2048 / tokens), [&](index_t from, index_t to) {
    simd::cpu_kernels<simd::grid_backward_entries<V>>().stencil(
        {.x = op.x.data + from,
         .dy = op.dy.data + from,
         .x_batch = op.x.stride[0],
         .x_token = op.x.stride[1],
         .dy_batch = op.dy.stride[0],
         .dy_token = op.dy.stride[1],
         .batch = op.x.size[0],
         .rows = op.rows,
         .columns = op.columns,
         .dweight = op.dweight ? sums.data + from : nullptr,
         .dbias = op.dbias ? sums.data + 9 * n + from : nullptr,
         .dweight_row = n},
        to - from);
    for (index_t d = from; d < to; ++d) {
      for (index_t k = 0; k < 9 && op.dweight; ++k) op.dweight(d, k / 3, k % 3) += sums(k, d);
      if (op.dbias) op.dbias(d) += sums(9, d);
    }
  });
}

}  // namespace mlmamba::backend
