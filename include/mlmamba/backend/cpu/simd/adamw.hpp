// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Entries of the table for AdamW.
#pragma once

#include "mlmamba/core/engine.hpp"

namespace mlmamba::backend::simd {

/// The numbers of a step; rest1 = 1 - beta1, correction1 = 1 - beta1^step.
template <class A>
struct adamw_constants {
  A grad_scale, beta1, rest1, beta2, rest2, correction1, correction2, epsilon, learning_rate,
      weight_decay;
};

template <class W>
struct adamw_entries {
  using A = accum_t<W>;
  void (*update)(const adamw_constants<A>& c, W* weight, A* master, const A* grad, A* m, A* v,
                 index_t n);
};

}  // namespace mlmamba::backend::simd
