// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Attention on the CPU: one task per head, or per run of queries where there are few heads.
#pragma once

#include "mlmamba/backend/cpu/simd/dispatch.hpp"
#include "mlmamba/backend/cpu/workers.hpp"
#include "mlmamba/ops/attention.hpp"

namespace mlmamba::backend {

namespace detail {
template <class View>
auto head(const View& v, index_t b, index_t h) {
  return v.data + b * v.stride[0] + h * v.stride[2];
}
}  // namespace detail

template <class E>
void execute(context<cpu>& ctx, const ops::attention<E>& op) {
  using T = typename E::value;
  using A = typename E::accum;
  const auto& kernels = simd::cpu_kernels<simd::attention_entries<T>>();
  const index_t queries = op.q.size[1], heads = op.q.size[2], keys = op.k.size[1];
  const index_t all = op.q.size[0] * heads;
  if (all == 0 || queries == 0) return;
  // Each task packs its keys and values again, so heads are cut only to keep the threads busy.
  const index_t block = 64, wanted = (2 * ctx.threads.size() + all - 1) / all;
  const index_t runs = all >= 2 * ctx.threads.size() || ctx.threads.size() == 1
                           ? 1
                           : std::min(wanted, (queries + block - 1) / block);
  const index_t size = ((queries + runs - 1) / runs + block - 1) / block * block;
  detail::for_each_with_scratch<A>(
      ctx, all * runs, kernels.scratch(keys, op.q.size[3]), [&](index_t task, A* scratch) {
        const index_t b = task / runs / heads, h = task / runs % heads;
        const index_t from = task % runs * size;
        const simd::attention_head<T> head{
            .q = detail::head(op.q, b, h),
            .k = detail::head(op.k, b, h),
            .v = detail::head(op.v, b, h),
            .q_row = op.q.stride[1],
            .k_row = op.k.stride[1],
            .v_row = op.v.stride[1],
            .y = detail::head(op.y, b, h),
            .y_row = op.y.stride[1],
            .log_sum_exp = op.log_sum_exp ? op.log_sum_exp.data + b * op.log_sum_exp.stride[0] +
                                                h * op.log_sum_exp.stride[1]
                                          : nullptr,
            .log_sum_exp_step = op.log_sum_exp.stride[2],
            .queries = queries,
            .keys = keys,
            .width = op.q.size[3],
            .scale = op.scale,
            .causal = op.causal};
        kernels.forward(head, std::min(from, queries), std::min(from + size, queries), scratch);
      });
}

template <class E>
void execute(context<cpu>& ctx, const ops::attention_backward<E>& op) {
  using T = typename E::value;
  using A = typename E::accum;
  const auto& kernels = simd::cpu_kernels<simd::attention_backward_entries<T>>();
  const index_t queries = op.q.size[1], heads = op.q.size[2], keys = op.k.size[1];
  detail::for_each_with_scratch<A>(
      ctx, op.q.size[0] * heads, kernels.scratch(queries, keys, op.q.size[3]),
      [&](index_t task, A* scratch) {
        const index_t b = task / heads, h = task % heads;
        kernels.backward({.q = detail::head(op.q, b, h),
                          .k = detail::head(op.k, b, h),
                          .v = detail::head(op.v, b, h),
                          .y = detail::head(op.y, b, h),
                          .dy = detail::head(op.dy, b, h),
                          .q_row = op.q.stride[1],
                          .k_row = op.k.stride[1],
                          .v_row = op.v.stride[1],
                          .y_row = op.y.stride[1],
                          .dy_row = op.dy.stride[1],
                          .log_sum_exp = op.log_sum_exp.data + b * op.log_sum_exp.stride[0] +
                                         h * op.log_sum_exp.stride[1],
                          .log_sum_exp_step = op.log_sum_exp.stride[2],
                          .dq = detail::head(op.dq, b, h),
                          .dk = detail::head(op.dk, b, h),
                          .dv = detail::head(op.dv, b, h),
                          .dq_row = op.dq.stride[1],
                          .dk_row = op.dk.stride[1],
                          .dv_row = op.dv.stride[1],
                          .queries = queries,
                          .keys = keys,
                          .width = op.q.size[3],
                          .scale = op.scale,
                          .causal = op.causal},
                         scratch);
      });
}

}  // namespace mlmamba::backend
