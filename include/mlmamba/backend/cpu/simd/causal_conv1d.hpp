// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Entries of the table for the causal convolution: channels in lanes.
#pragma once

#include "mlmamba/core/engine.hpp"

namespace mlmamba::backend::simd {

inline constexpr index_t conv_widest = 8;

/// y = activation(bias + sum of weight rows times x rows, in order) for several tokens. Pointers
/// of x move on by x_row from token to token.
template <class T>
struct conv_rows {
  using A = accum_t<T>;
  index_t tokens, channels, taps;
  const T* x[conv_widest];
  const A* weight[conv_widest];
  const A* bias;  // or null
  T* y;
  index_t x_row, y_row;
  bool silu;
};

/// One row of the batch, some channels. Rows of weights, states and sums are `pitch` apart.
template <class T>
struct conv_backward_task {
  using A = accum_t<T>;
  index_t length, width, channels, pitch;
  const T *x, *dy, *before, *dlast;  // before, dlast: (width - 1, pitch) or null
  T *dx, *dbefore;                   // dbefore: (width - 1, pitch) or null
  index_t x_row, dy_row, dx_row;
  const A *weight, *bias;      // bias may be null
  const std::uint8_t* counts;  // bit w of token t: tap w counts; null: all count
  A *dweight, *dbias;          // overwritten
  bool silu;
};

template <class T>
struct conv_entries {
  using A = accum_t<T>;
  /// (channels, width) with rows `row` apart and unit stride, as (width, channels).
  void (*pack)(const A* weight, index_t row, index_t channels, index_t width, A* to);
  void (*forward)(const conv_rows<T>&);
};
template <class T>
struct conv_backward_entries {
  void (*backward)(const conv_backward_task<T>&);
};

}  // namespace mlmamba::backend::simd
