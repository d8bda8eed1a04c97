// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Entries of the table for elementwise ops: each works on n elements in a row.
#pragma once

#include "mlmamba/core/engine.hpp"

namespace mlmamba::backend::simd {

/// Kernels on elements of type T with accumulation type A.
template <class T>
struct elementwise_entries {
  using A = accum_t<T>;
  void (*activate)(activation a, const T* x, T* y, index_t n);
  void (*gated)(activation a, const T* gate, const T* up, T* y, index_t n);
  void (*channel_scale)(const T* x, const A* gamma, const T* residual, T* y, index_t n);
  void (*channel_scale_accum)(const T* x, const A* gamma, const A* residual, A* y, index_t n);
  void (*add)(const T* a, const T* b, T* y, A scale, index_t n);
  void (*add_accum)(const T* a, const A* b, T* y, A scale, index_t n);
  void (*accum_add)(const A* a, const T* b, A* y, A scale, index_t n);
  void (*from_accum)(const A* x, T* y, index_t n);
  void (*to_accum)(const T* x, A* y, index_t n);
};
template <class T>
struct elementwise_backward_entries {
  using A = accum_t<T>;
  void (*activate)(activation a, const T* x, const T* dy, T* dx, index_t n);
  void (*gated)(activation a, const T* gate, const T* up, const T* dy, T* dgate, T* dup, index_t n);
  // dx = dy gamma; dgamma += dy x unless it is null
  void (*channel_scale)(const T* x, const A* gamma, const T* dy, T* dx, A* dgamma, index_t n);
};
template <class A>
struct accum_entries {
  void (*negative_exp)(const A* x, A* y, index_t n);
  void (*add_product)(const A* a, const A* b, A* y, index_t n);  // y += a b
};

}  // namespace mlmamba::backend::simd
