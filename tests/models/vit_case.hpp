// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Vision towers as op cases: pixels and every parameter are inputs, the features are the output.
#pragma once

#include "mlmamba/models/vit.hpp"
#include "mlmamba/verify/op_case.hpp"

namespace mlmamba::verify {

template <engine E>
struct vit_case {
  using engine_type = E;
  vit<E> tower;
  tensor_of<E, 4> x, dx;
  tensor_of<E, 3> y, dy;

  explicit vit_case(vit_config c, index_t batch = 1)
      : tower(c),
        x({batch, 3, c.image_size, c.image_size}),
        dx({batch, 3, c.image_size, c.image_size}),
        y({batch, c.patches(), c.d_model}),
        dy({batch, c.patches(), c.d_model}) {
    nn::allocate_grads(tower);
  }
  static void inputs(auto& self, auto&& f) {
    f("pixels", self.x, self.dx);
    nn::for_each_parameter(self.tower, [&](const std::string& path, auto& p) {
      f(path.c_str(), p.value, p.grad, range::small);
    });
  }
  static void outputs(auto& self, auto&& f) { f("features", self.y, self.dy); }
  void forward(context_of<E>& ctx) {
    auto frame = ctx.scratch.make_frame();
    typename vit<E>::saved s;
    const auto got = tower.forward(ctx, in<E, 4>(x.view()), s);
    allocator<typename E::memory>::copy(y.data(), got.data, y.bytes());
  }
  void backward(context_of<E>& ctx) {
    auto frame = ctx.scratch.make_frame();
    typename vit<E>::saved s;
    tower.forward(ctx, in<E, 4>(x.view()), s);
    const auto got = tower.backward_to_pixels(ctx, dy, s);
    allocator<typename E::memory>::copy(dx.data(), got.data, dx.bytes());
  }
  double terms() const { return 4.0 * double(tower.config.mlp_hidden * tower.config.depth); }
};

}  // namespace mlmamba::verify
