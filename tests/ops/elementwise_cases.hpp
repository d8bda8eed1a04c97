// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Elementwise ops as op cases.
#pragma once

#include "mlmamba/ops/elementwise.hpp"
#include "mlmamba/verify/op_case.hpp"

namespace mlmamba::verify {

struct elementwise_options {
  index_t rows = 3, width = 5;
  activation act = activation::none;
  bool strided = false;   // inputs are slices of wider arrays
  bool residual = false;  // of channel_scale
  float scale = 1;        // of add
};

namespace detail {
/// The first `width` columns of every row.
template <class Tensor>
auto columns(Tensor& t, index_t width) {
  return t.view().slice(1, 0, width);
}
}  // namespace detail

template <engine E>
struct activate_case {
  using engine_type = E;
  using backward_op = ops::activate_backward<E>;
  elementwise_options o;
  tensor_of<E, 2> x, dx, y, dy;

  explicit activate_case(elementwise_options o)
      : o(o),
        x({o.rows, o.width + (o.strided ? 3 : 0)}),
        dx(x.shape()),
        y({o.rows, o.width}),
        dy(y.shape()) {}
  static void inputs(auto& s, auto&& f) { f("x", s.x, s.dx); }
  static void outputs(auto& s, auto&& f) { f("y", s.y, s.dy); }
  void forward(context_of<E>& ctx) {
    run(ctx, ops::activate<E>{.x = detail::columns(x, o.width), .y = y, .activation = o.act});
  }
  void backward(context_of<E>& ctx) {
    run(ctx, backward_op{.x = detail::columns(x, o.width),
                         .dy = dy,
                         .dx = detail::columns(dx, o.width),
                         .activation = o.act});
  }
  double terms() const { return 4; }
};

template <engine E>
struct gated_case {
  using engine_type = E;
  using backward_op = ops::gated_backward<E>;
  elementwise_options o;
  tensor_of<E, 2> gate, dgate, up, dup, y, dy;

  explicit gated_case(elementwise_options o)
      : o(o),
        gate({o.rows, o.width + (o.strided ? 3 : 0)}),
        dgate(gate.shape()),
        up({o.rows, o.width}),
        dup(up.shape()),
        y(up.shape()),
        dy(up.shape()) {}
  static void inputs(auto& s, auto&& f) {
    f("gate", s.gate, s.dgate);
    f("up", s.up, s.dup);
  }
  static void outputs(auto& s, auto&& f) { f("y", s.y, s.dy); }
  void forward(context_of<E>& ctx) {
    run(ctx, ops::gated<E>{
                 .gate = detail::columns(gate, o.width), .up = up, .y = y, .activation = o.act});
  }
  void backward(context_of<E>& ctx) {
    run(ctx, backward_op{.gate = detail::columns(gate, o.width),
                         .up = up,
                         .dy = dy,
                         .dgate = detail::columns(dgate, o.width),
                         .dup = dup,
                         .activation = o.act});
  }
  double terms() const { return 4; }
};

template <engine E>
struct channel_scale_case {
  using engine_type = E;
  using backward_op = ops::channel_scale_backward<E>;
  elementwise_options o;
  tensor_of<E, 2> x, dx, residual, dresidual, y, dy;
  tensor<typename E::accum, 1, typename E::memory> gamma, dgamma;

  explicit channel_scale_case(elementwise_options o)
      : o(o),
        x({o.rows, o.width + (o.strided ? 3 : 0)}),
        dx(x.shape()),
        y({o.rows, o.width}),
        dy(y.shape()),
        gamma({o.width}),
        dgamma({o.width}) {
    if (o.residual) residual = tensor_of<E, 2>(y.shape());
  }
  static void inputs(auto& s, auto&& f) {
    f("x", s.x, s.dx);
    f("gamma", s.gamma, s.dgamma);
    f("residual", s.residual, s.dresidual);  // its gradient is dy: nothing to check
  }
  static void outputs(auto& s, auto&& f) { f("y", s.y, s.dy); }
  void forward(context_of<E>& ctx) {
    run(ctx, ops::channel_scale<E>{
                 .x = detail::columns(x, o.width), .gamma = gamma, .residual = residual, .y = y});
  }
  void backward(context_of<E>& ctx) {
    run(ctx, backward_op{.x = detail::columns(x, o.width),
                         .gamma = gamma,
                         .dy = dy,
                         .dx = detail::columns(dx, o.width),
                         .dgamma = dgamma});
  }
  double terms() const { return double(o.rows); }
};

template <engine E>
struct add_position_case {
  using engine_type = E;
  using backward_op = ops::add_position_backward<E>;
  elementwise_options o;
  tensor_of<E, 3> x, dx, y, dy;
  tensor<typename E::accum, 2, typename E::memory> p, dp;

  explicit add_position_case(elementwise_options o)
      : o(o),
        x({o.rows, 4, o.width}),
        y(x.shape()),
        dy(x.shape()),
        p({4, o.width}),
        dp(p.shape()) {}
  static void inputs(auto& s, auto&& f) {
    f("x", s.x, s.dx);  // its gradient is dy
    f("p", s.p, s.dp);
  }
  static void outputs(auto& s, auto&& f) { f("y", s.y, s.dy); }
  void forward(context_of<E>& ctx) { run(ctx, ops::add_position<E>{.x = x, .p = p, .y = y}); }
  void backward(context_of<E>& ctx) { run(ctx, backward_op{.dy = dy, .dp = dp}); }
  double terms() const { return double(o.rows); }
};

template <engine E>
struct negative_exp_case {
  using engine_type = E;
  using backward_op = ops::negative_exp_backward<E>;
  tensor<typename E::accum, 1, typename E::memory> x, dx, y, dy;

  explicit negative_exp_case(elementwise_options o)
      : x({o.rows * o.width}), dx(x.shape()), y(x.shape()), dy(x.shape()) {}
  static void inputs(auto& s, auto&& f) { f("x", s.x, s.dx); }
  static void outputs(auto& s, auto&& f) { f("y", s.y, s.dy); }
  void forward(context_of<E>& ctx) { run(ctx, ops::negative_exp<E>{.x = x, .y = y}); }
  void backward(context_of<E>& ctx) { run(ctx, backward_op{.y = y, .dy = dy, .dx = dx}); }
  double terms() const { return 4; }
};

/// Scaled sums of all pairs of types; no backward, a sum has none of its own.
template <engine E>
struct add_case {
  using engine_type = E;
  using A = typename E::accum;
  elementwise_options o;
  tensor_of<E, 2> a, b, none, y_value, y_mixed;
  tensor<A, 2, typename E::memory> wide, y_accum, y_wide, no_accum;

  explicit add_case(elementwise_options o)
      : o(o),
        a({o.rows, o.width + (o.strided ? 3 : 0)}),
        b({o.rows, o.width}),
        y_value(b.shape()),
        y_mixed(b.shape()),
        wide(a.shape()),
        y_accum(b.shape()),
        y_wide(b.shape()) {}
  static void inputs(auto& s, auto&& f) {
    f("a", s.a, s.none);
    f("b", s.b, s.none);
    f("wide", s.wide, s.no_accum);
  }
  static void outputs(auto& s, auto&& f) {
    f("value + value", s.y_value, s.none);
    f("value + accum", s.y_mixed, s.none);
    f("accum + value", s.y_accum, s.no_accum);
    f("accum + accum", s.y_wide, s.no_accum);
  }
  void forward(context_of<E>& ctx) {
    using V = typename E::value;
    const typename E::real scale = o.scale;
    const auto some = detail::columns(a, o.width);
    const auto some_wide = detail::columns(wide, o.width);
    run(ctx, ops::add<E>{.a = some, .b = b, .y = y_value, .scale = scale});
    run(ctx, ops::add<E, V, A>{.a = some, .b = some_wide, .y = y_mixed, .scale = scale});
    run(ctx, ops::add<E, A, V>{.a = some_wide, .b = b, .y = y_accum, .scale = scale});
    run(ctx, ops::add<E, A, A>{.a = some_wide, .b = some_wide, .y = y_wide, .scale = scale});
  }
  double terms() const { return 2; }
};

/// Copies between all pairs of types, one of them transposed; no backward.
template <engine E>
struct copy_case {
  using engine_type = E;
  using V = typename E::value;
  using A = typename E::accum;
  using memory = typename E::memory;
  elementwise_options o;
  tensor_of<E, 2> x, none, y_value, y_narrow;
  tensor<A, 2, memory> wide, y_wide, y_turned, no_accum;

  explicit copy_case(elementwise_options o)
      : o(o),
        x({o.rows, o.width + (o.strided ? 3 : 0)}),
        y_value({o.rows, o.width}),
        y_narrow(y_value.shape()),
        wide(x.shape()),
        y_wide(y_value.shape()),
        y_turned({o.width, o.rows}) {}
  static void inputs(auto& s, auto&& f) {
    f("x", s.x, s.none);
    f("wide", s.wide, s.no_accum);
  }
  static void outputs(auto& s, auto&& f) {
    f("value to value", s.y_value, s.none);
    f("accum to value", s.y_narrow, s.none);
    f("value to accum", s.y_wide, s.no_accum);
    f("transposed", s.y_turned, s.no_accum);
  }
  void forward(context_of<E>& ctx) {
    using B = typename E::backend;
    const auto some = detail::columns(x, o.width);
    const auto some_wide = detail::columns(wide, o.width);
    run(ctx, ops::copy<B, V, V, 2>{.x = some, .y = y_value});
    run(ctx, ops::copy<B, V, A, 2>{.x = some_wide, .y = y_narrow});
    run(ctx, ops::copy<B, A, V, 2>{.x = some, .y = y_wide});
    run(ctx, ops::copy<B, A, A, 2>{.x = some_wide.transposed(), .y = y_turned});
  }
  double terms() const { return 1; }
};

template <engine E>
struct fill_case {
  using engine_type = E;
  elementwise_options o;
  tensor_of<E, 1> y, none;

  explicit fill_case(elementwise_options o) : o(o), y({o.rows * o.width}) {}
  static void inputs(auto&, auto&&) {}
  static void outputs(auto& s, auto&& f) { f("y", s.y, s.none); }
  void forward(context_of<E>& ctx) {
    run(ctx, ops::fill<E, typename E::value>{.y = y, .value = typename E::real(o.scale)});
  }
  double terms() const { return 1; }
};

}  // namespace mlmamba::verify
