// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Causal convolution, plainly.
#pragma once

#include <vector>

#include "mlmamba/ops/causal_conv1d.hpp"

namespace mlmamba::backend {

namespace detail {

/// The value at time s (negative: in the initial states) and whether it counts for time t.
template <class A, class Op>
A conv_input(const Op& op, index_t b, index_t s, index_t d) {
  if (s >= 0) return A(op.x(b, s, d));
  return op.initial_states ? A(op.initial_states(b, d, op.weight.size[1] - 1 + s)) : A(0);
}
template <class Op>
bool conv_counts(const Op& op, index_t b, index_t s, index_t t) {
  if (!op.seq_idx) return true;
  const std::int32_t now = op.seq_idx(b, t);
  return now >= 0 && op.seq_idx(b, s < 0 ? 0 : s) == now;
}
template <class A, class Op>
A conv_sum(const Op& op, index_t b, index_t t, index_t d) {
  A v = op.bias ? A(op.bias(d)) : A(0);
  const index_t W = op.weight.size[1];
  for (index_t w = 0; w < W; ++w) {
    const index_t s = t + w - (W - 1);
    if (conv_counts(op, b, s, t)) v += op.weight(d, w) * conv_input<A>(op, b, s, d);
  }
  return v;
}

}  // namespace detail

template <class E>
void execute(context<reference>&, const ops::causal_conv1d<E>& op) {
  using A = typename E::accum;
  using V = typename E::value;
  const index_t L = op.x.size[1], W = op.weight.size[1];
  for (index_t b = 0; b < op.x.size[0]; ++b) {
    for (index_t d = 0; d < op.x.size[2]; ++d) {
      std::vector<V> last;  // first: final_states may be initial_states
      for (index_t i = 0; i < W - 1; ++i)
        last.push_back(V(detail::conv_input<A>(op, b, L - (W - 1) + i, d)));
      for (index_t t = 0; t < L; ++t) {
        const bool padding = op.seq_idx && op.seq_idx(b, t) < 0;
        op.y(b, t, d) = padding
                            ? V(real_t<V>(0))
                            : V(apply_activation(op.activation, detail::conv_sum<A>(op, b, t, d)));
      }
      if (op.final_states)
        for (index_t i = 0; i < W - 1; ++i) op.final_states(b, d, i) = last[std::size_t(i)];
    }
  }
}

template <class E>
void execute(context<reference>&, const ops::causal_conv1d_backward<E>& op) {
  using A = typename E::accum;
  using V = typename E::value;
  const index_t L = op.x.size[1], W = op.weight.size[1];
  std::vector<A> dext;  // gradient of (initial states, x) along time
  for (index_t b = 0; b < op.x.size[0]; ++b) {
    for (index_t d = 0; d < op.x.size[2]; ++d) {
      dext.assign(std::size_t(L + W - 1), A(0));
      for (index_t t = 0; t < L; ++t) {
        if (op.seq_idx && op.seq_idx(b, t) < 0) continue;
        const A g = A(op.dy(b, t, d)) *
                    activation_derivative(op.activation, detail::conv_sum<A>(op, b, t, d));
        if (op.dbias) op.dbias(d) += g;
        for (index_t w = 0; w < W; ++w) {
          const index_t s = t + w - (W - 1);
          if (!detail::conv_counts(op, b, s, t)) continue;
          if (op.dweight) op.dweight(d, w) += g * detail::conv_input<A>(op, b, s, d);
          dext[std::size_t(s + W - 1)] += g * op.weight(d, w);
        }
      }
      if (op.dfinal_states)
        for (index_t i = 0; i < W - 1; ++i)
          dext[std::size_t(L + i)] += A(op.dfinal_states(b, d, i));
      for (index_t t = 0; t < L; ++t) op.dx(b, t, d) = V(dext[std::size_t(t + W - 1)]);
      if (op.dinitial_states)
        for (index_t i = 0; i < W - 1; ++i) op.dinitial_states(b, d, i) = V(dext[std::size_t(i)]);
    }
  }
}

template <class E>
void execute(context<reference>&, const ops::causal_conv1d_step<E>& op) {
  using A = typename E::accum;
  const index_t W = op.weight.size[1];
  for (index_t b = 0; b < op.x.size[0]; ++b)
    for (index_t d = 0; d < op.x.size[1]; ++d) {
      A v = op.bias ? A(op.bias(d)) : A(0);
      for (index_t w = 0; w < W - 1; ++w) v += op.weight(d, w) * A(op.state(b, d, w));
      v += op.weight(d, W - 1) * A(op.x(b, d));
      for (index_t w = 0; w + 1 < W - 1; ++w) op.state(b, d, w) = op.state(b, d, w + 1);
      op.state(b, d, W - 2) = op.x(b, d);
      op.y(b, d) = typename E::value(apply_activation(op.activation, v));
    }
}

}  // namespace mlmamba::backend
