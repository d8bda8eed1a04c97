// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Reductions, plainly.
#pragma once

#include <algorithm>
#include <limits>

#include "mlmamba/ops/reduce.hpp"

namespace mlmamba::backend {

template <class E>
void execute(context<reference>&, const ops::sum_rows<E>& op) {
  for (index_t t = 0; t < op.x.size[0]; ++t)
    for (index_t d = 0; d < op.x.size[1]; ++d) op.y(d) += typename E::accum(op.x(t, d));
}

template <class E>
void execute(context<reference>&, const ops::sum_squares<E>& op) {
  using S = typename ops::sum_squares<E>::sum_type;
  for (index_t from = 0; from < op.x.size[0]; from += op.block) {
    S sum = 0;
    for (index_t i = from; i < std::min(from + op.block, op.x.size[0]); ++i)
      sum += S(op.x(i)) * S(op.x(i));
    op.y(0) += sum;
  }
}

template <class E, class X>
void execute(context<reference>&, const ops::argmax<E, X>& op) {
  for (index_t t = 0; t < op.x.size[0]; ++t) {
    index_t best = -1, unfit = -1;
    const auto at = [&](index_t v) { return math::real(accum_t<X>(op.x(t, v))); };
    const auto limit = std::numeric_limits<decltype(at(0))>::infinity();
    for (index_t v = op.x.size[1]; v-- > 0;)
      if (!(at(v) < limit)) unfit = v;
    for (index_t v = 0; v < op.x.size[1]; ++v) {
      if (at(v) != at(v)) continue;
      if (best < 0 || at(v) > at(best)) best = v;
    }
    op.index(t) = std::int32_t(best < 0 ? 0 : best);
    if (op.unfit) op.unfit(t) = std::int32_t(unfit < 0 && at(best) == -limit ? 0 : unfit);
  }
}

}  // namespace mlmamba::backend
