// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// An AdamW update as an op case: inputs are what is there before the step.
#pragma once

#include "mlmamba/ops/adamw.hpp"
#include "mlmamba/ops/elementwise.hpp"
#include "mlmamba/verify/op_case.hpp"

namespace mlmamba::verify {

struct adamw_options {
  index_t n = 10;
  bool master = false;
  double weight_decay = 0.1, grad_scale = 1;
  index_t step = 3;
};

template <engine E>
struct adamw_case {
  using engine_type = E;
  using A = typename E::accum;
  using accum_tensor = tensor<A, 1, typename E::memory>;
  adamw_options o;
  tensor_of<E, 1> before, weight, none;
  accum_tensor master_before, master, grad, m_before, v_before, m, v, no_accum;

  explicit adamw_case(adamw_options o)
      : o(o),
        before({o.n}),
        weight({o.n}),
        grad({o.n}),
        m_before({o.n}),
        v_before({o.n}),
        m({o.n}),
        v({o.n}) {
    if (o.master) master_before = accum_tensor({o.n}), master = accum_tensor({o.n});
  }
  static void inputs(auto& s, auto&& f) {
    f("weight", s.before, s.none);
    f("master", s.master_before, s.no_accum);
    f("grad", s.grad, s.no_accum);
    f("m", s.m_before, s.no_accum);
    f("v", s.v_before, s.no_accum, range::positive);
  }
  static void outputs(auto& s, auto&& f) {
    f("weight", s.weight, s.none);
    f("master", s.master, s.no_accum);
    f("m", s.m, s.no_accum);
    f("v", s.v, s.no_accum);
  }
  void forward(context_of<E>& ctx) {
    using B = typename E::backend;
    using V = typename E::value;
    run(ctx, ops::copy<B, V, V, 1>{.x = before, .y = weight});
    if (o.master) run(ctx, ops::copy<B, A, A, 1>{.x = master_before, .y = master});
    run(ctx, ops::copy<B, A, A, 1>{.x = m_before, .y = m});
    run(ctx, ops::copy<B, A, A, 1>{.x = v_before, .y = v});
    run(ctx, ops::adamw<E>{.weight = weight,
                           .master = master,
                           .grad = grad,
                           .m = m,
                           .v = v,
                           .learning_rate = 0.1,
                           .weight_decay = o.weight_decay,
                           .grad_scale = o.grad_scale,
                           .step = o.step});
  }
  double terms() const { return 8; }
};

}  // namespace mlmamba::verify
