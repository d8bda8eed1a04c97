// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// One AdamW update of one array of weights.
#pragma once

#include "mlmamba/core/check.hpp"
#include "mlmamba/core/context.hpp"

namespace mlmamba::ops {

/// AdamW, decoupled weight decay, bias correction.
///
///   g = grad_scale grad
///   m = beta1 m + (1 - beta1) g;   v = beta2 v + (1 - beta2) g^2
///   w = w - learning_rate (weight_decay w + (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) +
///   epsilon))
///
/// Shapes    all (n)
/// Numerics  in accum; w is `master` if given (weight is then its rounded copy), else weight itself
/// Units     learning_rate per step; step counts from 1
/// Source    Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2
template <engine E, class W = typename E::value>
struct adamw {
  static constexpr const char* name = "adamw";
  view<W, 1, typename E::memory> weight{};
  out_accum<E, 1> master{};  // or empty
  in_accum<E, 1> grad{};
  out_accum<E, 1> m{}, v{};
  double learning_rate = 1e-3, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0;
  double grad_scale = 1;
  index_t step = 1;

  void check() const {
    check::given(name, "weight", weight);
    check::size_if_given(name, "master", master, weight.shape());
    check::size(name, "grad", grad, weight.shape());
    check::size(name, "m", m, weight.shape());
    check::size(name, "v", v, weight.shape());
    check::unit_stride(name, "weight", weight);
    check::unit_stride(name, "master", master);
    check::unit_stride(name, "grad", grad);
    check::unit_stride(name, "m", m);
    check::unit_stride(name, "v", v);
    check::that(step >= 1, name, "step is " + std::to_string(step) + "; wanted is at least 1");
  }
  double flops() const { return 14.0 * double(weight.count()); }
  double bytes() const {
    return 2.0 * check::total_bytes(weight, master, m, v) + check::bytes(grad);
  }
};

}  // namespace mlmamba::ops
