// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Softmax attention, plainly.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "mlmamba/ops/attention.hpp"

namespace mlmamba::backend {

template <class E>
void execute(context<reference>&, const ops::attention<E>& op) {
  using A = typename E::accum;
  const index_t T = op.q.size[1], S = op.k.size[1], D = op.q.size[3];
  std::vector<A> p(std::size_t(S > 0 ? S : 1));
  for (index_t b = 0; b < op.q.size[0]; ++b)
    for (index_t h = 0; h < op.q.size[2]; ++h)
      for (index_t i = 0; i < T; ++i) {
        const index_t keys = op.causal ? std::max<index_t>(0, std::min(S, i + S - T + 1)) : S;
        A sum = 0;
        real_t<A> top = -std::numeric_limits<real_t<A>>::infinity();
        for (index_t j = 0; j < keys; ++j) {
          A s = 0;
          for (index_t d = 0; d < D; ++d) s += A(op.q(b, i, h, d)) * A(op.k(b, j, h, d));
          p[std::size_t(j)] = s * A(op.scale);
          top = std::max(top, real_t<A>(math::real(p[std::size_t(j)])));
        }
        for (index_t j = 0; j < keys; ++j) {
          p[std::size_t(j)] = math::exp(p[std::size_t(j)] - A(top));
          sum += p[std::size_t(j)];
        }
        if (op.log_sum_exp) op.log_sum_exp(b, h, i) = keys ? math::log(sum) + A(top) : A(top);
        for (index_t d = 0; d < D; ++d) {
          A y = 0;
          for (index_t j = 0; j < keys; ++j) y += p[std::size_t(j)] * A(op.v(b, j, h, d));
          op.y(b, i, h, d) = typename E::value(keys ? y / sum : A(0));
        }
      }
}

template <class E>
void execute(context<reference>&, const ops::attention_backward<E>& op) {
  using A = typename E::accum;
  using V = typename E::value;
  const index_t T = op.q.size[1], S = op.k.size[1], D = op.q.size[3];
  std::vector<A> dk, dv, dq;
  for (index_t b = 0; b < op.q.size[0]; ++b)
    for (index_t h = 0; h < op.q.size[2]; ++h) {
      dq.assign(std::size_t(T * D), A(0));
      dk.assign(std::size_t(S * D), A(0));
      dv.assign(std::size_t(S * D), A(0));
      for (index_t i = 0; i < T; ++i) {
        const index_t keys = op.causal ? std::max<index_t>(0, std::min(S, i + S - T + 1)) : S;
        A delta = 0;
        for (index_t d = 0; d < D; ++d) delta += A(op.dy(b, i, h, d)) * A(op.y(b, i, h, d));
        for (index_t j = 0; j < keys; ++j) {
          A s = 0, dp = 0;
          for (index_t d = 0; d < D; ++d) {
            s += A(op.q(b, i, h, d)) * A(op.k(b, j, h, d));
            dp += A(op.dy(b, i, h, d)) * A(op.v(b, j, h, d));
          }
          const A p = math::exp(s * A(op.scale) - op.log_sum_exp(b, h, i));
          const A ds = p * (dp - delta) * A(op.scale);
          for (index_t d = 0; d < D; ++d) {
            dv[std::size_t(j * D + d)] += p * A(op.dy(b, i, h, d));
            dq[std::size_t(i * D + d)] += ds * A(op.k(b, j, h, d));
            dk[std::size_t(j * D + d)] += ds * A(op.q(b, i, h, d));
          }
        }
      }
      for (index_t d = 0; d < D; ++d) {
        for (index_t i = 0; i < T; ++i) op.dq(b, i, h, d) = V(dq[std::size_t(i * D + d)]);
        for (index_t j = 0; j < S; ++j) {
          op.dk(b, j, h, d) = V(dk[std::size_t(j * D + d)]);
          op.dv(b, j, h, d) = V(dv[std::size_t(j * D + d)]);
        }
      }
    }
}

}  // namespace mlmamba::backend
