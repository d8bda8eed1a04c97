// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Patches, plainly.
#pragma once

#include "mlmamba/ops/patchify.hpp"

namespace mlmamba::backend {

template <class E>
void execute(context<reference>&, const ops::patchify<E>& op) {
  const index_t p = op.patch, rows = op.x.size[2] / p, columns = op.x.size[3] / p;
  for (index_t b = 0; b < op.x.size[0]; ++b)
    for (index_t r = 0; r < rows; ++r)
      for (index_t c = 0; c < columns; ++c)
        for (index_t ch = 0; ch < op.x.size[1]; ++ch)
          for (index_t i = 0; i < p; ++i)
            for (index_t j = 0; j < p; ++j)
              op.y(b, r * columns + c, (ch * p + i) * p + j) = op.x(b, ch, r * p + i, c * p + j);
}

template <class E>
void execute(context<reference>&, const ops::patchify_backward<E>& op) {
  using V = typename E::value;
  const index_t p = op.patch, rows = op.dx.size[2] / p, columns = op.dx.size[3] / p;
  for (index_t b = 0; b < op.dx.size[0]; ++b)
    for (index_t ch = 0; ch < op.dx.size[1]; ++ch)
      for (index_t y = 0; y < op.dx.size[2]; ++y)
        for (index_t x = 0; x < op.dx.size[3]; ++x)
          op.dx(b, ch, y, x) = y < rows * p && x < columns * p ? op.dy(b, (y / p) * columns + x / p,
                                                                       (ch * p + y % p) * p + x % p)
                                                               : V(real_t<V>(0));
}

}  // namespace mlmamba::backend
