// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Matrix product, plainly.
#pragma once

#include "mlmamba/ops/gemm.hpp"

namespace mlmamba::backend {

template <class E, class Y, class W, class X>
void execute(context<reference>&, const ops::gemm<E, Y, W, X>& op) {
  using A = typename E::accum;
  for (index_t m = 0; m < op.x.size[0]; ++m) {
    for (index_t n = 0; n < op.w.size[0]; ++n) {
      A v = op.accumulate ? A(op.y(m, n)) : A(0);
      for (index_t k = 0; k < op.x.size[1]; ++k) v += A(op.x(m, k)) * A(op.w(n, k));
      if (op.bias) v += op.bias(n);
      if (op.pre_activation) op.pre_activation(m, n) = Y(v);
      op.y(m, n) = Y(apply_activation(op.activation, v));
    }
  }
}

}  // namespace mlmamba::backend
