// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Rows of a table on the CPU. The backward's tasks are runs of columns, which walk all tokens:
// equal indices are added first to last.
#pragma once

#include <cstring>

#include "mlmamba/backend/cpu/simd/dispatch.hpp"
#include "mlmamba/backend/cpu/workers.hpp"
#include "mlmamba/ops/embedding.hpp"

namespace mlmamba::backend {

namespace detail {
/// Before anything is written.
inline void check_indices(const char* op, const view<const std::int32_t, 1>& index, index_t rows) {
  for (index_t t = 0; t < index.size[0]; ++t)
    if (index.data[t] < 0 || index.data[t] >= rows)
      fail<shape_error>(op, ": index ", index.data[t], " at ", t, "; wanted is 0 to ", rows - 1);
}
}  // namespace detail

template <class E>
void execute(context<cpu>& ctx, const ops::embedding<E>& op) {
  using V = typename E::value;
  using A = typename E::accum;
  detail::check_indices(op.name, op.index, op.table.size[0]);
  const index_t n = op.table.size[1];
  detail::for_each_run(ctx, op.index.size[0], 16384 / std::max<index_t>(n, 1),
                       [&](index_t from, index_t to) {
                         for (index_t t = from; t < to; ++t) {
                           const auto* row = op.table.data + op.index.data[t] * op.table.stride[0];
                           V* y = op.y.data + t * op.y.stride[0];
                           if constexpr (std::is_same_v<typename E::weight, V>) {
                             if (n > 0) std::memcpy(y, row, std::size_t(n) * sizeof(V));
                           } else {
                             for (index_t d = 0; d < n; ++d) y[d] = V(A(row[d]));
                           }
                         }
                       });
}

template <class E>
void execute(context<cpu>& ctx, const ops::embedding_backward<E>& op) {
  using A = typename E::accum;
  detail::check_indices(op.name, op.index, op.dtable.size[0]);
  const auto add = simd::cpu_kernels<simd::elementwise_entries<typename E::value>>().accum_add;
  const index_t columns = std::max<index_t>(64, 16384 / std::max<index_t>(op.index.size[0], 1));
  detail::for_each_run(ctx, op.dtable.size[1], columns, [&](index_t from, index_t to) {
    for (index_t t = 0; t < op.index.size[0]; ++t) {
      A* row = op.dtable.data + op.index.data[t] * op.dtable.stride[0] + from;
      add(row, op.dy.data + t * op.dy.stride[0] + from, row, A(1), to - from);
    }
  });
}

}  // namespace mlmamba::backend
