// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The parameters of a depthwise causal convolution; mixers give them to ops::causal_conv1d.
#pragma once

#include <cmath>

#include "mlmamba/nn/module.hpp"
#include "mlmamba/ops/causal_conv1d.hpp"

namespace mlmamba::nn {

/// Depthwise causal convolution weights under the published names.
template <engine E>
struct conv1d_weights {
  using engine_type = E;
  parameter<E, 3, typename E::accum> weight;  // (D, 1, W)
  parameter<E, 1> bias;                       // (D) or absent
  double init = 0;                            // bound; 0: 1 / sqrt(W)

  conv1d_weights() = default;
  explicit conv1d_weights(index_t channels, index_t width, bool with_bias, double bound = 0)
      : weight({channels, 1, width}), init(bound) {
    if (with_bias) bias = parameter<E, 1>({channels});
  }
  static void fields(auto& self, auto&& f) { f("weight", self.weight), f("bias", self.bias); }
  static void initialise(auto& self, random_stream r) {
    const double bound =
        self.init > 0 ? self.init : 1 / std::sqrt(double(self.weight.value.size(2)));
    random_stream w = r.fork("weight"), b = r.fork("bias");
    fill(self.weight, [&] { return w.uniform(-bound, bound); });
    const double around = 1 / std::sqrt(double(self.weight.value.size(2)));
    if (self.bias) fill(self.bias, [&] { return b.uniform(-around, around); });
  }
  in_accum<E, 2> matrix() const { return in_accum<E, 3>(weight.value.view()).select(1, 0); }
  out_accum<E, 2> matrix_grad() {
    return weight.grad ? weight.grad.view().select(1, 0) : out_accum<E, 2>{};
  }
};

}  // namespace mlmamba::nn
