// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// One block of a vision transformer on a residual stream that is kept wide.
#pragma once

#include "mlmamba/nn/attention.hpp"
#include "mlmamba/nn/mlp.hpp"
#include "mlmamba/nn/norm.hpp"
#include "mlmamba/ops/elementwise.hpp"

namespace mlmamba::nn {

/// A learned gain per channel; absent in most towers.
template <engine E>
struct layer_scale {
  using engine_type = E;
  parameter<E, 1> gamma;  // (D) or absent

  layer_scale() = default;
  explicit layer_scale(index_t d) : gamma({d}) {}
  static void fields(auto& self, auto&& f) { f("gamma", self.gamma); }
  static void initialise(auto& self, random_stream) {
    if (self.gamma) fill(self.gamma, [] { return 1e-5; });  // as DINOv2 starts
  }
};

struct vit_block_config {
  index_t d_model = 1, heads = 1, mlp_hidden = 4;
  double epsilon = 1e-6;
  mlmamba::activation activation = mlmamba::activation::gelu;
  bool qkv_bias = true, layer_scale = false;
};

/// Pre-norm transformer block.
///
///   u = x + ls1 attn(norm1(x));   y = u + ls2 mlp(norm2(u))
///
/// Shapes    x, y (B, T, D)
/// Numerics  the residual stream x, u, y in accum; the branches in value, their sums in accum
/// Names     norm1, attn, ls1, norm2, mlp, ls2, as timm
template <engine E>
struct vit_block {
  using engine_type = E;
  using A = typename E::accum;
  using V = typename E::value;
  layer_norm<E, wide> norm1;
  attention<E> attn;
  layer_scale<E> ls1;
  layer_norm<E, wide> norm2;
  nn::mlp<E> mlp;
  layer_scale<E> ls2;

  explicit vit_block(const vit_block_config& c)
      : norm1(c.d_model, c.epsilon),
        attn(c.d_model, c.heads, c.qkv_bias),
        norm2(c.d_model, c.epsilon),
        mlp(c.d_model, c.mlp_hidden, c.d_model, c.activation) {
    if (c.layer_scale) ls1 = ls2 = layer_scale<E>(c.d_model);
  }
  static void fields(auto& self, auto&& f) {
    f("norm1", self.norm1), f("attn", self.attn), f("ls1", self.ls1);
    f("norm2", self.norm2), f("mlp", self.mlp), f("ls2", self.ls2);
  }

  struct saved {
    typename layer_norm<E, wide>::saved norm1, norm2;
    typename attention<E>::saved attn;
    typename nn::mlp<E>::saved mlp;
    in<E, 3> a, m;  // what attention and MLP gave, before their scales
  };

  out_accum<E, 3> forward(context_of<E>& ctx, in_accum<E, 3> x, saved& s) const {
    s.a = attn.forward(ctx, norm1.forward(ctx, x, s.norm1), s.attn);
    const out_accum<E, 3> u = like(ctx, x), y = like(ctx, x);
    s.m = mlp.forward(ctx, norm2.forward(ctx, x, s.norm2, plus(s.a, ls1, u)), s.mlp);
    add_branch(ctx, u, s.m, ls2, y);
    return y;
  }

  /// The same in place, without what a backward needs; bit for bit as forward.
  void infer(context_of<E>& ctx, out_accum<E, 3> x) const {
    auto frame = ctx.scratch.make_frame();
    saved s;
    const in<E, 3> a = attn.forward(ctx, norm1.forward(ctx, x, s.norm1), s.attn);
    const in<E, 3> m = mlp.forward(ctx, norm2.forward(ctx, x, s.norm2, plus(a, ls1, x)), s.mlp);
    add_branch(ctx, x, m, ls2, x);
  }

  out_accum<E, 3> backward(context_of<E>& ctx, in_accum<E, 3> dy, const saved& s) {
    const out_accum<E, 3> d = to<A>(ctx, dy);
    auto frame = ctx.scratch.make_frame();
    // y = u + ls2 mlp(norm2(u)): d is dy, and becomes du
    const in<E, 3> dm = mlp.backward(ctx, branch_gradient(ctx, d, s.m, ls2), s.mlp);
    norm2.backward_into(ctx, dm, d, s.norm2, true);
    // u = x + ls1 attn(norm1(x)): d is du, and becomes dx
    const in<E, 3> da = attn.backward(ctx, branch_gradient(ctx, d, s.a, ls1), s.attn);
    norm1.backward_into(ctx, da, d, s.norm1, true);
    return d;
  }

 private:
  static ops::residual_sum<E, A> plus(in<E, 3> branch, const layer_scale<E>& ls,
                                      out_accum<E, 3> sum) {
    return {.branch = rows(branch), .gamma = ls.gamma.value, .sum = rows(sum)};
  }
  /// y = x + ls branch
  static void add_branch(context_of<E>& ctx, in_accum<E, 3> x, in<E, 3> branch,
                         const layer_scale<E>& ls, out_accum<E, 3> y) {
    if (ls.gamma)
      run(ctx, ops::channel_scale<E, A>{
                   .x = rows(branch), .gamma = ls.gamma.value, .residual = rows(x), .y = rows(y)});
    else
      run(ctx, ops::add<E, A, V>{.a = rows(x), .b = rows(branch), .y = rows(y)});
  }
  /// The gradient of what the branch gave, in value.
  static in<E, 3> branch_gradient(context_of<E>& ctx, in_accum<E, 3> dy, in<E, 3> branch,
                                  layer_scale<E>& ls) {
    const out<E, 3> d = to<V>(ctx, dy);
    if (ls.gamma)
      run(ctx, ops::channel_scale_backward<E>{.x = rows(branch),
                                              .gamma = ls.gamma.value,
                                              .dy = rows(d),
                                              .dx = rows(d),
                                              .dgamma = ls.gamma.grad});
    return d;
  }
};

}  // namespace mlmamba::nn
