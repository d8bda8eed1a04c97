// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Entries of the table for attention: each works on one head of one picture.
#pragma once

#include <algorithm>

#include "mlmamba/core/engine.hpp"

namespace mlmamba::backend::simd {

/// Rows of q, y, dy, dq are queries, those of k, v, dk, dv keys; *_row are the strides between
/// them.
template <class T>
struct attention_head {
  using A = accum_t<T>;
  const T *q, *k, *v;
  index_t q_row, k_row, v_row;
  T* y;
  index_t y_row;
  A* log_sum_exp;  // or null
  index_t log_sum_exp_step;
  index_t queries, keys, width;
  A scale;
  bool causal;
};
template <class T>
struct attention_backward_head {
  using A = accum_t<T>;
  const T *q, *k, *v, *y, *dy;
  index_t q_row, k_row, v_row, y_row, dy_row;
  const A* log_sum_exp;
  index_t log_sum_exp_step;
  T *dq, *dk, *dv;
  index_t dq_row, dk_row, dv_row;
  index_t queries, keys, width;
  A scale;
  bool causal;
};

template <class T>
struct attention_entries {
  using A = accum_t<T>;
  index_t (*scratch)(index_t keys, index_t width);  // numbers that `forward` needs
  /// Queries [from, to).
  void (*forward)(const attention_head<T>&, index_t from, index_t to, A* scratch);
};
template <class T>
struct attention_backward_entries {
  using A = accum_t<T>;
  index_t (*scratch)(index_t queries, index_t keys, index_t width);
  void (*backward)(const attention_backward_head<T>&, A* scratch);
};

}  // namespace mlmamba::backend::simd
