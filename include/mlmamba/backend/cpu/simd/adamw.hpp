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
using adamw_update = void (*)(const adamw_constants<accum_t<W>>& c, W* weight, accum_t<W>* master,
                              const accum_t<W>* grad, accum_t<W>* m, accum_t<W>* v, index_t n);

struct adamw_kernels {
  adamw_update<float> f32;
  adamw_update<bf16> b16;
  adamw_update<double> f64;

  template <class W>
  adamw_update<W> update() const {
    if constexpr (std::is_same_v<W, float>) {
      return f32;
    } else if constexpr (std::is_same_v<W, bf16>) {
      return b16;
    } else {
      static_assert(std::is_same_v<W, double>, "CPU kernels exist for float, bf16 and double");
      return f64;
    }
  }
};

}  // namespace mlmamba::backend::simd
