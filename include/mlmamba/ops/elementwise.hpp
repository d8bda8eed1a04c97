// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Elementwise ops on rows: sums, products, activations, gates, broadcasts, copies.
#pragma once

#include "mlmamba/core/check.hpp"
#include "mlmamba/core/context.hpp"

namespace mlmamba::ops {

/// Copy with conversion of type and layout: y = x. Any strides; x and y must not overlap.
///
/// Shapes    x, y (..., R axes), equal
template <class B, class To, class From, int R>
struct copy {
  static constexpr const char* name = "copy";
  view<const From, R, typename B::memory> x{};
  view<To, R, typename B::memory> y{};

  void check() const {
    check::given(name, "x", x);
    check::size(name, "y", y, x.shape());
  }
  double flops() const { return 0; }
  double bytes() const { return check::total_bytes(x, y); }
};

/// Scaled sum of two arrays: y[t,d] = (a[t,d] + b[t,d]) scale. y may be a or b.
///
/// Shapes    a, b, y (T, D)
/// Layout    unit stride over d
/// Numerics  computed in accum, rounded once
template <engine E, class T = typename E::value, class U = typename E::value>
struct add {
  static constexpr const char* name = "add";
  view<const T, 2, typename E::memory> a{};
  view<const U, 2, typename E::memory> b{};
  view<T, 2, typename E::memory> y{};
  typename E::real scale = 1;

  void check() const {
    check::given(name, "a", a);
    check::size(name, "b", b, a.shape());
    check::size(name, "y", y, a.shape());
    check::unit_stride(name, "a", a);
    check::unit_stride(name, "b", b);
    check::unit_stride(name, "y", y);
  }
  double flops() const { return (scale == 1 ? 1.0 : 2.0) * double(a.count()); }
  double bytes() const { return check::total_bytes(a, b, y); }
};

/// Activation of each element: y = activation(x). y may be x.
///
/// Shapes    x, y (T, D)
/// Layout    unit stride over d
template <engine E>
struct activate {
  static constexpr const char* name = "activate";
  in<E, 2> x{};
  out<E, 2> y{};
  mlmamba::activation activation = mlmamba::activation::none;

  void check() const {
    check::given(name, "x", x);
    check::size(name, "y", y, x.shape());
    check::unit_stride(name, "x", x);
    check::unit_stride(name, "y", y);
  }
  double flops() const { return 8.0 * double(x.count()); }
  double bytes() const { return check::total_bytes(x, y); }
};

/// dx = dy activation'(x), x being what was activated. dx may be dy.
template <engine E>
struct activate_backward {
  static constexpr const char* name = "activate_backward";
  in<E, 2> x{}, dy{};
  out<E, 2> dx{};
  mlmamba::activation activation = mlmamba::activation::none;

  void check() const {
    check::given(name, "x", x);
    check::size(name, "dy", dy, x.shape());
    check::size(name, "dx", dx, x.shape());
    check::unit_stride(name, "x", x);
    check::unit_stride(name, "dy", dy);
    check::unit_stride(name, "dx", dx);
  }
  double flops() const { return 12.0 * double(x.count()); }
  double bytes() const { return check::total_bytes(x, dy, dx); }
};

/// Gated product: y[t,d] = activation(gate[t,d]) up[t,d].
///
/// Shapes    gate, up, y (T, D)
/// Layout    unit stride over d
template <engine E>
struct gated {
  static constexpr const char* name = "gated";
  in<E, 2> gate{}, up{};
  out<E, 2> y{};
  mlmamba::activation activation = mlmamba::activation::silu;

  void check() const {
    check::given(name, "gate", gate);
    check::size(name, "up", up, gate.shape());
    check::size(name, "y", y, gate.shape());
    check::unit_stride(name, "gate", gate);
    check::unit_stride(name, "up", up);
    check::unit_stride(name, "y", y);
  }
  double flops() const { return 9.0 * double(gate.count()); }
  double bytes() const { return check::total_bytes(gate, up, y); }
};

/// dgate = dy up activation'(gate), dup = dy activation(gate).
template <engine E>
struct gated_backward {
  static constexpr const char* name = "gated_backward";
  in<E, 2> gate{}, up{}, dy{};
  out<E, 2> dgate{}, dup{};
  mlmamba::activation activation = mlmamba::activation::silu;

  void check() const {
    check::given(name, "gate", gate);
    check::size(name, "up", up, gate.shape());
    check::size(name, "dy", dy, gate.shape());
    check::size(name, "dgate", dgate, gate.shape());
    check::size(name, "dup", dup, gate.shape());
    check::unit_stride(name, "gate", gate);
    check::unit_stride(name, "up", up);
    check::unit_stride(name, "dy", dy);
    check::unit_stride(name, "dgate", dgate);
    check::unit_stride(name, "dup", dup);
  }
  double flops() const { return 16.0 * double(gate.count()); }
  double bytes() const { return check::total_bytes(gate, up, dy, dgate, dup); }
};

/// Scale of each channel: y[t,d] = x[t,d] gamma[d] (+ residual[t,d]). y may be x or residual.
///
/// Shapes    x, y, residual (T, D); gamma (D)
/// Layout    unit stride over d
/// Numerics  computed in accum, rounded once to Y, which is value, or accum for a residual stream
///           that is kept wide
template <engine E, class Y = typename E::value>
struct channel_scale {
  static constexpr const char* name = "channel_scale";
  in<E, 2> x{};
  in_accum<E, 1> gamma{};
  view<const Y, 2, typename E::memory> residual{};  // or empty
  view<Y, 2, typename E::memory> y{};

  void check() const {
    check::given(name, "x", x);
    check::size(name, "gamma", gamma, shape<1>{{x.size[1]}});
    check::size_if_given(name, "residual", residual, x.shape());
    check::size(name, "y", y, x.shape());
    check::unit_stride(name, "x", x);
    check::unit_stride(name, "gamma", gamma);
    check::unit_stride(name, "residual", residual);
    check::unit_stride(name, "y", y);
  }
  double flops() const { return (residual ? 2.0 : 1.0) * double(x.count()); }
  double bytes() const { return check::total_bytes(x, gamma, residual, y); }
};

/// dx[t,d] = dy[t,d] gamma[d]; dgamma[d] += sum_t dy[t,d] x[t,d], t ascending.
template <engine E>
struct channel_scale_backward {
  static constexpr const char* name = "channel_scale_backward";
  in<E, 2> x{};
  in_accum<E, 1> gamma{};
  in<E, 2> dy{};
  out<E, 2> dx{};
  out_accum<E, 1> dgamma{};  // or empty

  void check() const {
    check::given(name, "x", x);
    check::size(name, "gamma", gamma, shape<1>{{x.size[1]}});
    check::size(name, "dy", dy, x.shape());
    check::size(name, "dx", dx, x.shape());
    check::size_if_given(name, "dgamma", dgamma, shape<1>{{x.size[1]}});
    check::unit_stride(name, "x", x);
    check::unit_stride(name, "gamma", gamma);
    check::unit_stride(name, "dy", dy);
    check::unit_stride(name, "dx", dx);
    check::unit_stride(name, "dgamma", dgamma);
  }
  double flops() const { return 3.0 * double(x.count()); }
  double bytes() const { return check::total_bytes(x, gamma, dy, dx, dgamma); }
};

/// Adds one table to every batch row: y[b,t,d] = x[b,t,d] + p[t,d]. y may be x.
///
/// Shapes    x, y (B, T, D); p (T, D)
/// Layout    unit stride over d
template <engine E>
struct add_position {
  static constexpr const char* name = "add_position";
  in<E, 3> x{};
  in_accum<E, 2> p{};
  out<E, 3> y{};

  void check() const {
    check::given(name, "x", x);
    check::size(name, "p", p, shape<2>{{x.size[1], x.size[2]}});
    check::size(name, "y", y, x.shape());
    check::unit_stride(name, "x", x);
    check::unit_stride(name, "p", p);
    check::unit_stride(name, "y", y);
  }
  double flops() const { return double(x.count()); }
  double bytes() const { return check::total_bytes(x, p, y); }
};

/// dp[t,d] += sum_b dy[b,t,d], b ascending. (dx is dy.)
template <engine E>
struct add_position_backward {
  static constexpr const char* name = "add_position_backward";
  in<E, 3> dy{};
  out_accum<E, 2> dp{};

  void check() const {
    check::given(name, "dy", dy);
    check::size(name, "dp", dp, shape<2>{{dy.size[1], dy.size[2]}});
    check::unit_stride(name, "dy", dy);
    check::unit_stride(name, "dp", dp);
  }
  double flops() const { return double(dy.count()); }
  double bytes() const { return check::total_bytes(dy, dp, dp); }
};

/// Decay rates from their logarithms: y[i] = -exp(x[i]).
///
/// Shapes    x, y (n), in accum
template <engine E>
struct negative_exp {
  static constexpr const char* name = "negative_exp";
  in_accum<E, 1> x{};
  out_accum<E, 1> y{};

  void check() const {
    check::given(name, "x", x);
    check::size(name, "y", y, x.shape());
    check::unit_stride(name, "x", x);
    check::unit_stride(name, "y", y);
  }
  double flops() const { return 2.0 * double(x.count()); }
  double bytes() const { return check::total_bytes(x, y); }
};

/// dx[i] += dy[i] y[i], y being the result of the forward.
template <engine E>
struct negative_exp_backward {
  static constexpr const char* name = "negative_exp_backward";
  in_accum<E, 1> y{}, dy{};
  out_accum<E, 1> dx{};

  void check() const {
    check::given(name, "y", y);
    check::size(name, "dy", dy, y.shape());
    check::size(name, "dx", dx, y.shape());
    check::unit_stride(name, "y", y);
    check::unit_stride(name, "dy", dy);
    check::unit_stride(name, "dx", dx);
  }
  double flops() const { return 2.0 * double(y.count()); }
  double bytes() const { return check::total_bytes(y, dy, dx, dx); }
};

/// y = value everywhere.
template <engine E, class T = typename E::accum>
struct fill {
  static constexpr const char* name = "fill";
  view<T, 1, typename E::memory> y{};
  typename E::real value = 0;

  void check() const {
    check::given(name, "y", y);
    check::unit_stride(name, "y", y);
  }
  double flops() const { return 0; }
  double bytes() const { return check::total_bytes(y); }
};

}  // namespace mlmamba::ops
