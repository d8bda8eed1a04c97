// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Multi-head self attention with one fused projection, as the vision towers have it.
#pragma once

#include <cmath>

#include "mlmamba/nn/linear.hpp"
#include "mlmamba/ops/attention.hpp"

namespace mlmamba::nn {

/// Self attention of H heads.
///
///   (q, k, v) = qkv(x), each (B, T, H, d);   y = proj(softmax(q k^T / sqrt(d)) v)
///
/// Shapes    x, y (B, T, D), D = H d
/// Layout    q, k and v are slices of the one projection: nothing is copied
/// Names     qkv.weight (3 D, D), its rows ordered (q, k, v) x heads x d; qkv.bias, proj.weight,
///           proj.bias, as timm
template <engine E>
struct attention {
  using engine_type = E;
  linear<E> qkv, proj;
  index_t heads;

  explicit attention(index_t d_model, index_t n_heads, bool qkv_bias = true)
      : qkv(d_model, 3 * d_model, qkv_bias), proj(d_model, d_model), heads(n_heads) {
    if (heads < 1 || d_model % heads != 0)
      fail<shape_error>("attention: ", heads, " heads and width ", d_model,
                        "; wanted is a number of heads that divides the width");
  }
  static void fields(auto& self, auto&& f) { f("qkv", self.qkv), f("proj", self.proj); }

  struct saved {
    typename linear<E>::saved qkv, proj;
    in<E, 3> fused;  // (B, T, 3 D)
    in<E, 3> y;      // (B, T, D), before proj
    in_accum<E, 3> log_sum_exp;
  };

  out<E, 3> forward(context_of<E>& ctx, in<E, 3> x, saved& s) const {
    const index_t b = x.size[0], t = x.size[1], d = x.size[2];
    s.fused = qkv.forward(ctx, x, s.qkv);
    out<E, 3> y = ctx.template make<E, 3>({{b, t, d}});
    out_accum<E, 3> log_sum_exp = ctx.template make_accum<E, 3>({{b, heads, t}});
    run(ctx, ops::attention<E>{.q = part(s.fused, 0),
                               .k = part(s.fused, 1),
                               .v = part(s.fused, 2),
                               .y = split(y),
                               .log_sum_exp = log_sum_exp,
                               .scale = scale()});
    s.y = y;
    s.log_sum_exp = log_sum_exp;
    return proj.forward(ctx, y, s.proj);
  }

  out<E, 3> backward(context_of<E>& ctx, in<E, 3> dy, const saved& s) {
    const in<E, 3> d = proj.backward(ctx, dy, s.proj);
    out<E, 3> dfused = ctx.template make<E, 3>(s.fused.shape());
    run(ctx, ops::attention_backward<E>{.q = part(s.fused, 0),
                                        .k = part(s.fused, 1),
                                        .v = part(s.fused, 2),
                                        .y = split(s.y),
                                        .log_sum_exp = s.log_sum_exp,
                                        .dy = split(d),
                                        .dq = part(dfused, 0),
                                        .dk = part(dfused, 1),
                                        .dv = part(dfused, 2),
                                        .scale = scale()});
    return qkv.backward(ctx, dfused, s.qkv);
  }

 private:
  index_t width() const { return proj.weight.value.size(0); }
  typename E::real scale() const {
    return typename E::real(1 / std::sqrt(double(width() / heads)));
  }
  /// (B, T, D) -> (B, T, H, d)
  template <class V>
  auto split(const V& v) const {
    return v.split(2, width() / heads);
  }
  /// q, k or v of (B, T, 3 D)
  template <class V>
  auto part(const V& v, index_t which) const {
    return split(v.slice(2, which * width(), width()));
  }
};

}  // namespace mlmamba::nn
