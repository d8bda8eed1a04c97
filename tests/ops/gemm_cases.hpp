// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Matrix products as op cases.
#pragma once

#include "mlmamba/ops/gemm.hpp"
#include "mlmamba/ops/elementwise.hpp"
#include "mlmamba/ops/reduce.hpp"
#include "mlmamba/verify/op_case.hpp"

namespace mlmamba::verify {

struct gemm_options {
  index_t m = 1, n = 1, k = 1;
  bool bias = false;
  activation act = activation::none;
};

/// y = act(x w^T + bias); the backward is three more products, as nn::linear does it.
template <engine E>
struct gemm_case {
  using engine_type = E;
  gemm_options o;
  tensor_of<E, 2> x, dx, y, dy, v;
  tensor_of<E, 2> w;
  tensor<typename E::accum, 2, typename E::memory> dw;
  tensor<typename E::accum, 1, typename E::memory> bias, dbias;

  explicit gemm_case(gemm_options o)
      : o(o),
        x({o.m, o.k}),
        dx({o.m, o.k}),
        y({o.m, o.n}),
        dy({o.m, o.n}),
        v({o.m, o.n}),
        w({o.n, o.k}),
        dw({o.n, o.k}) {
    if (o.bias) {
      bias = decltype(bias)({o.n});
      dbias = decltype(dbias)({o.n});
    }
  }
  static void inputs(auto& s, auto&& f) {
    f("x", s.x, s.dx);
    f("w", s.w, s.dw);
    f("bias", s.bias, s.dbias);
  }
  static void outputs(auto& s, auto&& f) { f("y", s.y, s.dy); }
  void forward(context_of<E>& ctx) {
    run(ctx, ops::gemm<E>{
                 .x = x, .w = w, .bias = bias, .y = y, .pre_activation = v, .activation = o.act});
  }
  void backward(context_of<E>& ctx) {
    using A = typename E::accum;
    auto frame = ctx.scratch.make_frame();
    out<E, 2> dv = ctx.template make<E, 2>({o.m, o.n});
    run(ctx, ops::activate_backward<E>{.x = v, .dy = dy, .dx = dv, .activation = o.act});
    run(ctx, ops::gemm<E>{.x = dv, .w = in<E, 2>(w.view()).transposed(), .y = dx});
    run(ctx, ops::gemm<E, A>{.x = dv.transposed(),
                             .w = in<E, 2>(x.view()).transposed(),
                             .y = dw,
                             .accumulate = true});
    if (o.bias) run(ctx, ops::sum_rows<E>{.x = dv, .y = dbias});
  }
  double terms() const { return double(std::max({o.m, o.n, o.k})); }
};

}  // namespace mlmamba::verify
