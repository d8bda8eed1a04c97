// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Entries of the table for ops on grids of tokens: each works on n channels.
#pragma once

#include "mlmamba/core/engine.hpp"

namespace mlmamba::backend::simd {

/// What the gradient of a depthwise 3 x 3 convolution by its weights walks over, for n channels.
template <class T>
struct stencil_walk {
  using A = accum_t<T>;
  const T *x, *dy;
  index_t x_batch, x_token, dy_batch, dy_token;  // strides
  index_t batch, rows, columns;
  A *dweight, *dbias;  // (9, dweight_row) and (n), overwritten; each may be null
  index_t dweight_row;
};

template <class T>
struct grid_entries {
  using A = accum_t<T>;
  /// y = sum_{i,j} row_weight[i] column_weight[j] x[i,j] / divisor; null weights are 1.
  void (*window)(const T* x, index_t row_step, index_t rows, index_t column_step, index_t columns,
                 const A* row_weight, const A* column_weight, A divisor, T* y, index_t n);
  /// y = bias + sum_k weight[k] taps[k] over 9 taps; a null tap counts 0, a null bias is 0.
  void (*stencil)(const T* const* taps, const A* weight, index_t weight_row, const A* bias, T* y,
                  index_t n);
};
template <class T>
struct grid_backward_entries {
  void (*stencil)(const stencil_walk<T>&, index_t n);
};

}  // namespace mlmamba::backend::simd
