// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Entries of the table for the selective scan: channels in lanes, tokens in order.
#pragma once

#include "mlmamba/core/engine.hpp"

namespace mlmamba::backend::simd {

/// Some channels of one group of one row of the batch. Pointers are at the first of the channels.
template <class T>
struct scan_channels {
  using A = accum_t<T>;
  index_t length, states, channels;
  const T *x, *dt, *z, *B, *C;  // z may be null
  index_t x_row, dt_row, z_row, B_row, C_row;
  const A *rate, *initial;  // (channels, states), rows apart; initial may be null
  index_t rate_row, initial_row;
  const A *D, *dt_bias;  // may be null
  index_t D_stride, dt_bias_stride;
  const index_t* starts;  // the token at which the sequence of each token starts, or null
  bool softplus;
};

template <class T>
struct scan_forward_task {
  using A = accum_t<T>;
  scan_channels<T> in;
  T* y;
  index_t y_row;
  A* last;  // (channels, states) or null
  index_t last_row;
  A* scratch;
};

template <class T>
struct scan_backward_task {
  using A = accum_t<T>;
  scan_channels<T> in;
  const T* dy;
  T *dx, *ddt, *dz;
  index_t dy_row, dx_row, ddt_row, dz_row;
  const A* dlast;  // or null
  A* dinitial;     // or null
  index_t dlast_row, dinitial_row;
  A *dB, *dC;                // (length, states): sums over these channels
  A *drate, *dD, *ddt_bias;  // (channels, states), (channels), (channels): sums over the tokens
  A* scratch;
};

template <class T, class State = accum_t<T>>
struct scan_step_task {
  scan_channels<T> in;  // length 1; without the rows of tokens
  State* state;         // (channels, states), in place
  index_t state_row;
  T* y;
};

template <class T>
struct scan_entries {
  index_t (*scratch)(index_t states, index_t channels);
  void (*forward)(const scan_forward_task<T>&);
};
template <class T>
struct scan_backward_entries {
  index_t (*scratch)(index_t length, index_t states, index_t channels);
  void (*backward)(const scan_backward_task<T>&);
};
template <class T, class State = accum_t<T>>
struct scan_step_entries {
  void (*step)(const scan_step_task<T, State>&);
};

}  // namespace mlmamba::backend::simd
