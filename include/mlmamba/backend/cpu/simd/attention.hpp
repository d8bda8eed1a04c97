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
  /// Numbers of scratch that the kernels need; they depend on keys and width, and on queries.
  index_t (*forward_scratch)(index_t keys, index_t width);
  index_t (*backward_scratch)(index_t queries, index_t keys, index_t width);
  /// Queries [from, to).
  void (*forward)(const attention_head<T>&, index_t from, index_t to, A* scratch);
  void (*backward)(const attention_backward_head<T>&, A* scratch);
};

struct attention_kernels {
  attention_entries<float> f32;
  attention_entries<bf16> b16;
  attention_entries<double> f64;

  template <class T>
  const attention_entries<T>& of() const {
    if constexpr (std::is_same_v<T, float>) {
      return f32;
    } else if constexpr (std::is_same_v<T, bf16>) {
      return b16;
    } else {
      return f64;
    }
  }
};

}  // namespace mlmamba::backend::simd
