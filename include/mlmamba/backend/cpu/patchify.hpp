// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Patches on the CPU: one task per row of patches.
#pragma once

#include "mlmamba/backend/cpu/workers.hpp"
#include "mlmamba/ops/patchify.hpp"

namespace mlmamba::backend {

namespace detail {
/// n elements with a stride on one side, copied; contiguous ones as bytes.
template <class T>
void copy_strided(const T* from, index_t from_step, T* to, index_t to_step, index_t n) {
  if (from_step == 1 && to_step == 1) {
    std::copy_n(from, n, to);
  } else {
    for (index_t i = 0; i < n; ++i) to[i * to_step] = from[i * from_step];
  }
}
}  // namespace detail

template <class E>
void execute(context<cpu>& ctx, const ops::patchify<E>& op) {
  const index_t p = op.patch, rows = op.x.size[2] / p, columns = op.x.size[3] / p;
  ctx.parallel_for(op.x.size[0] * rows, [&](index_t task) {
    const index_t b = task / rows, r = task % rows;
    for (index_t c = 0; c < columns; ++c)
      for (index_t ch = 0; ch < op.x.size[1]; ++ch)
        for (index_t i = 0; i < p; ++i)
          detail::copy_strided(op.x.data + b * op.x.stride[0] + ch * op.x.stride[1] +
                                   (r * p + i) * op.x.stride[2] + c * p * op.x.stride[3],
                               op.x.stride[3],
                               op.y.data + b * op.y.stride[0] + (r * columns + c) * op.y.stride[1] +
                                   (ch * p + i) * p,
                               1, p);
  });
}

template <class E>
void execute(context<cpu>& ctx, const ops::patchify_backward<E>& op) {
  using V = typename E::value;
  const index_t p = op.patch, rows = op.dx.size[2] / p, columns = op.dx.size[3] / p;
  const index_t height = op.dx.size[2], width = op.dx.size[3], channels = op.dx.size[1];
  ctx.parallel_for(op.dx.size[0] * channels, [&](index_t task) {
    const index_t b = task / channels, ch = task % channels;
    for (index_t y = 0; y < height; ++y) {
      V* row = op.dx.data + b * op.dx.stride[0] + ch * op.dx.stride[1] + y * op.dx.stride[2];
      const index_t covered = y < rows * p ? columns * p : 0;
      for (index_t c = 0; c < covered / p; ++c)
        detail::copy_strided(op.dy.data + b * op.dy.stride[0] +
                                 ((y / p) * columns + c) * op.dy.stride[1] + (ch * p + y % p) * p,
                             1, row + c * p * op.dx.stride[3], op.dx.stride[3], p);
      for (index_t x = covered; x < width; ++x) row[x * op.dx.stride[3]] = V(real_t<V>(0));
    }
  });
}

}  // namespace mlmamba::backend
