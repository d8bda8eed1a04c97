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
  void (*activate_backward)(activation a, const T* x, const T* dy, T* dx, index_t n);
  void (*gated)(activation a, const T* gate, const T* up, T* y, index_t n);
  void (*gated_backward)(activation a, const T* gate, const T* up, const T* dy, T* dgate, T* dup,
                         index_t n);
  void (*channel_scale)(const T* x, const A* gamma, const T* residual, T* y, index_t n);
  // dx = dy gamma; dgamma += dy x unless it is null
  void (*channel_scale_backward)(const T* x, const A* gamma, const T* dy, T* dx, A* dgamma,
                                 index_t n);
  void (*add)(const T* a, const T* b, T* y, A scale, index_t n);
  void (*add_accum)(const T* a, const A* b, T* y, A scale, index_t n);
  void (*accum_add)(const A* a, const T* b, A* y, A scale, index_t n);
  void (*from_accum)(const A* x, T* y, index_t n);
  void (*to_accum)(const T* x, A* y, index_t n);
};
template <class A>
struct accum_entries {
  void (*negative_exp)(const A* x, A* y, index_t n);
  void (*add_product)(const A* a, const A* b, A* y, index_t n);  // y += a b
};

struct elementwise_kernels {
  elementwise_entries<float> f32;
  elementwise_entries<bf16> b16;
  elementwise_entries<double> f64;
  accum_entries<float> accum_f32;
  accum_entries<double> accum_f64;

  template <class T>
  const elementwise_entries<T>& of() const {
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
  const accum_entries<A>& accum() const {
    if constexpr (std::is_same_v<A, float>) {
      return accum_f32;
    } else {
      return accum_f64;
    }
  }
};

}  // namespace mlmamba::backend::simd
