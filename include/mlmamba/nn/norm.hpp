// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Norms as modules.
#pragma once

#include "mlmamba/nn/module.hpp"
#include "mlmamba/ops/norm.hpp"

namespace mlmamba::nn {

/// A norm of rows that a mixer has left to whoever adds its output to something: the output is to
/// be multiplied by 1 / sqrt(sum_h squares[b,l,h] / width + epsilon). width 0: nothing was left.
template <engine E>
struct left_norm {
  out_accum<E, 3> squares{};  // (B, L, H); empty: leave nothing
  index_t width = 0;
  typename E::real epsilon = 0;
};

/// What a norm reads: activations, or a residual stream that is kept in accum.
struct narrow {
  template <class E>
  using type = typename E::value;
};
struct wide {
  template <class E>
  using type = typename E::accum;
};

/// RMSNorm with a weight (see ops::rms_norm). Stream says what it reads.
template <engine E, class Stream = narrow>
struct rms_norm {
  using engine_type = E;
  using X = typename Stream::template type<E>;
  using input = view<const X, 3, typename E::memory>;
  parameter<E, 1> weight;  // (D)
  double epsilon;

  explicit rms_norm(index_t d, double eps = 1e-5) : weight({d}), epsilon(eps) {}
  static void fields(auto& self, auto&& f) { f("weight", self.weight); }
  static void initialise(auto& self, random_stream) {
    fill(self.weight, [] { return 1.0; });
  }

  struct saved {
    view<const X, 2, typename E::memory> x;
    in_accum<E, 1> rstd;
  };

  /// `plus`: of x plus a residual branch; of both the gradient is that of their sum.
  out<E, 3> forward(context_of<E>& ctx, input x, saved& s,
                    const ops::residual_sum<E, X>& plus = {}) const {
    out<E, 3> y = ctx.template make<E, 3>(x.shape());
    s.x = plus ? view<const X, 2, typename E::memory>(plus.sum) : rows(x);
    out_accum<E, 1> rstd = ctx.template make_accum<E, 1>({{s.x.size[0]}});
    run(ctx, ops::rms_norm<E, X>{.x = rows(x),
                                 .weight = weight.value,
                                 .y = rows(y),
                                 .rstd = rstd,
                                 .epsilon = typename E::real(epsilon),
                                 .plus = plus});
    s.rstd = rstd;
    return y;
  }
  view<X, 3, typename E::memory> backward(context_of<E>& ctx, in<E, 3> dy, const saved& s) {
    auto dx = ctx.scratch.template make<X>(dy.shape());
    backward_into(ctx, dy, dx, s, false);
    return dx;
  }
  /// Writes dx, or adds to it: the residual path.
  void backward_into(context_of<E>& ctx, in<E, 3> dy, view<X, 3, typename E::memory> dx,
                     const saved& s, bool accumulate) {
    run(ctx, ops::rms_norm_backward<E, X>{.x = s.x,
                                          .weight = weight.value,
                                          .rstd = s.rstd,
                                          .dy = rows(dy),
                                          .dx = rows(dx),
                                          .dweight = weight.grad,
                                          .accumulate = accumulate});
  }
};

/// LayerNorm with weight and bias (see ops::layer_norm).
template <engine E, class Stream = narrow>
struct layer_norm {
  using engine_type = E;
  using X = typename Stream::template type<E>;
  using input = view<const X, 3, typename E::memory>;
  parameter<E, 1> weight, bias;  // (D)
  double epsilon;

  explicit layer_norm(index_t d, double eps = 1e-5) : weight({d}), bias({d}), epsilon(eps) {}
  static void fields(auto& self, auto&& f) { f("weight", self.weight), f("bias", self.bias); }
  static void initialise(auto& self, random_stream) {
    fill(self.weight, [] { return 1.0; });
    fill(self.bias, [] { return 0.0; });
  }

  struct saved {
    view<const X, 2, typename E::memory> x;
    in_accum<E, 1> mean, rstd;
  };

  out<E, 3> forward(context_of<E>& ctx, input x, saved& s,
                    const ops::residual_sum<E, X>& plus = {}) const {
    out<E, 3> y = ctx.template make<E, 3>(x.shape());
    s.x = plus ? view<const X, 2, typename E::memory>(plus.sum) : rows(x);
    out_accum<E, 1> mean = ctx.template make_accum<E, 1>({{s.x.size[0]}});
    out_accum<E, 1> rstd = ctx.template make_accum<E, 1>({{s.x.size[0]}});
    run(ctx, ops::layer_norm<E, X>{.x = rows(x),
                                   .weight = weight.value,
                                   .bias = bias.value,
                                   .y = rows(y),
                                   .mean = mean,
                                   .rstd = rstd,
                                   .epsilon = typename E::real(epsilon),
                                   .plus = plus});
    s.mean = mean, s.rstd = rstd;
    return y;
  }
  view<X, 3, typename E::memory> backward(context_of<E>& ctx, in<E, 3> dy, const saved& s) {
    auto dx = ctx.scratch.template make<X>(dy.shape());
    backward_into(ctx, dy, dx, s, false);
    return dx;
  }
  void backward_into(context_of<E>& ctx, in<E, 3> dy, view<X, 3, typename E::memory> dx,
                     const saved& s, bool accumulate) {
    run(ctx, ops::layer_norm_backward<E, X>{.x = s.x,
                                            .weight = weight.value,
                                            .mean = s.mean,
                                            .rstd = s.rstd,
                                            .dy = rows(dy),
                                            .dx = rows(dx),
                                            .dweight = weight.grad,
                                            .dbias = bias.grad,
                                            .accumulate = accumulate});
  }
};

}  // namespace mlmamba::nn
