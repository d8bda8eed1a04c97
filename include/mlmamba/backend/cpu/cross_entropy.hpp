// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Cross-entropy on the CPU: runs of rows per task.
#pragma once

#include <cmath>

#include "mlmamba/backend/cpu/simd/dispatch.hpp"
#include "mlmamba/backend/cpu/workers.hpp"
#include "mlmamba/ops/cross_entropy.hpp"

namespace mlmamba::backend {

namespace detail {
/// Before anything is written.
template <class Op>
void check_labels(const Op& op) {
  for (index_t t = 0; t < op.label.size[0]; ++t) {
    const index_t l = op.label.data[t];
    if (l != op.ignore_index && (l < 0 || l >= op.logits.size[1]))
      fail<shape_error>(op.name, ": label ", l, " at ", t, "; wanted is ", op.ignore_index,
                        " or 0 to ", op.logits.size[1] - 1);
  }
}
template <class Op>
index_t logit_rows_per_task(const Op& op) {
  return 8192 / std::max<index_t>(op.logits.size[1], 1);
}
}  // namespace detail

template <class E>
void execute(context<cpu>& ctx, const ops::cross_entropy<E>& op) {
  using A = typename E::accum;
  detail::check_labels(op);
  const auto& kernels = simd::cpu_kernels<simd::cross_entropy_entries<typename E::value>>();
  const index_t n = op.logits.size[1];
  detail::for_each_run(ctx, op.logits.size[0], detail::logit_rows_per_task(op),
                       [&](index_t from, index_t to) {
                         for (index_t t = from; t < to; ++t) {
                           const index_t l = op.label.data[t];
                           op.loss.data[t] = A(0);
                           if (l == op.ignore_index) continue;
                           const auto* x = op.logits.data + t * op.logits.stride[0];
                           const A top = kernels.largest(x, n);
                           // The two large terms meet first: log(sum) is what is left.
                           op.loss.data[t] = std::log(kernels.sum_exp(x, top, n)) + (top - A(x[l]));
                         }
                       });
}

template <class E>
void execute(context<cpu>& ctx, const ops::cross_entropy_backward<E>& op) {
  using A = typename E::accum;
  using V = typename E::value;
  detail::check_labels(op);
  const auto& kernels = simd::cpu_kernels<simd::cross_entropy_entries<V>>();
  const index_t n = op.logits.size[1];
  detail::for_each_run(ctx, op.logits.size[0], detail::logit_rows_per_task(op),
                       [&](index_t from, index_t to) {
                         for (index_t t = from; t < to; ++t) {
                           const index_t l = op.label.data[t];
                           const V* x = op.logits.data + t * op.logits.stride[0];
                           V* dx = op.dlogits.data + t * op.dlogits.stride[0];
                           if (l == op.ignore_index) {
                             std::fill_n(dx, n, V(A(0)));
                             continue;
                           }
                           const A scale = op.dloss ? op.dloss.data[t] : A(op.scale);
                           const A top = kernels.largest(x, n), sum = kernels.sum_exp(x, top, n);
                           const A p = std::exp(A(x[l]) - top) / sum;  // now: dlogits may be logits
                           kernels.scaled_exp(x, top, scale / sum, dx, n);
                           dx[l] = V(scale * (p - A(1)));
                         }
                       });
}

}  // namespace mlmamba::backend
