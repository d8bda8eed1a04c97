// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Feed-forward parts: two linear maps, and the gated kinds.
#pragma once

#include "mlmamba/nn/linear.hpp"

namespace mlmamba::nn {

/// y = fc2(activation(fc1(x))).   Names  fc1, fc2, as timm
template <engine E>
struct mlp {
  using engine_type = E;
  linear<E> fc1, fc2;

  explicit mlp(index_t d_in, index_t hidden, index_t d_out,
               mlmamba::activation a = mlmamba::activation::gelu)
      : fc1(d_in, hidden, true, a), fc2(hidden, d_out) {}
  static void fields(auto& self, auto&& f) { f("fc1", self.fc1), f("fc2", self.fc2); }

  struct saved {
    typename linear<E>::saved fc1, fc2;
  };
  out<E, 3> forward(context_of<E>& ctx, in<E, 3> x, saved& s) const {
    return fc2.forward(ctx, fc1.forward(ctx, x, s.fc1), s.fc2);
  }
  out<E, 3> backward(context_of<E>& ctx, in<E, 3> dy, const saved& s) {
    return fc1.backward(ctx, fc2.backward(ctx, dy, s.fc2), s.fc1);
  }
};

/// y = w3(silu(w1 x) (w2 x)), three maps with bias.   Names  w1, w2, w3
template <engine E>
struct swiglu {
  using engine_type = E;
  linear<E> w1, w2, w3;

  explicit swiglu(index_t d_in, index_t hidden, index_t d_out)
      : w1(d_in, hidden), w2(d_in, hidden), w3(hidden, d_out) {}
  static void fields(auto& self, auto&& f) { f("w1", self.w1), f("w2", self.w2), f("w3", self.w3); }

  struct saved {
    typename linear<E>::saved w1, w2, w3;
    in<E, 3> gate, up;
  };
  out<E, 3> forward(context_of<E>& ctx, in<E, 3> x, saved& s) const {
    s.gate = w1.forward(ctx, x, s.w1);
    s.up = w2.forward(ctx, x, s.w2);
    return w3.forward(ctx, silu_mul(ctx, s.gate, s.up), s.w3);
  }
  out<E, 3> backward(context_of<E>& ctx, in<E, 3> dy, const saved& s) {
    auto d = silu_mul_backward(ctx, w3.backward(ctx, dy, s.w3), s.gate, s.up);
    return add(ctx, w1.backward(ctx, d.gate, s.w1), w2.backward(ctx, d.up, s.w2));
  }
};

/// The gated MLP of mamba language models: (y, gate) = fc1(x); out = fc2(y silu(gate)).
///
/// Names     fc1.weight (2 hidden, d), fc2.weight (d, hidden), no biases by default
template <engine E>
struct gated_mlp {
  using engine_type = E;
  linear<E> fc1, fc2;

  /// hidden 0: 8 d / 3. Rounded up to a multiple of 128, as the published models have it.
  explicit gated_mlp(index_t d_model, index_t hidden = 0, bool bias = false)
      : fc1(d_model, 2 * rounded(d_model, hidden), bias),
        fc2(rounded(d_model, hidden), d_model, bias) {}
  static void fields(auto& self, auto&& f) { f("fc1", self.fc1), f("fc2", self.fc2); }
  static index_t rounded(index_t d_model, index_t hidden) {
    if (hidden == 0) hidden = 8 * d_model / 3;
    return (hidden + 127) / 128 * 128;
  }

  struct saved {
    typename linear<E>::saved fc1, fc2;
    in<E, 3> up, gate;  // slices of fc1's result
  };
  out<E, 3> forward(context_of<E>& ctx, in<E, 3> x, saved& s, out<E, 3> into = {}) const {
    const in<E, 3> both = fc1.forward(ctx, x, s.fc1);
    const index_t h = fc2.d_in();
    s.up = both.slice(2, 0, h);
    s.gate = both.slice(2, h, h);
    return fc2.forward(ctx, silu_mul(ctx, s.gate, s.up), s.fc2, into);
  }
  out<E, 3> backward(context_of<E>& ctx, in<E, 3> dy, const saved& s) {
    const index_t h = fc2.d_in();
    out<E, 3> both = ctx.template make<E, 3>({{dy.size[0], dy.size[1], 2 * h}});
    const out<E, 3> d = fc2.backward(ctx, dy, s.fc2);
    run(ctx, ops::gated_backward<E>{.gate = rows(s.gate),
                                    .up = rows(s.up),
                                    .dy = rows(d),
                                    .dgate = rows(both.slice(2, h, h)),
                                    .dup = rows(both.slice(2, 0, h))});
    return fc1.backward(ctx, both, s.fc1);
  }
};

}  // namespace mlmamba::nn
