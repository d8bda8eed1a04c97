// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Norms on the CPU: runs of rows per task; gradients of weights by blocks of rows whose number
// depends on the number of rows only, added first to last.
#pragma once

#include "mlmamba/backend/cpu/elementwise.hpp"
#include "mlmamba/backend/cpu/simd/dispatch.hpp"
#include "mlmamba/backend/cpu/workers.hpp"
#include "mlmamba/ops/norm.hpp"

namespace mlmamba::backend {

namespace detail {

/// Rows of a task of a norm: 16384 elements, tens of microseconds.
inline index_t rows_per_task(index_t width) { return 16384 / std::max<index_t>(width, 1); }

inline constexpr index_t norm_blocks = 64;  // partial sums of few megabytes, enough for any CPU

/// Calls f(from, to, dweight, dbias, buffer) for blocks of rows, at most norm_blocks; the sums that
/// it writes are added to `outputs` (each may be empty) afterwards. `buffer` has `room` numbers.
template <class A, class F>
void norm_backward_blocks(context<cpu>& ctx, index_t rows, index_t width, index_t room,
                          view<A, 1> const (&outputs)[2], const F& f) {
  const index_t size = std::max<index_t>(8, (rows + norm_blocks - 1) / norm_blocks);
  const index_t blocks = (rows + size - 1) / size;
  auto frame = ctx.scratch.make_frame();
  view<A, 3> partial = ctx.scratch.template make<A, 3>({{2, blocks, width}});
  for_each_with_scratch<A>(ctx, blocks, room, [&](index_t k, A* buffer) {
    A* sums[2];
    for (index_t i = 0; i < 2; ++i)
      sums[i] = outputs[i] ? partial.data + (i * blocks + k) * width : nullptr;
    f(k * size, std::min(rows, (k + 1) * size), sums[0], sums[1], buffer);
  });
  const auto add_rows = simd::cpu_kernels<simd::add_rows_entries<A>>().add;
  for (index_t i = 0; i < 2; ++i) {
    if (!outputs[i]) continue;
    const A* sums = partial.data + i * blocks * width;
    for_each_run(ctx, width, 32768 / std::max<index_t>(blocks, 1), [&](index_t from, index_t to) {
      add_rows(sums + from, blocks, width, outputs[i].data + from, to - from);
    });
  }
}

/// Rows of op.plus.sum, which are still in the cache when they are normalised.
template <class E, class X, class Op>
void add_residual(const Op& op, index_t from, index_t to) {
  using V = typename E::value;
  const auto& plus = op.plus;
  const index_t d = op.x.size[1];
  std::vector<typename E::accum> scale(std::size_t(plus.squares ? d : 0));
  for (index_t t = from; t < to; ++t) {
    const X* x = op.x.data + t * op.x.stride[0];
    const V* branch = plus.branch.data + t * plus.branch.stride[0];
    X* sum = plus.sum.data + t * plus.sum.stride[0];
    if (plus.squares) {
      using A = typename E::accum;
      A squares = 0;
      for (index_t k = 0; k < plus.squares.size[1]; ++k) squares += plus.squares(t, k);
      const A factor = A(1) / std::sqrt(squares / A(plus.squares_of) + A(plus.squares_epsilon));
      for (index_t k = 0; k < d; ++k)
        scale[std::size_t(k)] = plus.gamma ? plus.gamma(k) * factor : factor;
      channel_scale_kernel<X, V>()(branch, scale.data(), x, sum, d);
    } else if (plus.gamma) {
      channel_scale_kernel<X, V>()(branch, plus.gamma.data, x, sum, d);
    } else if constexpr (std::is_same_v<X, V>) {
      simd::cpu_kernels<simd::elementwise_entries<V>>().add(x, branch, sum, 1, d);
    } else {
      simd::cpu_kernels<simd::elementwise_entries<V>>().accum_add(x, branch, sum, 1, d);
    }
  }
}

template <class E, class X, class Op>
simd::norm_rows<typename E::value, X> norm_rows_of(const Op& op, index_t from, index_t to,
                                                   typename E::accum* buffer) {
  view<const X, 2> x = op.x;
  if (op.plus) {
    add_residual<E, X>(op, from, to);
    x = op.plus.sum;
  }
  return {.x = x.data + from * x.stride[0],
          .x_stride = x.stride[0],
          .weight = op.weight.data,
          .bias = nullptr,
          .y = op.y.data + from * op.y.stride[0],
          .y_stride = op.y.stride[0],
          .mean = nullptr,
          .rstd = op.rstd ? op.rstd.data + from : nullptr,
          .buffer = buffer,
          .rows = to - from,
          .width = op.x.size[1],
          .epsilon = op.epsilon};
}
/// f(from, to, buffer) for runs of rows as for_each_run cuts them; `buffer` has `room` numbers.
template <class A, class F>
void for_each_norm_run(context<cpu>& ctx, index_t rows, index_t width, index_t room, const F& f) {
  const index_t most = 4 * ctx.threads.size();
  const index_t size = std::max<index_t>({rows_per_task(width), (rows + most - 1) / most, 1});
  for_each_with_scratch<A>(ctx, (rows + size - 1) / size, room, [&](index_t k, A* buffer) {
    f(k * size, std::min(rows, (k + 1) * size), buffer);
  });
}
/// f(rows, from) for such runs.
template <class E, class X, class Op, class F>
void for_each_norm_rows(context<cpu>& ctx, const Op& op, const F& f) {
  using A = typename E::accum;
  const index_t width = op.x.size[1];
  for_each_norm_run<A>(ctx, op.x.size[0], width, simd::norm_buffer<X>(width),
                       [&](index_t from, index_t to, A* buffer) {
                         f(norm_rows_of<E, X>(op, from, to, buffer), from);
                       });
}
template <class E, class X, class Op>
simd::norm_backward_rows<typename E::value, X> norm_backward_rows_of(const Op& op, index_t from,
                                                                     index_t to,
                                                                     typename E::accum* buffer) {
  return {.x = op.x.data + from * op.x.stride[0],
          .x_stride = op.x.stride[0],
          .weight = op.weight.data,
          .mean = nullptr,
          .rstd = op.rstd.data + from,
          .dy = op.dy.data + from * op.dy.stride[0],
          .dy_stride = op.dy.stride[0],
          .dx = op.dx.data + from * op.dx.stride[0],
          .dx_stride = op.dx.stride[0],
          .dweight = nullptr,
          .dbias = nullptr,
          .buffer = buffer,
          .rows = to - from,
          .width = op.x.size[1],
          .accumulate = op.accumulate};
}

}  // namespace detail

template <class E, class X>
void execute(context<cpu>& ctx, const ops::rms_norm<E, X>& op) {
  const auto kernel = simd::cpu_kernels<simd::norm_entries<typename E::value, X>>().rms;
  detail::for_each_norm_rows<E, X>(ctx, op, [&](const auto& rows, index_t) { kernel(rows); });
}

template <class E, class X>
void execute(context<cpu>& ctx, const ops::layer_norm<E, X>& op) {
  const auto kernel = simd::cpu_kernels<simd::norm_entries<typename E::value, X>>().layer;
  detail::for_each_norm_rows<E, X>(ctx, op, [&](auto rows, index_t from) {
    rows.bias = op.bias.data;
    rows.mean = op.mean ? op.mean.data + from : nullptr;
    kernel(rows);
  });
}

template <class E, class X>
void execute(context<cpu>& ctx, const ops::rms_norm_backward<E, X>& op) {
  using A = typename E::accum;
  const auto kernel = simd::cpu_kernels<simd::norm_backward_entries<typename E::value, X>>().rms;
  detail::norm_backward_blocks<A>(
      ctx, op.x.size[0], op.x.size[1], simd::norm_buffer<X>(op.x.size[1]), {op.dweight, {}},
      [&](index_t from, index_t to, A* dweight, A*, A* buffer) {
        auto rows = detail::norm_backward_rows_of<E, X>(op, from, to, buffer);
        rows.dweight = dweight;
        kernel(rows);
      });
}

template <class E, class X>
void execute(context<cpu>& ctx, const ops::layer_norm_backward<E, X>& op) {
  using A = typename E::accum;
  const auto kernel = simd::cpu_kernels<simd::norm_backward_entries<typename E::value, X>>().layer;
  detail::norm_backward_blocks<A>(
      ctx, op.x.size[0], op.x.size[1], simd::norm_buffer<X>(op.x.size[1]), {op.dweight, op.dbias},
      [&](index_t from, index_t to, A* dweight, A* dbias, A* buffer) {
        auto rows = detail::norm_backward_rows_of<E, X>(op, from, to, buffer);
        rows.mean = op.mean.data + from;
        rows.dweight = dweight, rows.dbias = dbias;
        kernel(rows);
      });
}

template <class E>
void execute(context<cpu>& ctx, const ops::gated_rms_norm<E>& op) {
  using A = typename E::accum;
  if (op.x.size[1] == 0) return;
  const auto kernel = simd::cpu_kernels<simd::gated_norm_entries<typename E::value>>().forward;
  const index_t group = op.group(), width = op.x.size[1];
  const index_t room = simd::gated_norm_buffer(group, width);
  detail::for_each_norm_run<A>(
      ctx, op.x.size[0], width, room, [&](index_t from, index_t to, A* buffer) {
        kernel({.x = op.x.data + from * op.x.stride[0],
                .x_stride = op.x.stride[0],
                .z = op.z ? op.z.data + from * op.z.stride[0] : nullptr,
                .z_stride = op.z.stride[0],
                .weight = op.weight.data,
                .y = op.y.data + from * op.y.stride[0],
                .y_stride = op.y.stride[0],
                .rstd = op.rstd ? op.rstd.data + from * op.rstd.stride[0] : nullptr,
                .rstd_stride = op.rstd.stride[0],
                .buffer = buffer,
                .rows = to - from,
                .width = width,
                .group = group,
                .norm_before_gate = op.norm_before_gate,
                .epsilon = op.epsilon});
      });
}

template <class E>
void execute(context<cpu>& ctx, const ops::gated_rms_norm_backward<E>& op) {
  using A = typename E::accum;
  if (op.x.size[1] == 0) return;
  const auto kernel =
      simd::cpu_kernels<simd::gated_norm_backward_entries<typename E::value>>().backward;
  const index_t group = op.group();
  detail::norm_backward_blocks<A>(
      ctx, op.x.size[0], op.x.size[1], simd::gated_norm_buffer(group, op.x.size[1]),
      {op.dweight, {}}, [&](index_t from, index_t to, A* dweight, A*, A* buffer) {
        kernel({.x = op.x.data + from * op.x.stride[0],
                .x_stride = op.x.stride[0],
                .z = op.z ? op.z.data + from * op.z.stride[0] : nullptr,
                .z_stride = op.z.stride[0],
                .weight = op.weight.data,
                .rstd = op.rstd.data + from * op.rstd.stride[0],
                .rstd_stride = op.rstd.stride[0],
                .dy = op.dy.data + from * op.dy.stride[0],
                .dy_stride = op.dy.stride[0],
                .dx = op.dx.data + from * op.dx.stride[0],
                .dx_stride = op.dx.stride[0],
                .dz = op.dz ? op.dz.data + from * op.dz.stride[0] : nullptr,
                .dz_stride = op.dz.stride[0],
                .dweight = dweight,
                .buffer = buffer,
                .rows = to - from,
                .width = op.x.size[1],
                .group = group,
                .norm_before_gate = op.norm_before_gate});
      });
}

}  // namespace mlmamba::backend
