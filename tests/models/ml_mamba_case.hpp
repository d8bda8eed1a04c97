// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A tiny ML-Mamba with two towers as an op case: every parameter is an input, the logits the
// output.
#pragma once

#include <array>

#include "mlmamba/models/connectors/scan.hpp"
#include "mlmamba/models/fused_vision.hpp"
#include "mlmamba/models/mamba_lm.hpp"
#include "mlmamba/models/ml_mamba.hpp"
#include "mlmamba/models/vit.hpp"
#include "mlmamba/verify/op_case.hpp"
#include "models/tiny_language.hpp"

namespace mlmamba::verify {

template <engine E>
using tiny_ml_mamba = ml_mamba<fused<vit<E>, vit<E>>, scan_connector<E>, mamba_lm<E>>;

template <engine E>
tiny_ml_mamba<E> make_tiny_ml_mamba(index_t scale = 1) {
  const auto dino = make_vit_config(vit_kind::dinov2_reg4, 5, 2, 4 * scale, 2, 2, 1.5);
  const auto siglip = make_vit_config(vit_kind::siglip, 5, 2, 2 * scale, 2, 1, 2);
  fused<vit<E>, vit<E>> towers{vit<E>(dino), vit<E>(siglip)};
  mamba_lm<E> language(tiny_language(4 * scale, scale == 1 ? 1 : 2));
  const auto n = tiny_ml_mamba<E>::shape_for(towers, language);
  auto o = scan_options_for(n);
  o.mixer.d_state = 2;
  o.mixer.headdim = 4;
  o.n_layer = scale == 1 ? 1 : 2;
  return tiny_ml_mamba<E>(std::move(towers), scan_connector<E>(n, o), std::move(language));
}

template <engine E>
struct ml_mamba_case {
  using engine_type = E;
  tiny_ml_mamba<E> model;
  tensor_of<E, 4> first, second, nothing, nothing2;
  tensor<std::int32_t, 2, typename E::memory> ids;
  tensor_of<E, 3> y, dy;

  explicit ml_mamba_case(index_t batch, index_t length, index_t scale = 1)
      : model(make_tiny_ml_mamba<E>(scale)),
        first({batch, 3, 5, 5}),
        second({batch, 3, 5, 5}),
        ids({batch, length}),
        y({batch, 4 + length, 8}),
        dy({batch, 4 + length, 8}) {
    tensor<std::int32_t, 2> host({batch, length});
    for (index_t i = 0; i < host.count(); ++i) host.data()[i] = std::int32_t((i * 5 + 3) % 7);
    from_host(ids.view(), std::as_const(host).view());
    nn::allocate_grads(model);
  }
  static void inputs(auto& self, auto&& f) {
    f("first", self.first, self.nothing), f("second", self.second, self.nothing2);
    nn::for_each_parameter(self.model, [&](const std::string& path, auto& p) {
      f(path.c_str(), p.value, p.grad, range::small);
    });
  }
  static void outputs(auto& self, auto&& f) { f("logits", self.y, self.dy); }
  std::array<in<E, 4>, 2> pictures() const { return {first, second}; }
  void forward(context_of<E>& ctx) {
    auto frame = ctx.scratch.make_frame();
    typename tiny_ml_mamba<E>::saved s;
    nn::assign(ctx, y.view(), model.forward(ctx, pictures(), ids, s));
  }
  void backward(context_of<E>& ctx) {
    auto frame = ctx.scratch.make_frame();
    typename tiny_ml_mamba<E>::saved s;
    model.forward(ctx, pictures(), ids, s);
    model.backward(ctx, dy, s);
  }
  double terms() const { return 64.0 * double(y.count()); }
};

}  // namespace mlmamba::verify
