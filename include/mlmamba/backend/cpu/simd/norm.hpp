// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Entries of the table for norms: each works on a run of rows.
#pragma once

#include "mlmamba/core/engine.hpp"

namespace mlmamba::backend::simd {

/// A row or group of n in buffers: whole pairs of vectors on every target.
inline index_t norm_padded(index_t n) { return (n + 63) / 64 * 64; }

/// Rows of RMSNorm and LayerNorm: values T, the normalised array of type X (T or its accum).
/// Strides are between rows; weight, bias, mean and rstd may be null. `buffer` has
/// norm_buffer<X>(width) numbers.
template <class T, class X>
struct norm_rows {
  using A = accum_t<T>;
  const X* x;
  index_t x_stride;
  const A *weight, *bias;
  T* y;
  index_t y_stride;
  A *mean, *rstd;
  A* buffer;
  index_t rows, width;
  A epsilon;
};
/// Weights, and sums for them, in the order of the lanes.
template <class X>
index_t norm_buffer(index_t width) {
  return std::is_same_v<X, bf16> ? 3 * norm_padded(width) : 0;
}
/// dweight and dbias are overwritten; each may be null.
template <class T, class X>
struct norm_backward_rows {
  using A = accum_t<T>;
  const X* x;
  index_t x_stride;
  const A *weight, *mean, *rstd;
  const T* dy;
  index_t dy_stride;
  X* dx;
  index_t dx_stride;
  A *dweight, *dbias, *buffer;
  index_t rows, width;
  bool accumulate;
};
inline index_t gated_norm_buffer(index_t group, index_t width) {
  return (1 + 2 * (width / group)) * norm_padded(group);
}

/// Rows of the gated group RMSNorm. `buffer` has gated_norm_buffer numbers; z, weight, rstd and
/// dweight may be null. dweight is overwritten.
template <class T>
struct gated_norm_rows {
  using A = accum_t<T>;
  const T* x;
  index_t x_stride;
  const T* z;
  index_t z_stride;
  const A* weight;
  T* y;
  index_t y_stride;
  A* rstd;
  index_t rstd_stride;
  A* buffer;
  index_t rows, width, group;
  bool norm_before_gate;
  A epsilon;
};
template <class T>
struct gated_norm_backward_rows {
  using A = accum_t<T>;
  const T* x;
  index_t x_stride;
  const T* z;
  index_t z_stride;
  const A *weight, *rstd;
  index_t rstd_stride;
  const T* dy;
  index_t dy_stride;
  T* dx;
  index_t dx_stride;
  T* dz;
  index_t dz_stride;
  A *dweight, *buffer;
  index_t rows, width, group;
  bool norm_before_gate;
};

template <class T, class X>
struct norm_entries {
  void (*rms)(const norm_rows<T, X>&);
  void (*layer)(const norm_rows<T, X>&);
};
template <class T, class X>
struct norm_backward_entries {
  void (*rms)(const norm_backward_rows<T, X>&);
  void (*layer)(const norm_backward_rows<T, X>&);
};
template <class T>
struct gated_norm_entries {
  void (*forward)(const gated_norm_rows<T>&);
};
template <class T>
struct gated_norm_backward_entries {
  void (*backward)(const gated_norm_backward_rows<T>&);
};
template <class A>
struct add_rows_entries {
  /// y += the sum of `count` rows of x, first to last
  void (*add)(const A* x, index_t count, index_t stride, A* y, index_t n);
};

}  // namespace mlmamba::backend::simd
