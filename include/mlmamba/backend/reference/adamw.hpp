// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// AdamW, plainly.
#pragma once

#include <cmath>

#include "mlmamba/ops/adamw.hpp"

namespace mlmamba::backend {

template <class E, class W>
void execute(context<reference>&, const ops::adamw<E, W>& op) {
  using A = typename E::accum;
  using R = real_t<A>;
  const double c1 = 1 - std::pow(op.beta1, double(op.step));
  const double c2 = 1 - std::pow(op.beta2, double(op.step));
  for (index_t i = 0; i < op.weight.size[0]; ++i) {
    const A g = op.grad(i) * A(R(op.grad_scale));
    op.m(i) = A(R(op.beta1)) * op.m(i) + A(R(1 - op.beta1)) * g;
    op.v(i) = A(R(op.beta2)) * op.v(i) + A(R(1 - op.beta2)) * g * g;
    A w = op.master ? op.master(i) : A(op.weight(i));
    const A step = op.m(i) / A(R(c1)) / (math::sqrt(op.v(i) / A(R(c2))) + A(R(op.epsilon)));
    w -= A(R(op.learning_rate)) * (A(R(op.weight_decay)) * w + step);
    if (op.master) op.master(i) = w;
    op.weight(i) = W(w);
  }
}

}  // namespace mlmamba::backend
