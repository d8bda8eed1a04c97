// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Scan orders, plainly.
#pragma once

#include "mlmamba/ops/scan_order.hpp"

namespace mlmamba::backend {

template <class E>
void execute(context<reference>&, const ops::scan_order<E>& op) {
  for (index_t b = 0; b < op.x.size[0]; ++b)
    for (index_t k = 0; k < op.x.size[1]; ++k) {
      const index_t s = ops::scan_source(op.direction, k, op.grid_rows, op.grid_columns);
      for (index_t d = 0; d < op.x.size[2]; ++d)
        op.y(b, op.inverse ? s : k, d) = op.x(b, op.inverse ? k : s, d);
    }
}

}  // namespace mlmamba::backend
