// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The product with a matrix of weights, however the engine keeps it.
#pragma once

#include "mlmamba/nn/module.hpp"
#include "mlmamba/ops/gemm.hpp"
#include "mlmamba/ops/packed_gemm.hpp"

namespace mlmamba::nn {

template <class Y, engine E>
struct product_options {
  in_accum<E, 1> bias{};
  view<Y, 2, typename E::memory> pre_activation{};  // for a backward: not of packed weights
  mlmamba::activation activation = mlmamba::activation::none;
};

/// y = activation(x w^T + bias).
template <engine E, class Y>
void multiply(context_of<E>& ctx, in<E, 2> x, const product_weight<E>& w,
              view<Y, 2, typename E::memory> y, const product_options<Y, E>& o = {}) {
  if constexpr (packs_weights<E>) {
    const auto& parts = w.value.parts();
    if (parts.empty()) fail<error>("linear: its weights have no values yet");
    run(ctx, ops::packed_gemm<E, Y>{.x = x,
                                    .w = parts.data(),
                                    .bias = o.bias,
                                    .y = y,
                                    .activation = o.activation,
                                    .parts = index_t(parts.size())});
  } else {
    run(ctx, ops::gemm<E, Y, typename E::weight>{.x = x,
                                                 .w = w.value,
                                                 .bias = o.bias,
                                                 .y = y,
                                                 .pre_activation = o.pre_activation,
                                                 .activation = o.activation});
  }
}

}  // namespace mlmamba::nn
