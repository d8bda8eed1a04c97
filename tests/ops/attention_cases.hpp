// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Attention as op cases.
#pragma once

#include "mlmamba/ops/attention.hpp"
#include "mlmamba/verify/op_case.hpp"

namespace mlmamba::verify {

struct attention_options {
  index_t batch = 2, queries = 5, keys = 5, heads = 2, width = 3;
  bool causal = false;
  bool fused = false;  ///< q, k, v are slices of one projection (keys = queries)
  index_t spare = 0;   ///< columns of that projection behind them, which are nobody's
};

template <engine E>
struct attention_case {
  using engine_type = E;
  using backward_op = ops::attention_backward<E>;
  attention_options o;
  tensor_of<E, 4> q, dq, k, dk, v, dv;  // empty if fused
  tensor_of<E, 3> qkv, dqkv;            // (B, T, 3 H d + spare) if fused
  tensor_of<E, 4> y, dy;
  tensor<typename E::accum, 3, typename E::memory> log_sum_exp;

  explicit attention_case(attention_options o)
      : o(o),
        y({o.batch, o.queries, o.heads, o.width}),
        dy(y.shape()),
        log_sum_exp({o.batch, o.heads, o.queries}) {
    if (o.fused) {
      qkv = tensor_of<E, 3>({o.batch, o.queries, 3 * o.heads * o.width + o.spare});
      dqkv = tensor_of<E, 3>(qkv.shape());
    } else {
      q = tensor_of<E, 4>(y.shape()), dq = tensor_of<E, 4>(y.shape());
      for (auto* t : {&k, &dk, &v, &dv}) *t = tensor_of<E, 4>({o.batch, o.keys, o.heads, o.width});
    }
  }
  static void inputs(auto& s, auto&& f) {
    f("q", s.q, s.dq);
    f("k", s.k, s.dk);
    f("v", s.v, s.dv);
    f("qkv", s.qkv, s.dqkv);
  }
  static void outputs(auto& s, auto&& f) { f("y", s.y, s.dy); }
  void forward(context_of<E>& ctx) {
    run(ctx, ops::attention<E>{.q = pick(q, qkv, 0),
                               .k = pick(k, qkv, 1),
                               .v = pick(v, qkv, 2),
                               .y = y,
                               .log_sum_exp = log_sum_exp,
                               .scale = scale(),
                               .causal = o.causal});
  }
  void backward(context_of<E>& ctx) {
    run(ctx, backward_op{.q = pick(q, qkv, 0),
                         .k = pick(k, qkv, 1),
                         .v = pick(v, qkv, 2),
                         .y = y,
                         .log_sum_exp = log_sum_exp,
                         .dy = dy,
                         .dq = pick(dq, dqkv, 0),
                         .dk = pick(dk, dqkv, 1),
                         .dv = pick(dv, dqkv, 2),
                         .scale = scale(),
                         .causal = o.causal});
  }
  double terms() const { return double(std::max(o.queries, o.keys) * 2 + o.width); }
  typename E::real scale() const {
    return typename E::real(1 / std::sqrt(double(std::max<index_t>(o.width, 1))));
  }

 private:
  out<E, 4> pick(tensor_of<E, 4>& alone, tensor_of<E, 3>& all, index_t which) {
    if (!o.fused) return alone;
    return all.view().slice(2, which * o.heads * o.width, o.heads * o.width).split(2, o.width);
  }
};

}  // namespace mlmamba::verify
