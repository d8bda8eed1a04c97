// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Reductions on the CPU: sums over rows by columns, sums of squares by blocks, arg max by rows.
#pragma once

#include "mlmamba/backend/cpu/simd/dispatch.hpp"
#include "mlmamba/backend/cpu/workers.hpp"
#include "mlmamba/ops/reduce.hpp"

namespace mlmamba::backend {

template <class Isa, class E>
void execute(context<cpu_for<Isa>>& ctx, const ops::sum_rows<E>& op) {
  const auto kernel = simd::cpu_kernels<simd::sum_rows_entries<typename E::value>>().sum;
  const index_t rows = op.x.size[0];
  // At least 64 columns, and 32768 elements: a task has columns, so that no sum crosses tasks.
  const index_t columns = std::max<index_t>(64, 32768 / std::max<index_t>(rows, 1));
  detail::for_each_run(ctx, op.x.size[1], columns, [&](index_t from, index_t to) {
    kernel(op.x.data + from, op.x.stride[0], rows, op.y.data + from, to - from);
  });
}

template <class Isa, class E>
void execute(context<cpu_for<Isa>>& ctx, const ops::sum_squares<E>& op) {
  const auto kernel = simd::cpu_kernels<simd::sum_squares_entries<typename E::accum>>().sum;
  constexpr index_t block = ops::sum_squares<E>::block;
  const index_t n = op.x.size[0], blocks = (n + block - 1) / block;
  auto frame = ctx.scratch.make_frame();
  const auto sums = ctx.scratch.template make<double, 1>(shape<1>{{blocks}});
  detail::for_each_run(ctx, blocks, 16, [&](index_t from, index_t to) {
    for (index_t b = from; b < to; ++b)
      sums(b) = kernel(op.x.data + b * block, std::min(block, n - b * block));
  });
  for (index_t b = 0; b < blocks; ++b) op.y(0) += sums(b);
}

namespace detail {
/// See ops::argmax; `best` is the largest.
template <class X>
index_t first_unfit(const X* x, index_t n, index_t best) {
  using A = accum_t<X>;
  constexpr A limit = std::numeric_limits<A>::infinity();
  bool all = true;
  for (index_t i = 0; i < n; ++i) all &= A(x[i]) < limit;
  if (all) return A(x[best]) == -limit ? 0 : -1;
  index_t i = 0;
  while (A(x[i]) < limit) ++i;
  return i;
}
}  // namespace detail

template <class Isa, class E, class X>
void execute(context<cpu_for<Isa>>& ctx, const ops::argmax<E, X>& op) {
  const auto kernel = simd::cpu_kernels<simd::argmax_entries<X>>().find;
  const index_t columns = op.x.size[1];
  detail::for_each_run(
      ctx, op.x.size[0], std::max<index_t>(1, 65536 / columns), [&](index_t from, index_t to) {
        for (index_t t = from; t < to; ++t) {
          const X* row = op.x.data + t * op.x.stride[0];
          op.index(t) = std::int32_t(kernel(row, columns));
          if (op.unfit) op.unfit(t) = std::int32_t(detail::first_unfit(row, columns, op.index(t)));
        }
      });
}

}  // namespace mlmamba::backend
