// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Rows of a table, plainly.
#pragma once

#include "mlmamba/ops/embedding.hpp"

namespace mlmamba::backend {

namespace detail {
template <class View>
index_t checked_row(const char* op, const View& index, index_t t, index_t rows) {
  const index_t i = index(t);
  if (i < 0 || i >= rows)
    fail<shape_error>(op, ": index ", i, " at ", t, "; wanted is 0 to ", rows - 1);
  return i;
}
}  // namespace detail

template <class E>
void execute(context<reference>&, const ops::embedding<E>& op) {
  for (index_t t = 0; t < op.index.size[0]; ++t) {
    const index_t i = detail::checked_row(op.name, op.index, t, op.table.size[0]);
    for (index_t d = 0; d < op.table.size[1]; ++d)
      op.y(t, d) = typename E::value(typename E::accum(op.table(i, d)));
  }
}

template <class E>
void execute(context<reference>&, const ops::embedding_backward<E>& op) {
  for (index_t t = 0; t < op.index.size[0]; ++t) {
    const index_t i = detail::checked_row(op.name, op.index, t, op.dtable.size[0]);
    for (index_t d = 0; d < op.dtable.size[1]; ++d)
      op.dtable(i, d) += typename E::accum(op.dy(t, d));
  }
}

}  // namespace mlmamba::backend
