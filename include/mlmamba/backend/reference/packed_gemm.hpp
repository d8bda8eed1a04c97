// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Matrix product with prepared weights, plainly.
#pragma once

#include <cmath>
#include <limits>
#include <vector>

#include "mlmamba/ops/packed_gemm.hpp"

namespace mlmamba::backend {

/// One row of x in 8 bits, as ops::packed_gemm says.
struct rounded_row {
  std::vector<int> r;
  std::vector<float> scale;

  template <class X>
  rounded_row(const X& x, index_t m, const packed_rows& w)
      : r(std::size_t(w.columns())), scale(std::size_t(w.groups())) {
    for (index_t g = 0; g < w.groups(); ++g) {
      const index_t from = g * w.group(), to = std::min(w.columns(), from + w.group());
      float most = 0;
      bool finite = true;
      for (index_t k = from; k < to; ++k) {
        const float v = std::fabs(float(x(m, k)));
        finite = finite && std::isfinite(v);
        most = std::max(most, v);
      }
      scale[std::size_t(g)] = !finite         ? std::numeric_limits<float>::quiet_NaN()
                              : most < 1e-30f ? 0.0f
                                              : most / 127;
      const float inverse = finite && most >= 1e-30f ? 127 / most : 0.0f;
      for (index_t k = from; finite && k < to; ++k)
        r[std::size_t(k)] = int(std::nearbyint(float(x(m, k)) * inverse));
    }
  }
};

template <class E, class Y>
void execute(context<reference>&, const ops::packed_gemm<E, Y>& op) {
  using A = typename E::accum;
  index_t first = 0;  // row of this part
  for (index_t part = 0; part < op.parts; first += op.w[part++].rows()) {
    const packed_rows& w = op.w[part];
    for (index_t m = 0; m < op.x.size[0]; ++m) {
      const bool quantised = w.format().quantised();
      const rounded_row row(op.x, quantised ? m : 0, w);
      for (index_t n = 0; n < w.rows(); ++n) {
        A v(0);
        if (!quantised)
          for (index_t k = 0; k < w.columns(); ++k) v += A(op.x(m, k)) * A(w(n, k));
        for (index_t g = 0; g < w.groups(); ++g) {
          std::int32_t sum = 0;
          const index_t to = std::min(w.columns(), (g + 1) * w.group());
          for (index_t k = g * w.group(); k < to; ++k) sum += row.r[std::size_t(k)] * w.q(n, k);
          v = std::fma(A(float(sum)), A(row.scale[std::size_t(g)] * float(w.scale(n, g))), v);
        }
        if (op.bias) v += op.bias(first + n);
        op.y(m, first + n) = Y(apply_activation(op.activation, v));
      }
    }
  }
}

}  // namespace mlmamba::backend
