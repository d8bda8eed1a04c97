// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Selective scan as its plain recurrence, and the plain adjoint.
#pragma once

#include <vector>

#include "mlmamba/ops/selective_scan.hpp"

namespace mlmamba::backend {

namespace detail {
/// Does the state carry over from token t - 1 to t?
template <class Op>
bool carries(const Op& op, index_t b, index_t t) {
  if (!op.seq_idx) return true;
  return op.seq_idx(b, t) == (t == 0 ? 0 : op.seq_idx(b, t - 1));
}
template <class A, class Op>
A scan_raw_dt(const Op& op, index_t b, index_t t, index_t d) {
  return A(op.dt(b, t, d)) + (op.dt_bias ? op.dt_bias(d) : A(0));
}
}  // namespace detail

template <class E>
void execute(context<reference>&, const ops::selective_scan<E>& op) {
  using A = typename E::accum;
  const index_t D = op.x.size[2], N = op.A.size[1], per = D / op.B.size[2];
  std::vector<A> h(static_cast<std::size_t>(N));
  for (index_t b = 0; b < op.x.size[0]; ++b)
    for (index_t d = 0; d < D; ++d) {
      const index_t g = d / per;
      for (index_t n = 0; n < N; ++n)
        h[std::size_t(n)] = op.initial_states ? A(op.initial_states(b, d, n)) : A(0);
      for (index_t t = 0; t < op.x.size[1]; ++t) {
        const A raw = detail::scan_raw_dt<A>(op, b, t, d), x = A(op.x(b, t, d));
        const A dt = op.dt_softplus ? math::softplus(raw) : raw;
        const bool carried = detail::carries(op, b, t);
        A v = op.D ? op.D(d) * x : A(0);
        for (index_t n = 0; n < N; ++n) {
          A& s = h[std::size_t(n)];
          s = (carried ? math::exp(dt * op.A(d, n)) * s : A(0)) + dt * A(op.B(b, t, g, n)) * x;
          v += A(op.C(b, t, g, n)) * s;
        }
        if (op.z) v *= apply_activation(activation::silu, A(op.z(b, t, d)));
        op.y(b, t, d) = typename E::value(v);
      }
      if (op.final_states)
        for (index_t n = 0; n < N; ++n)
          op.final_states(b, d, n) = typename E::state(h[std::size_t(n)]);
    }
}

template <class E>
void execute(context<reference>&, const ops::selective_scan_backward<E>& op) {
  using A = typename E::accum;
  using V = typename E::value;
  const index_t L = op.x.size[1], D = op.x.size[2], N = op.A.size[1], G = op.B.size[2];
  std::vector<A> h(std::size_t((L + 1) * N)), adjoint(static_cast<std::size_t>(N));
  for (index_t b = 0; b < op.x.size[0]; ++b) {
    std::vector<A> dB(std::size_t(L * G * N), A(0)), dC(dB);  // sums over the channels of a group
    for (index_t d = 0; d < D; ++d) {
      const index_t g = d / (D / G);
      auto state = [&](index_t t, index_t n) -> A& { return h[std::size_t((t + 1) * N + n)]; };
      auto dt_of = [&](index_t t) {
        const A raw = detail::scan_raw_dt<A>(op, b, t, d);
        return op.dt_softplus ? math::softplus(raw) : raw;
      };
      for (index_t n = 0; n < N; ++n)
        state(-1, n) = op.initial_states ? A(op.initial_states(b, d, n)) : A(0);
      for (index_t t = 0; t < L; ++t)
        for (index_t n = 0; n < N; ++n)
          state(t, n) =
              (detail::carries(op, b, t) ? math::exp(dt_of(t) * op.A(d, n)) * state(t - 1, n)
                                         : A(0)) +
              dt_of(t) * A(op.B(b, t, g, n)) * A(op.x(b, t, d));
      for (index_t n = 0; n < N; ++n)
        adjoint[std::size_t(n)] = op.dfinal_states ? op.dfinal_states(b, d, n) : A(0);
      for (index_t t = L - 1; t >= 0; --t) {
        const A x = A(op.x(b, t, d)), dy = A(op.dy(b, t, d)), dt = dt_of(t);
        const bool carried = detail::carries(op, b, t);
        A dv = dy;
        if (op.z) {
          const A z = A(op.z(b, t, d));
          A v = op.D ? op.D(d) * x : A(0);
          for (index_t n = 0; n < N; ++n) v += A(op.C(b, t, g, n)) * state(t, n);
          op.dz(b, t, d) = V(dy * v * activation_derivative(activation::silu, z));
          dv = dy * apply_activation(activation::silu, z);
        }
        A dx = op.D ? op.D(d) * dv : A(0), ddt = 0;
        if (op.dD) op.dD(d) += dv * x;
        for (index_t n = 0; n < N; ++n) {
          A& a = adjoint[std::size_t(n)];
          const A B = A(op.B(b, t, g, n)), decay = math::exp(dt * op.A(d, n));
          const std::size_t at = std::size_t((t * G + g) * N + n);
          a += dv * A(op.C(b, t, g, n));
          dC[at] += dv * state(t, n);
          dB[at] += a * dt * x;
          dx += a * B * dt;
          ddt += a * B * x;
          if (carried) {
            const A from = a * decay * state(t - 1, n);
            ddt += op.A(d, n) * from;
            if (op.dA) op.dA(d, n) += dt * from;
          }
          a = carried ? a * decay : A(0);
        }
        if (op.dt_softplus) ddt *= math::softplus_derivative(detail::scan_raw_dt<A>(op, b, t, d));
        op.dx(b, t, d) = V(dx);
        op.ddt(b, t, d) = V(ddt);
        if (op.ddt_bias) op.ddt_bias(d) += ddt;
      }
      if (op.dinitial_states)
        for (index_t n = 0; n < N; ++n) op.dinitial_states(b, d, n) = adjoint[std::size_t(n)];
    }
    for (index_t t = 0; t < L; ++t)
      for (index_t g = 0; g < G; ++g)
        for (index_t n = 0; n < N; ++n) {
          op.dB(b, t, g, n) = V(dB[std::size_t((t * G + g) * N + n)]);
          op.dC(b, t, g, n) = V(dC[std::size_t((t * G + g) * N + n)]);
        }
  }
}

template <class E>
void execute(context<reference>&, const ops::selective_scan_step<E>& op) {
  using A = typename E::accum;
  const index_t D = op.x.size[1], N = op.A.size[1], per = D / op.B.size[1];
  for (index_t b = 0; b < op.x.size[0]; ++b)
    for (index_t d = 0; d < D; ++d) {
      const A raw = A(op.dt(b, d)) + (op.dt_bias ? op.dt_bias(d) : A(0)), x = A(op.x(b, d));
      const A dt = op.dt_softplus ? math::softplus(raw) : raw;
      A v = op.D ? op.D(d) * x : A(0);
      for (index_t n = 0; n < N; ++n) {
        const A s =
            math::exp(dt * op.A(d, n)) * A(op.state(b, d, n)) + dt * A(op.B(b, d / per, n)) * x;
        op.state(b, d, n) = typename E::state(s);
        v += A(op.C(b, d / per, n)) * s;
      }
      if (op.z) v *= apply_activation(activation::silu, A(op.z(b, d)));
      op.y(b, d) = typename E::value(v);
    }
}

}  // namespace mlmamba::backend
