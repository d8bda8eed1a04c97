// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The affine map of rows, with an optional activation.
#pragma once

#include <cmath>

#include "mlmamba/nn/functional.hpp"
#include "mlmamba/nn/product.hpp"
#include "mlmamba/ops/reduce.hpp"

namespace mlmamba::nn {

enum class linear_init {
  torch,   ///< weight and bias uniform within 1 / sqrt(d_in)
  xavier,  ///< weight normal, variance 2 / (d_in + d_out); bias zero
};

/// Affine map: y = activation(x weight^T + bias).
///
/// Shapes    x (B, T, d_in); y (B, T, d_out)
/// Names     weight (d_out, d_in), bias (d_out)
template <engine E>
struct linear {
  using engine_type = E;
  product_weight<E> weight;  // (d_out, d_in)
  parameter<E, 1> bias;      // (d_out) or absent
  mlmamba::activation activation = mlmamba::activation::none;
  linear_init init = linear_init::torch;

  explicit linear(index_t d_in, index_t d_out, bool with_bias = true,
                  mlmamba::activation a = mlmamba::activation::none)
      : weight({d_out, d_in}), activation(a) {
    if (with_bias) bias = parameter<E, 1>({d_out});
  }
  static void fields(auto& self, auto&& f) { f("weight", self.weight), f("bias", self.bias); }
  static void initialise(auto& self, random_stream r) {
    const double in = double(self.d_in()), out = double(self.d_out());
    random_stream w = r.fork("weight"), b = r.fork("bias");
    if (self.init == linear_init::xavier) {
      fill(self.weight, [&] { return std::sqrt(2 / (in + out)) * w.normal(); });
      if (self.bias) fill(self.bias, [] { return 0.0; });
    } else {
      const double bound = in > 0 ? 1 / std::sqrt(in) : 0;
      fill(self.weight, [&] { return w.uniform(-bound, bound); });
      if (self.bias) fill(self.bias, [&] { return b.uniform(-bound, bound); });
    }
  }
  index_t d_in() const { return weight.value.size(1); }
  index_t d_out() const { return weight.value.size(0); }
  /// The last rows give what bears no quantisation, such as steps.
  void keep_wide([[maybe_unused]] index_t last_rows) {
    if constexpr (packs_weights<E>) weight.wide = last_rows;
  }

  struct saved {
    in<E, 2> x;    // rows of the input
    in<E, 2> pre;  // before the activation; absent without one
  };

  /// `into`: where y goes; empty: scratch.
  out<E, 3> forward(context_of<E>& ctx, in<E, 3> x, saved& s, out<E, 3> into = {}) const {
    s.x = rows(x);
    out<E, 3> y = into ? into : ctx.template make<E, 3>({{x.size[0], x.size[1], d_out()}});
    out<E, 2> pre;
    if (activation != mlmamba::activation::none && !packs_weights<E>)
      pre = ctx.template make<E, 2>({{s.x.size[0], d_out()}});
    s.pre = pre;
    multiply<E>(ctx, s.x, weight, rows(y), {bias.value, pre, activation});
    return y;
  }

  out<E, 3> backward(context_of<E>& ctx, in<E, 3> dy, const saved& s) {
    out<E, 3> dx = ctx.template make<E, 3>({{dy.size[0], dy.size[1], d_in()}});
    backward_into(ctx, dy, s, dx);
    return dx;
  }
  /// The same into memory of the caller.
  void backward_into(context_of<E>& ctx, in<E, 3> dy, const saved& s, out<E, 3> dx) {
    auto frame = ctx.scratch.make_frame();
    in<E, 2> d = rows(dy);
    if (s.pre) d = activate_backward(ctx, d, s.pre, activation);
    add_gradients(ctx, d, s);
    run(ctx, ops::gemm<E, typename E::value, typename E::weight>{
                 .x = d, .w = in_weight<E, 2>(weight.value.view()).transposed(), .y = rows(dx)});
  }

  /// The part of the backward that adds to the gradients; for a map whose input needs none.
  void add_gradients(context_of<E>& ctx, in<E, 2> d, const saved& s) {
    if (weight.grad)
      run(ctx,
          ops::gemm<E, typename E::accum>{
              .x = d.transposed(), .w = s.x.transposed(), .y = weight.grad, .accumulate = true});
    if (bias.grad) run(ctx, ops::sum_rows<E>{.x = d, .y = bias.grad});
  }
};

}  // namespace mlmamba::nn
