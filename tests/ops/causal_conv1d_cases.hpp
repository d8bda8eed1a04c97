// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Causal convolutions as op cases.
#pragma once

#include "mlmamba/ops/causal_conv1d.hpp"
#include "mlmamba/verify/op_case.hpp"
#include "ops/sequences.hpp"

namespace mlmamba::verify {

struct conv_options {
  index_t batch = 2, length = 7, channels = 5, width = 4;
  bool bias = true, initial = false, final = false, fused = false, token_major_states = false;
  sequences seq = sequences::one;
  activation act = activation::silu;
  index_t period = 3, first = 0;
};

/// fused: x is a slice of a wider array, at an odd offset, and so is its gradient.
/// token_major_states: the states are transposed views of (B, W - 1, D).
template <engine E>
struct conv_case {
  using engine_type = E;
  using A = typename E::accum;
  using memory = typename E::memory;
  conv_options o;
  tensor_of<E, 3> x, dx, y, dy, initial, dinitial, last, dlast;
  tensor<A, 2, memory> weight, dweight;
  tensor<A, 1, memory> bias, dbias;
  tensor<std::int32_t, 2, memory> seq_idx;

  explicit conv_case(conv_options o)
      : o(o),
        x({o.batch, o.length, o.channels + (o.fused ? 3 : 0)}),
        dx(x.shape()),
        y({o.batch, o.length, o.channels}),
        dy(y.shape()),
        weight({o.channels, o.width}),
        dweight({o.channels, o.width}),
        seq_idx(make_sequences<memory>(o.seq, o.batch, o.length, o.period, o.first)) {
    const shape<3> state = o.token_major_states ? shape<3>{{o.batch, o.width - 1, o.channels}}
                                                : shape<3>{{o.batch, o.channels, o.width - 1}};
    if (o.bias)
      bias = tensor<A, 1, memory>({o.channels}), dbias = tensor<A, 1, memory>({o.channels});
    if (o.initial) initial = tensor_of<E, 3>(state), dinitial = tensor_of<E, 3>(state);
    if (o.final) last = tensor_of<E, 3>(state), dlast = tensor_of<E, 3>(state);
  }
  static void inputs(auto& s, auto&& f) {
    f("x", s.x, s.dx);
    f("weight", s.weight, s.dweight);
    f("bias", s.bias, s.dbias);
    f("initial_states", s.initial, s.dinitial);
  }
  static void outputs(auto& s, auto&& f) {
    f("y", s.y, s.dy);
    f("final_states", s.last, s.dlast);
  }
  /// The slice of x (or dx) that the op sees, and a state as (B, D, W - 1).
  auto part(auto& t) { return t.view().slice(2, o.fused ? 1 : 0, o.channels); }
  auto state(auto& t) { return o.token_major_states && t ? t.view().transposed(1, 2) : t.view(); }
  void forward(context_of<E>& ctx) {
    run(ctx, ops::causal_conv1d<E>{.x = part(x),
                                   .weight = weight,
                                   .bias = bias,
                                   .initial_states = state(initial),
                                   .seq_idx = seq_idx,
                                   .y = y,
                                   .final_states = state(last),
                                   .activation = o.act});
  }
  void backward(context_of<E>& ctx) {
    run(ctx, ops::causal_conv1d_backward<E>{.x = part(x),
                                            .weight = weight,
                                            .bias = bias,
                                            .initial_states = state(initial),
                                            .seq_idx = seq_idx,
                                            .dy = dy,
                                            .dfinal_states = state(dlast),
                                            .dx = part(dx),
                                            .dweight = dweight,
                                            .dbias = dbias,
                                            .dinitial_states = state(dinitial),
                                            .activation = o.act});
  }
  double terms() const { return double(o.batch * o.length + o.width); }
};

/// One token: the state moves from initial to final.
template <engine E>
struct conv_step_case : conv_case<E> {
  explicit conv_step_case(conv_options o) : conv_case<E>(one_token(o)) {}
  void forward(context_of<E>& ctx) {
    this->last = this->initial;
    run(ctx, ops::causal_conv1d_step<E>{.x = in<E, 3>(this->part(this->x)).select(1, 0),
                                        .state = this->state(this->last),
                                        .weight = this->weight,
                                        .bias = this->bias,
                                        .y = this->y.view().select(1, 0),
                                        .activation = this->o.act});
  }
  void backward(context_of<E>&) = delete;

 private:
  static conv_options one_token(conv_options o) {
    o.length = 1, o.initial = o.final = true, o.seq = sequences::one;
    return o;
  }
};

}  // namespace mlmamba::verify
