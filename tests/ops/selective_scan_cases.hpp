// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Selective scans as op cases.
#pragma once

#include "mlmamba/ops/selective_scan.hpp"
#include "mlmamba/verify/op_case.hpp"
#include "ops/sequences.hpp"

namespace mlmamba::verify {

struct selective_scan_options {
  index_t batch = 2, length = 6, channels = 4, states = 3, groups = 2;
  bool D = false, z = false, dt_bias = false, initial = false, final = false, softplus = true;
  bool large_steps = false;  ///< dt_bias about 20
  bool aligned = false;      ///< slices begin at multiples of 8 (if channels and states are such)
  sequences seq = sequences::one;
  index_t period = 3, first = 0;
  ops::scan_algorithm algorithm = ops::scan_algorithm::automatic;
};

/// x, z, dt, B and C are slices of one fused array, of odd width unless they are to be aligned.
template <engine E>
struct scan_case {
  using engine_type = E;
  using A = typename E::accum;
  using memory = typename E::memory;
  template <int R>
  using wide = tensor<A, R, memory>;
  template <int R>
  using stored = tensor<typename E::state, R, memory>;
  selective_scan_options o;
  index_t width;
  tensor_of<E, 3> fused, dfused, y, dy;
  wide<2> rate, drate;
  wide<1> D, dD, dt_bias, ddt_bias;
  stored<3> initial, last;
  wide<3> dinitial, dlast;
  tensor<std::int32_t, 2, memory> seq_idx;

  explicit scan_case(selective_scan_options o)
      : o(o),
        width((o.z ? 3 : 2) * o.channels + 2 * o.groups * o.states + (o.aligned ? 8 : 1)),
        fused({o.batch, o.length, width}),
        dfused(fused.shape()),
        y({o.batch, o.length, o.channels}),
        dy(y.shape()),
        rate({o.channels, o.states}),
        drate(rate.shape()),
        seq_idx(make_sequences<memory>(o.seq, o.batch, o.length, o.period, o.first)) {
    const shape<3> state{{o.batch, o.channels, o.states}};
    if (o.D) D = wide<1>({o.channels}), dD = wide<1>({o.channels});
    if (o.dt_bias) dt_bias = wide<1>({o.channels}), ddt_bias = wide<1>({o.channels});
    if (o.initial) initial = stored<3>(state), dinitial = wide<3>(state);
    if (o.final) last = stored<3>(state), dlast = wide<3>(state);
  }
  static void inputs(auto& s, auto&& f) {
    f("fused", s.fused, s.dfused);
    f("A", s.rate, s.drate, range::negative);
    f("D", s.D, s.dD);
    f("dt_bias", s.dt_bias, s.ddt_bias, s.o.large_steps ? range::about_20 : range::normal);
    f("initial_states", s.initial, s.dinitial);
  }
  static void outputs(auto& s, auto&& f) {
    f("y", s.y, s.dy);
    f("final_states", s.last, s.dlast);
  }
  struct slices {
    out<E, 3> x, z, dt;
    out<E, 4> B, C;
  };
  slices cut(tensor_of<E, 3>& t) const {
    const index_t shared = o.groups * o.states;
    const auto v = t.view();
    slices s;
    index_t at = o.aligned ? 8 : 1;  // an odd offset: nothing is aligned
    s.x = v.slice(2, at, o.channels), at += o.channels;
    if (o.z) s.z = v.slice(2, at, o.channels), at += o.channels;
    s.dt = v.slice(2, at, o.channels), at += o.channels;
    s.B = v.slice(2, at, shared).split(2, o.states), at += shared;
    s.C = v.slice(2, at, shared).split(2, o.states);
    return s;
  }
  ops::selective_scan<E> as_op() {
    const slices s = cut(fused);
    return {.x = s.x,
            .dt = s.dt,
            .A = rate,
            .B = s.B,
            .C = s.C,
            .D = D,
            .z = s.z,
            .dt_bias = dt_bias,
            .initial_states = initial,
            .seq_idx = seq_idx,
            .y = y,
            .final_states = last,
            .dt_softplus = o.softplus,
            .algorithm = o.algorithm};
  }
  void forward(context_of<E>& ctx) { run(ctx, as_op()); }
  ops::selective_scan_backward<E> as_backward_op() {
    const slices s = cut(fused), d = cut(dfused);
    return {.x = s.x,
            .dt = s.dt,
            .A = rate,
            .B = s.B,
            .C = s.C,
            .D = D,
            .z = s.z,
            .dt_bias = dt_bias,
            .initial_states = initial,
            .seq_idx = seq_idx,
            .dy = dy,
            .dfinal_states = dlast,
            .dx = d.x,
            .ddt = d.dt,
            .dA = drate,
            .dB = d.B,
            .dC = d.C,
            .dD = dD,
            .dz = d.z,
            .ddt_bias = ddt_bias,
            .dinitial_states = dinitial,
            .dt_softplus = o.softplus};
  }
  void backward(context_of<E>& ctx) { run(ctx, as_backward_op()); }
  double terms() const { return double(o.batch * o.length + o.states + o.channels / o.groups); }
};

/// An op token by token, as runtimes without a scan do it; `state` is continued.
template <engine E>
void scan_by_steps(context_of<E>& ctx, const ops::selective_scan<E>& op, out_state<E, 3> state) {
  for (index_t t = 0; t < op.x.size[1]; ++t)
    run(ctx, ops::selective_scan_step<E>{.state = state,
                                         .x = op.x.select(1, t),
                                         .dt = op.dt.select(1, t),
                                         .A = op.A,
                                         .B = op.B.select(1, t),
                                         .C = op.C.select(1, t),
                                         .D = op.D,
                                         .z = op.z ? op.z.select(1, t) : in<E, 2>{},
                                         .dt_bias = op.dt_bias,
                                         .y = op.y.select(1, t),
                                         .dt_softplus = op.dt_softplus});
}

/// One token: the state moves from initial to final.
template <engine E>
struct scan_step_case : scan_case<E> {
  explicit scan_step_case(selective_scan_options o) : scan_case<E>(one_token(o)) {}
  void forward(context_of<E>& ctx) {
    this->last = this->initial;
    scan_by_steps(ctx, this->as_op(), this->last);
  }
  void backward(context_of<E>&) = delete;

 private:
  static selective_scan_options one_token(selective_scan_options o) {
    o.length = 1, o.initial = o.final = true, o.seq = sequences::one;
    return o;
  }
};

}  // namespace mlmamba::verify
