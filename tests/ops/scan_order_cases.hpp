// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Scan orders as op cases.
#pragma once

#include "mlmamba/ops/scan_order.hpp"
#include "mlmamba/verify/op_case.hpp"

namespace mlmamba::verify {

struct scan_order_options {
  index_t batch = 2, rows = 3, columns = 4, width = 3;
  ops::scan_direction direction = ops::scan_direction::raster;
  bool inverse = false;
  bool strided = false;  ///< x is a slice of a wider array
};

template <engine E>
struct scan_order_case {
  using engine_type = E;
  scan_order_options o;
  tensor_of<E, 3> x, dx, y, dy;

  explicit scan_order_case(scan_order_options o)
      : o(o),
        x({o.batch, o.rows * o.columns, o.width + (o.strided ? 3 : 0)}),
        dx(x.shape()),
        y({o.batch, o.rows * o.columns, o.width}),
        dy(y.shape()) {}
  static void inputs(auto& s, auto&& f) { f("x", s.x, s.dx); }
  static void outputs(auto& s, auto&& f) { f("y", s.y, s.dy); }
  void forward(context_of<E>& ctx) { order(ctx, part(x), y, o.inverse); }
  void backward(context_of<E>& ctx) { order(ctx, dy, part(dx), !o.inverse); }
  double terms() const { return 1; }

 private:
  out<E, 3> part(tensor_of<E, 3>& t) { return t.view().slice(2, o.strided ? 1 : 0, o.width); }
  void order(context_of<E>& ctx, in<E, 3> from, out<E, 3> to, bool inverse) {
    run(ctx, ops::scan_order<E>{.x = from,
                                .y = to,
                                .direction = o.direction,
                                .grid_rows = o.rows,
                                .grid_columns = o.columns,
                                .inverse = inverse});
  }
};

}  // namespace mlmamba::verify
