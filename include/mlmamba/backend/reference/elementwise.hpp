// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Elementwise ops, plainly.
#pragma once

#include "mlmamba/ops/elementwise.hpp"

namespace mlmamba::backend {

namespace detail {
/// Calls f with every index of a shape, last fastest.
template <int R, class F>
void for_each_index(const shape<R>& n, F&& f) {
  if (n.count() == 0) return;
  index_t i[R] = {};
  for (;;) {
    f(i);
    int axis = R - 1;
    while (axis >= 0 && ++i[axis] == n.n[axis]) i[axis--] = 0;
    if (axis < 0) return;
  }
}
template <class T, int R, class M>
T& element(const view<T, R, M>& v, const index_t (&i)[R]) {
  index_t at = 0;
  for (int k = 0; k < R; ++k) at += i[k] * v.stride[k];
  return v.data[at];
}
}  // namespace detail

template <class B, class To, class From, int R>
requires std::same_as<typename B::memory, memory::host>
void execute(context<reference>&, const ops::copy<B, To, From, R>& op) {
  detail::for_each_index(op.x.shape(), [&](const index_t(&i)[R]) {
    detail::element(op.y, i) = To(accum_t<From>(detail::element(op.x, i)));
  });
}

template <class E, class T, class U>
void execute(context<reference>&, const ops::add<E, T, U>& op) {
  using A = typename E::accum;
  for (index_t t = 0; t < op.y.size[0]; ++t)
    for (index_t d = 0; d < op.y.size[1]; ++d)
      op.y(t, d) = T((A(op.a(t, d)) + A(op.b(t, d))) * A(op.scale));
}

template <class E>
void execute(context<reference>&, const ops::activate<E>& op) {
  using A = typename E::accum;
  for (index_t t = 0; t < op.y.size[0]; ++t)
    for (index_t d = 0; d < op.y.size[1]; ++d)
      op.y(t, d) = typename E::value(apply_activation(op.activation, A(op.x(t, d))));
}

template <class E>
void execute(context<reference>&, const ops::activate_backward<E>& op) {
  using A = typename E::accum;
  for (index_t t = 0; t < op.x.size[0]; ++t)
    for (index_t d = 0; d < op.x.size[1]; ++d)
      op.dx(t, d) =
          typename E::value(A(op.dy(t, d)) * activation_derivative(op.activation, A(op.x(t, d))));
}

template <class E>
void execute(context<reference>&, const ops::gated<E>& op) {
  using A = typename E::accum;
  for (index_t t = 0; t < op.y.size[0]; ++t)
    for (index_t d = 0; d < op.y.size[1]; ++d)
      op.y(t, d) =
          typename E::value(apply_activation(op.activation, A(op.gate(t, d))) * A(op.up(t, d)));
}

template <class E>
void execute(context<reference>&, const ops::gated_backward<E>& op) {
  using A = typename E::accum;
  using V = typename E::value;
  for (index_t t = 0; t < op.dy.size[0]; ++t)
    for (index_t d = 0; d < op.dy.size[1]; ++d) {
      const A g = A(op.gate(t, d)), u = A(op.up(t, d)), dy = A(op.dy(t, d));
      op.dgate(t, d) = V(dy * u * activation_derivative(op.activation, g));
      op.dup(t, d) = V(dy * apply_activation(op.activation, g));
    }
}

template <class E, class Y>
void execute(context<reference>&, const ops::channel_scale<E, Y>& op) {
  using A = typename E::accum;
  for (index_t t = 0; t < op.y.size[0]; ++t)
    for (index_t d = 0; d < op.y.size[1]; ++d)
      op.y(t, d) = Y(A(op.x(t, d)) * op.gamma(d) + (op.residual ? A(op.residual(t, d)) : A(0)));
}

template <class E>
void execute(context<reference>&, const ops::channel_scale_backward<E>& op) {
  using A = typename E::accum;
  for (index_t t = 0; t < op.x.size[0]; ++t)
    for (index_t d = 0; d < op.x.size[1]; ++d) {
      const A dy = A(op.dy(t, d));
      if (op.dgamma) op.dgamma(d) += dy * A(op.x(t, d));
      op.dx(t, d) = typename E::value(dy * op.gamma(d));
    }
}

template <class E>
void execute(context<reference>&, const ops::add_position<E>& op) {
  using A = typename E::accum;
  for (index_t b = 0; b < op.x.size[0]; ++b)
    for (index_t t = 0; t < op.x.size[1]; ++t)
      for (index_t d = 0; d < op.x.size[2]; ++d)
        op.y(b, t, d) = typename E::value(A(op.x(b, t, d)) + op.p(t, d));
}

template <class E>
void execute(context<reference>&, const ops::add_position_backward<E>& op) {
  using A = typename E::accum;
  for (index_t b = 0; b < op.dy.size[0]; ++b)
    for (index_t t = 0; t < op.dy.size[1]; ++t)
      for (index_t d = 0; d < op.dy.size[2]; ++d) op.dp(t, d) += A(op.dy(b, t, d));
}

template <class E>
void execute(context<reference>&, const ops::negative_exp<E>& op) {
  for (index_t i = 0; i < op.x.size[0]; ++i) op.y(i) = -math::exp(op.x(i));
}

template <class E>
void execute(context<reference>&, const ops::negative_exp_backward<E>& op) {
  for (index_t i = 0; i < op.y.size[0]; ++i) op.dx(i) += op.dy(i) * op.y(i);
}

template <class E, class T>
void execute(context<reference>&, const ops::fill<E, T>& op) {
  for (index_t i = 0; i < op.y.size[0]; ++i) op.y(i) = T(real_t<T>(op.value));
}

}  // namespace mlmamba::backend
