// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Entries of the table for the causal convolution: channels in lanes.
#pragma once

#include "mlmamba/core/engine.hpp"

namespace mlmamba::backend::simd {

inline constexpr index_t conv_widest = 8;
inline constexpr index_t conv_block = 1024;  // most channels of a backward task

/// Weights, taps outside, and then the bias, 0 without one. Channels are in the order of the lanes
/// and padded to whole pairs of vectors: rows are a multiple of conv_unit long.
template <class A>
struct conv_pack {
  const A* weight;
  index_t weight_stride[2];
  index_t channels, width;
  const A* bias;  // or null
  index_t bias_stride;
  A* to;  // (width + 1, pitch)
  index_t pitch;
};
inline constexpr index_t conv_unit = 64;

/// y = activation(bias + sum of weight rows times x rows, in order) for several tokens. Pointers
/// of x move on by x_row from token to token.
template <class T>
struct conv_rows {
  using A = accum_t<T>;
  index_t tokens, channels, taps;
  const T* x[conv_widest];
  const A* weight[conv_widest];  // packed
  const A* bias;
  T* y;
  index_t x_row, y_row;
  bool silu;
};

/// One row of the batch, at most conv_block channels. Rows of states and sums are `pitch` apart,
/// those of the packed weights `packed_pitch`.
template <class T>
struct conv_backward_task {
  using A = accum_t<T>;
  index_t length, width, channels, pitch, packed_pitch;
  const T *x, *dy, *before, *dlast;  // before, dlast: (width - 1, pitch) or null
  T *dx, *dbefore;                   // dbefore: (width - 1, pitch) or null
  index_t x_row, dy_row, dx_row;
  const A* weight;             // packed: (width + 1, packed_pitch)
  const std::uint8_t* counts;  // bit w of token t: tap w counts; null: all count
  A *dweight, *dbias;          // overwritten
  bool silu;
};

template <class T>
struct conv_entries {
  using A = accum_t<T>;
  void (*pack)(const conv_pack<A>&);
  void (*forward)(const conv_rows<T>&);
};
template <class T>
struct conv_backward_entries {
  void (*backward)(const conv_backward_task<T>&);
};

}  // namespace mlmamba::backend::simd
