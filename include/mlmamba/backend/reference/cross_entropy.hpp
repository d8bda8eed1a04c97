// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Cross-entropy, plainly.
#pragma once

#include <algorithm>
#include <limits>

#include "mlmamba/ops/cross_entropy.hpp"

namespace mlmamba::backend {

namespace detail {
template <class A>
struct softmax_row {
  real_t<A> top;
  A sum;
};
template <class A, class View>
softmax_row<A> softmax(const View& logits, index_t t) {
  real_t<A> top = -std::numeric_limits<real_t<A>>::infinity();
  for (index_t v = 0; v < logits.size[1]; ++v)
    top = std::max(top, real_t<A>(math::real(A(logits(t, v)))));
  A sum = 0;
  for (index_t v = 0; v < logits.size[1]; ++v) sum += math::exp(A(logits(t, v)) - A(top));
  return {top, sum};
}
template <class Op>
index_t checked_label(const Op& op, index_t t) {
  const index_t l = op.label(t);
  if (l < 0 || l >= op.logits.size[1])
    fail<shape_error>(op.name, ": label ", l, " at ", t, "; wanted is ", op.ignore_index,
                      " or 0 to ", op.logits.size[1] - 1);
  return l;
}
}  // namespace detail

template <class E>
void execute(context<reference>&, const ops::cross_entropy<E>& op) {
  using A = typename E::accum;
  for (index_t t = 0; t < op.logits.size[0]; ++t) {
    op.loss(t) = A(0);
    if (op.label(t) == op.ignore_index) continue;
    const index_t l = detail::checked_label(op, t);
    const auto s = detail::softmax<A>(op.logits, t);
    op.loss(t) = math::log(s.sum) + (A(s.top) - A(op.logits(t, l)));
  }
}

template <class E>
void execute(context<reference>&, const ops::cross_entropy_backward<E>& op) {
  using A = typename E::accum;
  using V = typename E::value;
  for (index_t t = 0; t < op.logits.size[0]; ++t) {
    const bool ignored = op.label(t) == op.ignore_index;
    const index_t l = ignored ? -1 : detail::checked_label(op, t);
    const auto s = detail::softmax<A>(op.logits, t);
    const A scale = op.dloss ? op.dloss(t) : A(op.scale);
    for (index_t v = 0; v < op.logits.size[1]; ++v) {
      const A p = math::exp(A(op.logits(t, v)) - A(s.top)) / s.sum;
      op.dlogits(t, v) = V(ignored ? A(0) : scale * (p - A(v == l ? 1 : 0)));
    }
  }
}

}  // namespace mlmamba::backend
