// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Entries of the table for reductions.
#pragma once

#include "mlmamba/core/engine.hpp"

namespace mlmamba::backend::simd {

template <class T>
struct sum_rows_entries {
  /// y[j] += x[0, j] + x[1, j] + ..., added one after the other
  void (*sum)(const T* x, index_t stride, index_t rows, accum_t<T>* y, index_t n);
};
template <class T>
struct argmax_entries {
  /// the first index of the largest number; NaN counts as smallest
  index_t (*find)(const T* x, index_t n);
};
template <class A>
struct sum_squares_entries {
  double (*sum)(const A* x, index_t n);
};

}  // namespace mlmamba::backend::simd
