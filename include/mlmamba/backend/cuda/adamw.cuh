// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// AdamW on a GPU: one thread per weight.
#pragma once

#include <cmath>

#include "mlmamba/backend/cuda/launch.cuh"
#include "mlmamba/ops/adamw.hpp"

namespace mlmamba::backend {

namespace kernels {

template <class E, class W>
struct adamw_plan {
  static constexpr const char* name = ops::adamw<E, W>::name;
  using R = typename E::real;
  ops::adamw<E, W> op;
  R beta1, rest1, beta2, rest2;  // rest = 1 - beta
  R correction1, correction2;    // 1 - beta^step
  R rate, decay, epsilon, scale;
};

template <class E, class W>
__global__ void adamw_kernel(const adamw_plan<E, W> plan) {
  using A = typename E::accum;
  const auto& op = plan.op;
  const index_t i = thread_index();
  if (i >= op.weight.size[0]) return;
  const A g = op.grad(i) * A(plan.scale);
  const A m = A(plan.beta1) * op.m(i) + A(plan.rest1) * g;
  const A v = A(plan.beta2) * op.v(i) + A(plan.rest2) * g * g;
  A w = op.master ? op.master(i) : A(op.weight(i));
  const A step = m / A(plan.correction1) / (math::sqrt(v / A(plan.correction2)) + A(plan.epsilon));
  w -= A(plan.rate) * (A(plan.decay) * w + step);
  op.m(i) = m;
  op.v(i) = v;
  if (op.master) op.master(i) = w;
  op.weight(i) = W(w);
}

}  // namespace kernels

template <class E, class W>
void execute(context<cuda>& ctx, const ops::adamw<E, W>& op) {
  using R = typename E::real;
  const kernels::adamw_plan<E, W> plan{op,
                                       R(op.beta1),
                                       R(1 - op.beta1),
                                       R(op.beta2),
                                       R(1 - op.beta2),
                                       R(1 - std::pow(op.beta1, double(op.step))),
                                       R(1 - std::pow(op.beta2, double(op.step))),
                                       R(op.learning_rate),
                                       R(op.weight_decay),
                                       R(op.epsilon),
                                       R(op.grad_scale)};
  kernels::launch_elements(ctx, kernels::adamw_kernel<E, W>, op.weight.size[0], plan);
}

}  // namespace mlmamba::backend
