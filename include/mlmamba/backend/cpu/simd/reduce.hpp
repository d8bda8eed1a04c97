// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Entries of the table for reductions.
#pragma once

#include "mlmamba/core/engine.hpp"

namespace mlmamba::backend::simd {

template <class T>
struct reduce_entries {
  // y[j] += x[0, j] + x[1, j] + ..., added one after the other
  void (*sum_rows)(const T* x, index_t stride, index_t rows, accum_t<T>* y, index_t n);
  // the first index of the largest number; NaN counts as smallest
  index_t (*argmax)(const T* x, index_t n);
};

struct reduce_kernels {
  reduce_entries<float> f32;
  reduce_entries<bf16> b16;
  reduce_entries<double> f64;
  double (*sum_squares_f32)(const float* x, index_t n);
  double (*sum_squares_f64)(const double* x, index_t n);

  template <class T>
  const reduce_entries<T>& of() const {
    if constexpr (std::is_same_v<T, float>) {
      return f32;
    } else if constexpr (std::is_same_v<T, bf16>) {
      return b16;
    } else {
      static_assert(std::is_same_v<T, double>, "CPU kernels exist for float, bf16 and double");
      return f64;
    }
  }
  template <class A>
  auto sum_squares() const {
    if constexpr (std::is_same_v<A, float>) {
      return sum_squares_f32;
    } else {
      return sum_squares_f64;
    }
  }
};

}  // namespace mlmamba::backend::simd
