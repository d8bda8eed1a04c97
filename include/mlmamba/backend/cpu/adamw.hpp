// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// AdamW on the CPU: runs of weights per task.
#pragma once

#include <cmath>

#include "mlmamba/backend/cpu/simd/dispatch.hpp"
#include "mlmamba/backend/cpu/workers.hpp"
#include "mlmamba/ops/adamw.hpp"

namespace mlmamba::backend {

template <class Isa, class E, class W>
void execute(context<cpu_for<Isa>>& ctx, const ops::adamw<E, W>& op) {
  using A = typename E::accum;
  const auto kernel = simd::cpu_kernels<simd::adamw_entries<W>>().update;
  const simd::adamw_constants<A> c{
      .grad_scale = A(op.grad_scale),
      .beta1 = A(op.beta1),
      .rest1 = A(1 - op.beta1),
      .beta2 = A(op.beta2),
      .rest2 = A(1 - op.beta2),
      .correction1 = A(1 - std::pow(op.beta1, double(op.step))),
      .correction2 = A(1 - std::pow(op.beta2, double(op.step))),
      .epsilon = A(op.epsilon),
      .learning_rate = A(op.learning_rate),
      .weight_decay = A(op.weight_decay),
  };
  detail::for_each_run(ctx, op.weight.size[0], 8192, [&](index_t from, index_t to) {
    kernel(c, op.weight.data + from, op.master ? op.master.data + from : nullptr,
           op.grad.data + from, op.m.data + from, op.v.data + from, to - from);
  });
}

}  // namespace mlmamba::backend
