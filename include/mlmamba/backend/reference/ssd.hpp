// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// SSD as its plain recurrence, and the plain adjoint.
#pragma once

#include <vector>

#include "mlmamba/backend/reference/selective_scan.hpp"
#include "mlmamba/ops/ssd.hpp"

namespace mlmamba::backend {

namespace detail {

/// dt' and its derivative by dt (0 where the clamp holds).
template <class A>
struct ssd_step_size {
  A value, slope;
};
template <class A, class R>
ssd_step_size<A> ssd_dt(A raw, bool softplus, R low, R high) {
  A v = softplus ? math::softplus(raw) : raw;
  A s = softplus ? math::softplus_derivative(raw) : A(1);
  if (math::real(v) < low) v = A(low), s = A(0);
  if (math::real(v) > high) v = A(high), s = A(0);
  return {v, s};
}

}  // namespace detail

template <class E>
void execute(context<reference>&, const ops::ssd<E>& op) {
  using A = typename E::accum;
  const index_t P = op.x.size[3], N = op.state_size(), per = op.heads() / op.groups();
  std::vector<A> S(std::size_t(P * N));
  for (index_t b = 0; b < op.x.size[0]; ++b) {
    for (index_t h = 0; h < op.heads(); ++h) {
      const index_t g = h / per;
      for (index_t p = 0; p < P; ++p)
        for (index_t n = 0; n < N; ++n)
          S[std::size_t(p * N + n)] = op.initial_states ? A(op.initial_states(b, h, p, n)) : A(0);
      for (index_t t = 0; t < op.x.size[1]; ++t) {
        const A dt = detail::ssd_dt(A(op.dt(b, t, h)) + (op.dt_bias ? op.dt_bias(h) : A(0)),
                                    op.dt_softplus, op.dt_min, op.dt_max)
                         .value;
        const A decay = detail::carries(op, b, t) ? math::exp(dt * op.A(h)) : A(0);
        for (index_t p = 0; p < P; ++p) {
          const A x = A(op.x(b, t, h, p));
          A v = op.D ? op.D(h, p) * x : A(0);
          for (index_t n = 0; n < N; ++n) {
            A& s = S[std::size_t(p * N + n)];
            // a dropped state is dropped even where it is infinite
            s = (detail::carries(op, b, t) ? decay * s : A(0)) + dt * x * A(op.B(b, t, g, n));
            v += s * A(op.C(b, t, g, n));
          }
          if (op.z) v *= apply_activation(activation::silu, A(op.z(b, t, h, p)));
          op.y(b, t, h, p) = typename E::value(v);
        }
      }
      if (op.final_states)
        for (index_t p = 0; p < P; ++p)
          for (index_t n = 0; n < N; ++n)
            op.final_states(b, h, p, n) = typename E::state(S[std::size_t(p * N + n)]);
    }
  }
}

template <class E>
void execute(context<reference>&, const ops::ssd_backward<E>& op) {
  using A = typename E::accum;
  using V = typename E::value;
  const index_t L = op.x.size[1], P = op.x.size[3], N = op.state_size();
  const index_t per = op.heads() / op.groups(), PN = P * N;
  std::vector<A> S(std::size_t((L + 1) * PN)), G(static_cast<std::size_t>(PN));
  for (index_t b = 0; b < op.x.size[0]; ++b) {
    // dB and dC are sums over the heads of a group: kept in accum until all heads are done
    std::vector<A> dB(std::size_t(L * op.groups() * N), A(0)), dC(dB);
    for (index_t h = 0; h < op.heads(); ++h) {
      const index_t g = h / per;
      auto state = [&](index_t t, index_t p, index_t n) -> A& {  // after token t; -1: initial
        return S[std::size_t((t + 1) * PN + p * N + n)];
      };
      auto dt_of = [&](index_t t) {
        return detail::ssd_dt(A(op.dt(b, t, h)) + (op.dt_bias ? op.dt_bias(h) : A(0)),
                              op.dt_softplus, op.dt_min, op.dt_max);
      };
      for (index_t p = 0; p < P; ++p)
        for (index_t n = 0; n < N; ++n)
          state(-1, p, n) = op.initial_states ? A(op.initial_states(b, h, p, n)) : A(0);
      for (index_t t = 0; t < L; ++t) {
        const A dt = dt_of(t).value, decay = math::exp(dt * op.A(h));
        for (index_t p = 0; p < P; ++p)
          for (index_t n = 0; n < N; ++n)
            state(t, p, n) = (detail::carries(op, b, t) ? decay * state(t - 1, p, n) : A(0)) +
                             dt * A(op.x(b, t, h, p)) * A(op.B(b, t, g, n));
      }
      for (index_t p = 0; p < P; ++p)
        for (index_t n = 0; n < N; ++n)
          G[std::size_t(p * N + n)] = op.dfinal_states ? op.dfinal_states(b, h, p, n) : A(0);
      for (index_t t = L - 1; t >= 0; --t) {
        const auto step = dt_of(t);
        const A dt = step.value, decay = math::exp(dt * op.A(h));
        const bool carried = detail::carries(op, b, t);
        A ddt = 0, ddecay = 0;
        for (index_t p = 0; p < P; ++p) {
          const A x = A(op.x(b, t, h, p)), dy = A(op.dy(b, t, h, p));
          A dv = dy;
          if (op.z) {
            const A z = A(op.z(b, t, h, p));
            A v = op.D ? op.D(h, p) * x : A(0);
            for (index_t n = 0; n < N; ++n) v += state(t, p, n) * A(op.C(b, t, g, n));
            op.dz(b, t, h, p) = V(dy * v * activation_derivative(activation::silu, z));
            dv = dy * apply_activation(activation::silu, z);
          }
          A dx = op.D ? op.D(h, p) * dv : A(0);
          if (op.dD) op.dD(h, p) += dv * x;
          for (index_t n = 0; n < N; ++n) {
            A& adjoint = G[std::size_t(p * N + n)];
            const A B = A(op.B(b, t, g, n));
            const std::size_t at = std::size_t((t * op.groups() + g) * N + n);
            adjoint += dv * A(op.C(b, t, g, n));
            dC[at] += dv * state(t, p, n);
            dB[at] += adjoint * dt * x;
            dx += adjoint * dt * B;
            ddt += adjoint * x * B;
            if (carried) ddecay += adjoint * state(t - 1, p, n);
            adjoint = carried ? adjoint * decay : A(0);
          }
          op.dx(b, t, h, p) = V(dx);
        }
        ddecay *= decay;  // by dt' A
        if (op.dA) op.dA(h) += dt * ddecay;
        ddt = (ddt + op.A(h) * ddecay) * step.slope;
        op.ddt(b, t, h) = V(ddt);
        if (op.ddt_bias) op.ddt_bias(h) += ddt;
      }
      if (op.dinitial_states)
        for (index_t p = 0; p < P; ++p)
          for (index_t n = 0; n < N; ++n)
            op.dinitial_states(b, h, p, n) = G[std::size_t(p * N + n)];
    }
    for (index_t t = 0; t < L; ++t)
      for (index_t g = 0; g < op.groups(); ++g)
        for (index_t n = 0; n < N; ++n) {
          const std::size_t at = std::size_t((t * op.groups() + g) * N + n);
          op.dB(b, t, g, n) = V(dB[at]);
          op.dC(b, t, g, n) = V(dC[at]);
        }
  }
}

template <class E>
void execute(context<reference>&, const ops::ssd_step<E>& op) {
  using A = typename E::accum;
  const index_t H = op.x.size[1], per = H / op.B.size[1];
  for (index_t b = 0; b < op.x.size[0]; ++b)
    for (index_t h = 0; h < H; ++h) {
      const index_t g = h / per;
      const A dt = detail::ssd_dt(A(op.dt(b, h)) + (op.dt_bias ? op.dt_bias(h) : A(0)),
                                  op.dt_softplus, op.dt_min, op.dt_max)
                       .value;
      const A decay = math::exp(dt * op.A(h));
      for (index_t p = 0; p < op.x.size[2]; ++p) {
        const A x = A(op.x(b, h, p));
        A v = op.D ? op.D(h, p) * x : A(0);
        for (index_t n = 0; n < op.B.size[2]; ++n) {
          const A s = decay * A(op.state(b, h, p, n)) + dt * x * A(op.B(b, g, n));
          op.state(b, h, p, n) = typename E::state(s);
          v += s * A(op.C(b, g, n));
        }
        if (op.z) v *= apply_activation(activation::silu, A(op.z(b, h, p)));
        op.y(b, h, p) = typename E::value(v);
      }
    }
}

}  // namespace mlmamba::backend
