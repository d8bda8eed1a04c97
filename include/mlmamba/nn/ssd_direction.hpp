// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What one direction of a Mamba-2 scan owns: convolution, step bias, decay, skip.
#pragma once

#include "mlmamba/nn/causal_conv.hpp"
#include "mlmamba/nn/functional.hpp"
#include "mlmamba/nn/mixer_config.hpp"
#include "mlmamba/ops/mamba2_scan.hpp"
#include "mlmamba/ops/ssd.hpp"

namespace mlmamba::nn {

/// The recurrent state of one direction: the convolution's window and the scan's state.
template <engine E>
struct ssd_state {
  tensor_of<E, 3> conv;                                  // (B, W - 1, conv_dim), oldest first
  tensor<typename E::state, 4, typename E::memory> ssm;  // (B, H, P, N)

  ssd_state() = default;
  ssd_state(index_t batch, const mixer_config& c)
      : conv({batch, c.d_conv - 1, c.conv_dim()}), ssm({batch, c.nheads(), c.headdim, c.d_state}) {}
  static void fields(auto& self, auto&& f) { f("conv", self.conv), f("ssm", self.ssm); }
  out<E, 3> window() { return conv.view().transposed(1, 2); }  // (B, conv_dim, W - 1)
};

/// xBC -> convolution, SiLU -> SSD with its own dt_bias, A and D. Not a module: a part of mixers.
///
/// Shapes    xBC (B, L, conv_dim), dt (B, L, H), y (B, L, d_ssm); z like y, or empty: no gate here
template <engine E>
struct ssd_direction {
  using A = typename E::accum;
  conv1d_weights<E> conv1d;
  parameter<E, 1> dt_bias, A_log, D;  // (H); D (d_ssm) if it has head channels
  mixer_config config;

  explicit ssd_direction(const mixer_config& c)
      : conv1d(c.conv_dim(), c.d_conv, c.conv_bias, c.conv_init),
        dt_bias({c.nheads()}),
        A_log({c.nheads()}),
        D({c.D_has_hdim ? c.scanned() : c.nheads()}),
        config(c) {}

  static void initialise(auto& self, random_stream r) {
    const mixer_config& c = self.config;
    nn::initialise(self.conv1d, r.fork("conv1d"));
    random_stream dt = r.fork("dt_bias"), a = r.fork("A_log");
    fill(self.dt_bias, [&] { return detail::sample_dt_bias(c, dt); });
    fill(self.A_log, [&] { return std::log(a.uniform(c.A_init_low, c.A_init_high)); });
    fill(self.D, [] { return 1.0; });
  }

  struct saved {
    in<E, 3> xBC, dt, z;  // the operands
    in<E, 3> convolved;   // (B, L, conv_dim)
    in_accum<E, 1> rate;  // -exp(A_log)
  };

  /// From the zero state (state null), or continuing `state` and leaving the new one in it.
  out<E, 3> forward(context_of<E>& ctx, in<E, 3> xBC, in<E, 3> dt, in<E, 3> z, saved& s,
                    ssd_state<E>* state = nullptr) const {
    out<E, 3> y = ctx.template make<E, 3>({{xBC.size[0], xBC.size[1], config.scanned()}});
    if (state && !z && scan_onto(ctx, xBC, dt, y, *state)) return y;
    s.xBC = xBC, s.dt = dt, s.z = z;
    s.rate = rate(ctx);
    out<E, 3> convolved = ctx.template make<E, 3>(xBC.shape());
    s.convolved = convolved;
    ops::causal_conv1d<E> conv{
        .x = xBC, .weight = conv1d.matrix(), .bias = conv1d.bias.value, .y = convolved};
    if (state) conv.initial_states = state->window(), conv.final_states = state->window();
    run(ctx, conv);
    ops::ssd<E> op;
    set_inputs(op, s);
    op.y = heads(y);
    if (state) op.initial_states = state->ssm, op.final_states = state->ssm;
    run(ctx, op);
    return y;
  }

  /// Writes dxBC, ddt (and dz if there was a z) into views of the projection's gradient.
  void backward(context_of<E>& ctx, in<E, 3> dy, const saved& s, out<E, 3> dxBC, out<E, 3> ddt,
                out<E, 3> dz) {
    auto frame = ctx.scratch.make_frame();
    out<E, 3> dconvolved = ctx.template make<E, 3>(s.convolved.shape());
    out_accum<E, 1> drate;
    if (A_log.grad) {
      drate = ctx.template make_accum<E, 1>({{config.nheads()}});
      run(ctx, ops::fill<E>{.y = drate});
    }
    ops::ssd_backward<E> op;
    set_inputs(op, s);
    op.dy = heads(dy);
    op.dx = heads(dconvolved.slice(2, 0, config.scanned()));
    op.dB = maps(dconvolved, 0), op.dC = maps(dconvolved, 1);
    op.ddt = ddt;
    op.dA = drate;
    op.ddt_bias = dt_bias.grad;
    if (D.grad) op.dD = skip(D.grad.view());
    if (s.z) op.dz = heads(dz);
    run(ctx, op);
    if (drate) run(ctx, ops::negative_exp_backward<E>{.y = s.rate, .dy = drate, .dx = A_log.grad});
    run(ctx, ops::causal_conv1d_backward<E>{.x = s.xBC,
                                            .weight = conv1d.matrix(),
                                            .bias = conv1d.bias.value,
                                            .dy = dconvolved,
                                            .dx = dxBC,
                                            .dweight = conv1d.matrix_grad(),
                                            .dbias = conv1d.bias.grad});
  }

  /// One token: xBC (B, conv_dim), dt (B, H), z (B, d_ssm) or empty -> (B, d_ssm).
  out<E, 2> step(context_of<E>& ctx, in<E, 2> xBC, in<E, 2> dt, in<E, 2> z,
                 ssd_state<E>& state) const {
    const mixer_config& c = config;
    out<E, 2> v = ctx.template make<E, 2>(xBC.shape());
    run(ctx, ops::causal_conv1d_step<E>{.x = xBC,
                                        .state = state.window(),
                                        .weight = conv1d.matrix(),
                                        .bias = conv1d.bias.value,
                                        .y = v});
    out<E, 2> y = ctx.template make<E, 2>({{xBC.size[0], c.scanned()}});
    const index_t gn = c.ngroups * c.d_state;
    run(ctx, ops::ssd_step<E>{.state = state.ssm,
                              .x = v.slice(1, 0, c.scanned()).split(1, c.headdim),
                              .dt = dt,
                              .A = rate(ctx),
                              .B = v.slice(1, c.scanned(), gn).split(1, c.d_state),
                              .C = v.slice(1, c.scanned() + gn, gn).split(1, c.d_state),
                              .D = skip(in_accum<E, 1>(D.value.view())),
                              .z = z ? z.split(1, c.headdim) : in<E, 3>{},
                              .dt_bias = dt_bias.value,
                              .y = y.split(1, c.headdim),
                              .dt_softplus = true,
                              .dt_min = typename E::real(c.dt_limit_low),
                              .dt_max = typename E::real(c.dt_limit_high)});
    return y;
  }

  /// D as (H, P): one value per head is a view that stands still over p.
  template <class T>
  view<T, 2, typename E::memory> skip(view<T, 1, typename E::memory> d) const {
    const index_t p = config.headdim;
    const shape<2> n{{config.nheads(), p}};
    return {d.data, n, config.D_has_hdim ? shape<2>{{p, 1}} : shape<2>{{1, 0}}};
  }

  /// A gate with the part of its norm that is known before a row is: see ops::mamba2_scan.
  struct gate {
    in<E, 3> z{};
    in_accum<E, 1> weight{};
    out_accum<E, 3> squares{};
  };
  /// Continues the state at once, where the backend would rather do that than its parts. False:
  /// nothing was done.
  bool scan_onto([[maybe_unused]] context_of<E>& ctx, [[maybe_unused]] in<E, 3> xBC,
                 [[maybe_unused]] in<E, 3> dt, [[maybe_unused]] out<E, 3> y,
                 [[maybe_unused]] ssd_state<E>& state, [[maybe_unused]] const gate& g = {}) const {
    if constexpr (requires(const ops::mamba2_scan<E>& op) { prefers(ctx, op); }) {
      const mixer_config& c = config;
      const ops::mamba2_scan<E> op{.xBC = xBC,
                                   .dt = dt,
                                   .window = state.window(),
                                   .conv_weight = conv1d.matrix(),
                                   .conv_bias = conv1d.bias.value,
                                   .state = state.ssm,
                                   .A_log = A_log.value,
                                   .dt_bias = dt_bias.value,
                                   .D = skip(in_accum<E, 1>(D.value.view())),
                                   .z = g.z,
                                   .gate_weight = g.weight,
                                   .squares = g.squares,
                                   .y = y,
                                   .groups = c.ngroups,
                                   .dt_min = typename E::real(c.dt_limit_low),
                                   .dt_max = typename E::real(c.dt_limit_high),
                                   .chunk_size = c.chunk_size};
      if (!prefers(ctx, op)) return false;
      run(ctx, op);
      return true;
    }
    return false;
  }

 private:
  in_accum<E, 1> rate(context_of<E>& ctx) const {
    out_accum<E, 1> r = ctx.template make_accum<E, 1>({{config.nheads()}});
    run(ctx, ops::negative_exp<E>{.x = A_log.value, .y = r});
    return r;
  }
  /// (B, L, d_ssm) -> (B, L, H, P)
  template <class V>
  auto heads(const V& v) const {
    return v.split(2, config.headdim);
  }
  /// B (0) or C (1) of (B, L, conv_dim) -> (B, L, G, N)
  template <class V>
  auto maps(const V& v, index_t which) const {
    const index_t gn = config.ngroups * config.d_state;
    return v.slice(2, config.scanned() + which * gn, gn).split(2, config.d_state);
  }
  void set_inputs(ops::ssd_inputs<E>& op, const saved& s) const {
    op.x = heads(s.convolved.slice(2, 0, config.scanned()));
    op.dt = s.dt;
    op.A = s.rate;
    op.B = maps(s.convolved, 0), op.C = maps(s.convolved, 1);
    op.D = skip(in_accum<E, 1>(D.value.view()));
    if (s.z) op.z = heads(s.z);
    op.dt_bias = dt_bias.value;
    op.dt_softplus = true;
    op.dt_min = typename E::real(config.dt_limit_low);
    op.dt_max = typename E::real(config.dt_limit_high);
    op.chunk_size = config.chunk_size;
  }
};

}  // namespace mlmamba::nn
