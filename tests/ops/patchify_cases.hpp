// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Patches as op cases.
#pragma once

#include "mlmamba/ops/patchify.hpp"
#include "mlmamba/verify/op_case.hpp"

namespace mlmamba::verify {

struct patchify_options {
  index_t batch = 2, channels = 3, height = 4, width = 6, patch = 2;
};

template <engine E>
struct patchify_case {
  using engine_type = E;
  using backward_op = ops::patchify_backward<E>;
  patchify_options o;
  tensor_of<E, 4> x, dx;
  tensor_of<E, 3> y, dy;

  explicit patchify_case(patchify_options o)
      : o(o),
        x({o.batch, o.channels, o.height, o.width}),
        dx(x.shape()),
        y(ops::patchify<E>::patches(x.shape(), o.patch)),
        dy(y.shape()) {}
  static void inputs(auto& s, auto&& f) { f("x", s.x, s.dx); }
  static void outputs(auto& s, auto&& f) { f("y", s.y, s.dy); }
  void forward(context_of<E>& ctx) { run(ctx, ops::patchify<E>{.x = x, .y = y, .patch = o.patch}); }
  void backward(context_of<E>& ctx) { run(ctx, backward_op{.dy = dy, .dx = dx, .patch = o.patch}); }
  double terms() const { return 1; }
};

}  // namespace mlmamba::verify
