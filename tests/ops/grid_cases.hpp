// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Ops on grids of tokens as op cases.
#pragma once

#include "mlmamba/ops/grid.hpp"
#include "mlmamba/verify/op_case.hpp"

namespace mlmamba::verify {

struct pool_options {
  index_t batch = 2, rows = 3, columns = 4, out_rows = 2, out_columns = 2, width = 3;
};

template <engine E>
struct adaptive_pool_case {
  using engine_type = E;
  using backward_op = ops::adaptive_pool_backward<E>;
  pool_options o;
  tensor_of<E, 3> x, dx, y, dy;

  explicit adaptive_pool_case(pool_options o)
      : o(o),
        x({o.batch, o.rows * o.columns, o.width}),
        dx(x.shape()),
        y({o.batch, o.out_rows * o.out_columns, o.width}),
        dy(y.shape()) {}
  static void inputs(auto& s, auto&& f) { f("x", s.x, s.dx); }
  static void outputs(auto& s, auto&& f) { f("y", s.y, s.dy); }
  void forward(context_of<E>& ctx) {
    run(ctx, ops::adaptive_pool<E>{.x = x,
                                   .y = y,
                                   .rows = o.rows,
                                   .columns = o.columns,
                                   .out_rows = o.out_rows,
                                   .out_columns = o.out_columns});
  }
  void backward(context_of<E>& ctx) {
    run(ctx, backward_op{.dy = dy,
                         .dx = dx,
                         .rows = o.rows,
                         .columns = o.columns,
                         .out_rows = o.out_rows,
                         .out_columns = o.out_columns});
  }
  double terms() const { return 4 + double(o.rows * o.columns) / double(y.size(1)); }
};

struct shuffle_options {
  index_t batch = 2, rows = 4, columns = 6, factor = 2, width = 3;
  bool inverse = false;
};

template <engine E>
struct pixel_shuffle_case {
  using engine_type = E;
  using backward_op = ops::pixel_shuffle<E>;
  shuffle_options o;
  tensor_of<E, 3> x, dx, y, dy;

  explicit pixel_shuffle_case(shuffle_options o)
      : o(o),
        x(o.inverse ? coarse(o) : fine(o)),
        dx(x.shape()),
        y(o.inverse ? fine(o) : coarse(o)),
        dy(y.shape()) {}
  static void inputs(auto& s, auto&& f) { f("x", s.x, s.dx); }
  static void outputs(auto& s, auto&& f) { f("y", s.y, s.dy); }
  void forward(context_of<E>& ctx) { shuffle(ctx, x, y, o.inverse); }
  void backward(context_of<E>& ctx) { shuffle(ctx, dy, dx, !o.inverse); }
  double terms() const { return 1; }

 private:
  static shape<3> fine(shuffle_options o) { return {{o.batch, o.rows * o.columns, o.width}}; }
  static shape<3> coarse(shuffle_options o) {
    const index_t f = o.factor * o.factor;
    return {{o.batch, o.rows * o.columns / f, o.width * f}};
  }
  void shuffle(context_of<E>& ctx, in<E, 3> from, out<E, 3> to, bool inverse) {
    run(ctx, ops::pixel_shuffle<E>{.x = from,
                                   .y = to,
                                   .rows = o.rows,
                                   .columns = o.columns,
                                   .factor = o.factor,
                                   .inverse = inverse});
  }
};

struct conv2d_options {
  index_t batch = 2, rows = 3, columns = 4, width = 3;
  bool bias = true;
};

template <engine E>
struct depthwise_conv2d_case {
  using engine_type = E;
  using backward_op = ops::depthwise_conv2d_backward<E>;
  using A = typename E::accum;
  conv2d_options o;
  tensor_of<E, 3> x, dx, y, dy;
  tensor<A, 3, typename E::memory> weight, dweight;
  tensor<A, 1, typename E::memory> bias, dbias;

  explicit depthwise_conv2d_case(conv2d_options o)
      : o(o),
        x({o.batch, o.rows * o.columns, o.width}),
        dx(x.shape()),
        y(x.shape()),
        dy(x.shape()),
        weight({o.width, 3, 3}),
        dweight({o.width, 3, 3}) {
    if (o.bias) bias = decltype(bias)({o.width}), dbias = decltype(bias)({o.width});
  }
  static void inputs(auto& s, auto&& f) {
    f("x", s.x, s.dx);
    f("weight", s.weight, s.dweight);
    f("bias", s.bias, s.dbias);
  }
  static void outputs(auto& s, auto&& f) { f("y", s.y, s.dy); }
  void forward(context_of<E>& ctx) {
    run(ctx,
        ops::depthwise_conv2d<E>{
            .x = x, .weight = weight, .bias = bias, .y = y, .rows = o.rows, .columns = o.columns});
  }
  void backward(context_of<E>& ctx) {
    run(ctx, backward_op{.x = x,
                         .weight = weight,
                         .dy = dy,
                         .dx = dx,
                         .dweight = dweight,
                         .dbias = dbias,
                         .rows = o.rows,
                         .columns = o.columns});
  }
  double terms() const { return double(std::max<index_t>(9, o.batch * o.rows * o.columns)); }
};

}  // namespace mlmamba::verify
