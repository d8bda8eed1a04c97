// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Entries of the table for softmax over a row of logits.
#pragma once

#include "mlmamba/core/engine.hpp"

namespace mlmamba::backend::simd {

template <class T>
struct cross_entropy_entries {
  using A = accum_t<T>;
  A (*largest)(const T* x, index_t n);
  A (*sum_exp)(const T* x, A top, index_t n);                        // sum of exp(x - top)
  void (*scaled_exp)(const T* x, A top, A factor, T* y, index_t n);  // y = factor exp(x - top)
};

}  // namespace mlmamba::backend::simd
