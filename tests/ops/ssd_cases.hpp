// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// SSD as op cases.
#pragma once

#include "mlmamba/ops/ssd.hpp"
#include "mlmamba/verify/op_case.hpp"
#include "ops/sequences.hpp"

namespace mlmamba::verify {

enum class skip : std::uint8_t { none, per_head, per_channel };

struct ssd_options {
  index_t batch = 2, length = 6, heads = 4, channels = 3, states = 2, groups = 2;
  skip D = skip::none;
  bool z = false, dt_bias = false, initial = false, final = false, softplus = true;
  bool large_steps = false;  ///< dt_bias about 20
  sequences seq = sequences::one;
  double dt_min = 0, dt_max = std::numeric_limits<double>::infinity();
  index_t chunk_size = 0, period = 3, first = 0;
  ops::scan_algorithm algorithm = ops::scan_algorithm::automatic;
};

/// The operands z, x, B, C and dt are slices of one fused projection of odd width, as in the mixer.
template <engine E>
struct ssd_case {
  using engine_type = E;
  using A = typename E::accum;
  using memory = typename E::memory;
  template <int R>
  using wide = tensor<A, R, memory>;
  template <int R>
  using stored = tensor<typename E::state, R, memory>;
  ssd_options o;
  index_t width;
  tensor_of<E, 3> zxbcdt, dzxbcdt;
  tensor_of<E, 4> y, dy;
  wide<1> rate, drate, dt_bias, ddt_bias;
  wide<2> D, dD;
  stored<4> initial, last;
  wide<4> dinitial, dlast;
  tensor<std::int32_t, 2, memory> seq_idx;

  explicit ssd_case(ssd_options o)
      : o(o),
        width((o.z ? 2 : 1) * o.heads * o.channels + 2 * o.groups * o.states + o.heads),
        zxbcdt({o.batch, o.length, width}),
        dzxbcdt(zxbcdt.shape()),
        y({o.batch, o.length, o.heads, o.channels}),
        dy(y.shape()),
        rate({o.heads}),
        drate({o.heads}),
        seq_idx(make_sequences<memory>(o.seq, o.batch, o.length, o.period, o.first)) {
    const shape<4> state{{o.batch, o.heads, o.channels, o.states}};
    if (o.dt_bias) dt_bias = wide<1>({o.heads}), ddt_bias = wide<1>({o.heads});
    if (o.D != skip::none) {
      D = wide<2>({o.heads, o.D == skip::per_head ? 1 : o.channels});
      dD = wide<2>(D.shape());
    }
    if (o.initial) initial = stored<4>(state), dinitial = wide<4>(state);
    if (o.final) last = stored<4>(state), dlast = wide<4>(state);
  }
  static void inputs(auto& s, auto&& f) {
    f("zxbcdt", s.zxbcdt, s.dzxbcdt);
    f("A", s.rate, s.drate, range::negative);
    f("D", s.D, s.dD);
    f("dt_bias", s.dt_bias, s.ddt_bias, s.o.large_steps ? range::about_20 : range::normal);
    f("initial_states", s.initial, s.dinitial);
  }
  static void outputs(auto& s, auto&& f) {
    f("y", s.y, s.dy);
    f("final_states", s.last, s.dlast);
  }
  /// z, x, B, C, dt of the projection or of its gradient.
  struct slices {
    out<E, 4> z, x, B, C;
    out<E, 3> dt;
  };
  slices cut(tensor_of<E, 3>& t) const {
    const index_t inner = o.heads * o.channels, shared = o.groups * o.states;
    const auto v = t.view();
    slices s;
    index_t at = 0;
    if (o.z) s.z = v.slice(2, at, inner).split(2, o.channels), at += inner;
    s.x = v.slice(2, at, inner).split(2, o.channels), at += inner;
    s.B = v.slice(2, at, shared).split(2, o.states), at += shared;
    s.C = v.slice(2, at, shared).split(2, o.states), at += shared;
    s.dt = v.slice(2, at, o.heads);
    return s;
  }
  /// One value per head: stride 0 over the channels.
  out_accum<E, 2> broadcast(wide<2>& t) const {
    auto v = t.view();
    if (o.D == skip::per_head) v.size[1] = o.channels, v.stride[1] = 0;
    return v;
  }
  void set_inputs(ops::ssd_inputs<E>& op) {
    const slices s = cut(zxbcdt);
    op.x = s.x, op.dt = s.dt, op.A = rate, op.B = s.B, op.C = s.C, op.D = broadcast(D);
    op.z = s.z, op.dt_bias = dt_bias, op.initial_states = initial, op.seq_idx = seq_idx;
    using R = typename E::real;
    op.dt_softplus = o.softplus, op.dt_min = R(o.dt_min), op.dt_max = R(o.dt_max);
    op.chunk_size = o.chunk_size;
  }
  ops::ssd<E> as_op() {
    ops::ssd<E> op;
    set_inputs(op);
    op.y = y, op.final_states = last, op.algorithm = o.algorithm;
    return op;
  }
  ops::ssd_backward<E> as_backward_op() {
    ops::ssd_backward<E> op;
    set_inputs(op);
    const slices d = cut(dzxbcdt);
    op.dy = dy, op.dfinal_states = dlast, op.dx = d.x, op.ddt = d.dt, op.dA = drate;
    op.dB = d.B, op.dC = d.C, op.dD = broadcast(dD), op.dz = d.z, op.ddt_bias = ddt_bias;
    op.dinitial_states = dinitial;
    return op;
  }
  void forward(context_of<E>& ctx) { run(ctx, as_op()); }
  void backward(context_of<E>& ctx) { run(ctx, as_backward_op()); }
  double terms() const {
    return double(o.batch * o.length * o.channels + o.states * o.heads / o.groups);
  }
};

/// An op token by token, as runtimes without a scan do it; `state` is continued.
template <engine E>
void ssd_by_steps(context_of<E>& ctx, const ops::ssd<E>& op, out_state<E, 4> state) {
  for (index_t t = 0; t < op.x.size[1]; ++t)
    run(ctx, ops::ssd_step<E>{.state = state,
                              .x = op.x.select(1, t),
                              .dt = op.dt.select(1, t),
                              .A = op.A,
                              .B = op.B.select(1, t),
                              .C = op.C.select(1, t),
                              .D = op.D,
                              .z = op.z ? op.z.select(1, t) : in<E, 3>{},
                              .dt_bias = op.dt_bias,
                              .y = op.y.select(1, t),
                              .dt_softplus = op.dt_softplus,
                              .dt_min = op.dt_min,
                              .dt_max = op.dt_max});
}

/// One token: the state moves from initial to final.
template <engine E>
struct ssd_step_case : ssd_case<E> {
  explicit ssd_step_case(ssd_options o) : ssd_case<E>(one_token(o)) {}
  void forward(context_of<E>& ctx) {
    this->last = this->initial;
    ssd_by_steps(ctx, this->as_op(), this->last);
  }
  void backward(context_of<E>&) = delete;

 private:
  static ssd_options one_token(ssd_options o) {
    o.length = 1, o.initial = o.final = true, o.seq = sequences::one;
    return o;
  }
};

}  // namespace mlmamba::verify
