// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Ops on a grid of tokens, plainly.
#pragma once

#include <vector>

#include "mlmamba/ops/grid.hpp"

namespace mlmamba::backend {

template <class E>
void execute(context<reference>&, const ops::adaptive_pool<E>& op) {
  using A = typename E::accum;
  for (index_t b = 0; b < op.x.size[0]; ++b)
    for (index_t i = 0; i < op.out_rows; ++i)
      for (index_t j = 0; j < op.out_columns; ++j) {
        const ops::pool_window r(i, op.rows, op.out_rows), c(j, op.columns, op.out_columns);
        for (index_t d = 0; d < op.x.size[2]; ++d) {
          A sum = 0;
          for (index_t y = r.from; y < r.to; ++y)
            for (index_t x = c.from; x < c.to; ++x) sum += A(op.x(b, y * op.columns + x, d));
          op.y(b, i * op.out_columns + j, d) =
              typename E::value(sum / A(real_t<A>((r.to - r.from) * (c.to - c.from))));
        }
      }
}

template <class E>
void execute(context<reference>&, const ops::adaptive_pool_backward<E>& op) {
  using A = typename E::accum;
  std::vector<A> dx;
  for (index_t b = 0; b < op.dx.size[0]; ++b)
    for (index_t d = 0; d < op.dx.size[2]; ++d) {
      dx.assign(std::size_t(op.dx.size[1]), A(0));
      for (index_t i = 0; i < op.out_rows; ++i)
        for (index_t j = 0; j < op.out_columns; ++j) {
          const ops::pool_window r(i, op.rows, op.out_rows), c(j, op.columns, op.out_columns);
          const A share = A(op.dy(b, i * op.out_columns + j, d)) /
                          A(real_t<A>((r.to - r.from) * (c.to - c.from)));
          for (index_t y = r.from; y < r.to; ++y)
            for (index_t x = c.from; x < c.to; ++x) dx[std::size_t(y * op.columns + x)] += share;
        }
      for (index_t s = 0; s < op.dx.size[1]; ++s)
        op.dx(b, s, d) = typename E::value(dx[std::size_t(s)]);
    }
}

template <class E>
void execute(context<reference>&, const ops::pixel_shuffle<E>& op) {
  const index_t f = op.factor, D = op.inverse ? op.y.size[2] : op.x.size[2];
  for (index_t b = 0; b < op.x.size[0]; ++b)
    for (index_t i = 0; i < op.rows; ++i)
      for (index_t j = 0; j < op.columns; ++j)
        for (index_t d = 0; d < D; ++d) {
          const index_t fine = i * op.columns + j, coarse = (i / f) * (op.columns / f) + j / f;
          const index_t channel = ((i % f) * f + j % f) * D + d;
          if (op.inverse) {
            op.y(b, fine, d) = op.x(b, coarse, channel);
          } else {
            op.y(b, coarse, channel) = op.x(b, fine, d);
          }
        }
}

template <class E>
void execute(context<reference>&, const ops::depthwise_conv2d<E>& op) {
  using A = typename E::accum;
  for (index_t b = 0; b < op.x.size[0]; ++b)
    for (index_t i = 0; i < op.rows; ++i)
      for (index_t j = 0; j < op.columns; ++j)
        for (index_t d = 0; d < op.x.size[2]; ++d) {
          A v = op.bias ? A(op.bias(d)) : A(0);
          for (index_t u = 0; u < 3; ++u)
            for (index_t w = 0; w < 3; ++w) {
              const index_t y = i + u - 1, x = j + w - 1;
              if (y >= 0 && y < op.rows && x >= 0 && x < op.columns)
                v += op.weight(d, u, w) * A(op.x(b, y * op.columns + x, d));
            }
          op.y(b, i * op.columns + j, d) = typename E::value(v);
        }
}

template <class E>
void execute(context<reference>&, const ops::depthwise_conv2d_backward<E>& op) {
  using A = typename E::accum;
  for (index_t b = 0; b < op.x.size[0]; ++b)
    for (index_t i = 0; i < op.rows; ++i)
      for (index_t j = 0; j < op.columns; ++j)
        for (index_t d = 0; d < op.x.size[2]; ++d) {
          const A dy = A(op.dy(b, i * op.columns + j, d));
          if (op.dbias) op.dbias(d) += dy;
          A dx = 0;
          for (index_t u = 0; u < 3; ++u)
            for (index_t w = 0; w < 3; ++w) {
              const index_t y = i + u - 1, x = j + w - 1;  // the input this output saw
              if (op.dweight && y >= 0 && y < op.rows && x >= 0 && x < op.columns)
                op.dweight(d, u, w) += dy * A(op.x(b, y * op.columns + x, d));
              const index_t p = i - (u - 1), q = j - (w - 1);  // the output that saw this input
              if (p >= 0 && p < op.rows && q >= 0 && q < op.columns)
                dx += op.weight(d, u, w) * A(op.dy(b, p * op.columns + q, d));
            }
          op.dx(b, i * op.columns + j, d) = typename E::value(dx);
        }
}

}  // namespace mlmamba::backend
