// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The Mamba-1 mixer: projection, convolution, input-dependent step and maps, selective scan.
#pragma once

#include <array>

#include "mlmamba/nn/causal_conv.hpp"
#include "mlmamba/nn/linear.hpp"
#include "mlmamba/nn/mixer_config.hpp"
#include "mlmamba/ops/norm.hpp"
#include "mlmamba/ops/selective_scan.hpp"

namespace mlmamba::nn {

/// The first problem of a Mamba-1 mixer's sizes, or null. Options of Mamba-2 that it has not are
/// refused, but for headdim and rmsnorm, whose defaults are set.
constexpr const char* problem_with_mamba1(const mixer_config& c) {
  if (c.d_model < 1 || c.expand < 1) return "d_model and expand must be at least 1";
  if (c.d_state < 1) return "d_state must be at least 1";
  if (c.d_conv < 2 || c.d_conv > 8) return "d_conv must be 2 to 8";
  if (c.dt_rank < 0) return "dt_rank must be 0 (automatic) or more";
  if (c.ngroups != 1 || c.d_ssm != 0 || c.D_has_hdim || c.norm_before_gate)
    return "ngroups, d_ssm, D_has_hdim and norm_before_gate are options of Mamba-2";
  if (c.dt_limit_low > 0 || c.dt_limit_high < std::numeric_limits<double>::infinity())
    return "dt limits are options of Mamba-2";
  if (!(c.scan_norm_epsilon >= 0) || c.scan_norm_epsilon > 1)
    return "scan_norm_epsilon must be 0 to 1";
  return nullptr;
}

/// The recurrent state of a Mamba-1 mixer: the convolution's window and the scan's state.
template <engine E>
struct selective_scan_state {
  tensor_of<E, 3> conv;                                  // (B, W - 1, D), oldest first
  tensor<typename E::state, 3, typename E::memory> ssm;  // (B, D, N)

  selective_scan_state() = default;
  selective_scan_state(index_t batch, const mixer_config& c)
      : conv({batch, c.d_conv - 1, c.d_inner()}), ssm({batch, c.d_inner(), c.d_state}) {}
  static void fields(auto& self, auto&& f) { f("conv", self.conv), f("ssm", self.ssm); }
  out<E, 3> window() { return conv.view().transposed(1, 2); }  // (B, D, W - 1)
};

/// Mamba-1 mixer.
///
///   (x, z)    = in_proj(u)
///   c         = silu(conv1d(x))
///   (r, B, C) = x_proj(c)                                each RMS-normalised if scan_norms
///   y         = selective_scan(c, dt_proj(r), -exp(A_log), B, C, D) silu(z)
///   out       = out_proj(y)
///
/// Shapes    u, out (B, L, d_model); x, z, c, y (B, L, D); r (B, L, dt_rank); B, C (B, L, N)
/// Layout    x, z, r, B and C are slices of projections: nothing is copied
/// Numerics  steps and decays in accum; the scan's state in state, the convolution's window in
/// value.
///           dt_proj's bias is added inside the scan, in accum
/// Names     in_proj.weight, conv1d.{weight,bias}, x_proj.weight, dt_proj.{weight,bias}, A_log, D,
///           out_proj.weight
/// Source    Gu and Dao 2023, arXiv:2312.00752, section 3.4; names of state-spaces/mamba.
///           scan_norms: Zuo et al. 2024, arXiv:2410.05355, section 2.2 (FalconMamba)
template <class E>  // not `engine E`: nvcc 13.0 refuses that as an argument of mamba_lm
struct mamba1 {
  static_assert(engine<E>);
  using engine_type = E;
  using config_type = mixer_config;
  using state = selective_scan_state<E>;
  static constexpr const char* problem(const mixer_config& c) { return problem_with_mamba1(c); }

  linear<E> in_proj;
  conv1d_weights<E> conv1d;
  linear<E> x_proj, dt_proj;
  parameter<E, 2, typename E::accum> A_log;  // (D, N)
  parameter<E, 1> D;                         // (D)
  linear<E> out_proj;
  mixer_config config;

  explicit mamba1(const mixer_config& c)
      : in_proj(checked(c).d_model, 2 * c.d_inner(), c.bias),
        conv1d(c.d_inner(), c.d_conv, c.conv_bias, c.conv_init),
        x_proj(c.d_inner(), c.rank() + 2 * c.d_state, false),
        dt_proj(c.rank(), c.d_inner()),
        A_log({c.d_inner(), c.d_state}),
        D({c.d_inner()}),
        out_proj(c.d_inner(), c.d_model, c.bias),
        config(c) {
    x_proj.keep_wide(x_proj.d_out()), dt_proj.keep_wide(dt_proj.d_out());
  }
  static void fields(auto& self, auto&& f) {
    f("in_proj", self.in_proj), f("conv1d", self.conv1d), f("x_proj", self.x_proj);
    f("dt_proj", self.dt_proj), f("A_log", self.A_log), f("D", self.D);
    f("out_proj", self.out_proj);
  }
  static void initialise(auto& self, random_stream r) {
    const mixer_config& c = self.config;
    nn::initialise(self.in_proj, r.fork("in_proj"));
    nn::initialise(self.conv1d, r.fork("conv1d"));
    nn::initialise(self.x_proj, r.fork("x_proj"));
    nn::initialise(self.out_proj, r.fork("out_proj"));
    nn::initialise(self.dt_proj, r.fork("dt_proj"));  // the weight: within 1 / sqrt(dt_rank)
    random_stream dt = r.fork("dt_bias");
    fill(self.dt_proj.bias, [&] { return detail::sample_dt_bias(c, dt); });
    index_t i = 0;
    fill(self.A_log, [&] { return std::log(double(i++ % c.d_state + 1)); });
    fill(self.D, [] { return 1.0; });
  }

  struct saved {
    typename linear<E>::saved in_proj, x_proj, out_proj;
    in<E, 3> projected;   // (B, L, 2 D): x, z
    in<E, 3> convolved;   // (B, L, D)
    in<E, 3> low, ready;  // (B, L, dt_rank + 2 N): r, B, C as x_proj gave them, and as used
    std::array<in_accum<E, 1>, 3> rstd;  // of r, B and C, if they are normalised
    in<E, 3> dt;                         // (B, L, D), before bias and softplus
    in_accum<E, 2> rate;                 // -exp(A_log)
  };

  state make_state(index_t batch) const { return state(batch, config); }

  out<E, 3> forward(context_of<E>& ctx, in<E, 3> u, saved& s) const {
    return whole(ctx, u, s, nullptr);
  }
  /// `into`: where y goes; empty: scratch.
  out<E, 3> prefill(context_of<E>& ctx, in<E, 3> u, state& st, out<E, 3> into = {}) const {
    saved s;
    return whole(ctx, u, s, &st, into);
  }

  out<E, 3> step(context_of<E>& ctx, in<E, 3> u, state& st) const {
    const index_t d = config.d_inner(), n = config.d_state, k = config.rank();
    saved s;
    s.projected = in_proj.forward(ctx, u, s.in_proj);
    out<E, 3> c = ctx.template make<E, 3>({{u.size[0], 1, d}});
    run(ctx, ops::causal_conv1d_step<E>{.x = s.projected.slice(2, 0, d).select(1, 0),
                                        .state = st.window(),
                                        .weight = conv1d.matrix(),
                                        .bias = conv1d.bias.value,
                                        .y = c.select(1, 0)});
    s.convolved = c;
    prepare(ctx, s);
    out<E, 3> y = ctx.template make<E, 3>({{u.size[0], 1, d}});
    const in<E, 2> ready = s.ready.select(1, 0);
    run(ctx, ops::selective_scan_step<E>{.state = st.ssm,
                                         .x = s.convolved.select(1, 0),
                                         .dt = s.dt.select(1, 0),
                                         .A = s.rate,
                                         .B = ready.slice(1, k, n).split(1, n),
                                         .C = ready.slice(1, k + n, n).split(1, n),
                                         .D = D.value,
                                         .z = s.projected.slice(2, d, d).select(1, 0),
                                         .dt_bias = dt_proj.bias.value,
                                         .y = y.select(1, 0),
                                         .dt_softplus = true});
    return out_proj.forward(ctx, y, s.out_proj);
  }

  out<E, 3> backward(context_of<E>& ctx, in<E, 3> dout, const saved& s) {
    const index_t d = config.d_inner(), k = config.rank();
    out<E, 3> du = ctx.template make<E, 3>(dout.shape());
    auto frame = ctx.scratch.make_frame();
    const out<E, 3> dy = out_proj.backward(ctx, dout, s.out_proj);
    out<E, 3> dp = ctx.template make<E, 3>(s.projected.shape());
    out<E, 3> dc = ctx.template make<E, 3>(s.convolved.shape());
    out<E, 3> ddt = ctx.template make<E, 3>(s.dt.shape());
    out<E, 3> dready = ctx.template make<E, 3>(s.ready.shape());
    out_accum<E, 2> drate;
    if (A_log.grad) {
      drate = ctx.template make_accum<E, 2>(A_log.value.shape());
      run(ctx, ops::fill<E>{.y = drate.flat()});
    }
    ops::selective_scan_backward<E> op;
    set_inputs(op, s);
    op.dy = dy;
    op.dx = dc, op.ddt = ddt, op.dA = drate;
    op.dB = map(dready, 0), op.dC = map(dready, 1);
    op.dD = D.grad;
    op.dz = dp.slice(2, d, d);
    op.ddt_bias = dt_proj.bias.grad;
    run(ctx, op);
    if (drate)
      run(ctx, ops::negative_exp_backward<E>{
                   .y = s.rate.flat(), .dy = drate.flat(), .dx = A_log.grad.view().flat()});
    // dt = r dt_proj.weight^T
    if (dt_proj.weight.grad)
      run(ctx, ops::gemm<E, typename E::accum>{.x = rows(ddt).transposed(),
                                               .w = rows(s.ready.slice(2, 0, k)).transposed(),
                                               .y = dt_proj.weight.grad,
                                               .accumulate = true});
    run(ctx, ops::gemm<E, typename E::value, typename E::weight>{
                 .x = rows(ddt),
                 .w = in_weight<E, 2>(dt_proj.weight.value.view()).transposed(),
                 .y = rows(dready.slice(2, 0, k))});
    const out<E, 3> dlow = normalise_backward(ctx, dready, s);
    add_to(ctx, dc, x_proj.backward(ctx, dlow, s.x_proj));
    run(ctx, ops::causal_conv1d_backward<E>{.x = s.projected.slice(2, 0, d),
                                            .weight = conv1d.matrix(),
                                            .bias = conv1d.bias.value,
                                            .dy = dc,
                                            .dx = dp.slice(2, 0, d),
                                            .dweight = conv1d.matrix_grad(),
                                            .dbias = conv1d.bias.grad});
    in_proj.backward_into(ctx, dp, s.in_proj, du);
    return du;
  }

 private:
  static const mixer_config& checked(const mixer_config& c) {
    if (const char* p = problem(c)) fail<shape_error>("mamba1: ", p);
    return c;
  }

  out<E, 3> whole(context_of<E>& ctx, in<E, 3> u, saved& s, state* st, out<E, 3> into = {}) const {
    const index_t d = config.d_inner();
    s.projected = in_proj.forward(ctx, u, s.in_proj);
    out<E, 3> c = ctx.template make<E, 3>({{u.size[0], u.size[1], d}});
    ops::causal_conv1d<E> conv{.x = s.projected.slice(2, 0, d),
                               .weight = conv1d.matrix(),
                               .bias = conv1d.bias.value,
                               .y = c};
    if (st) conv.initial_states = st->window(), conv.final_states = st->window();
    run(ctx, conv);
    s.convolved = c;
    prepare(ctx, s);
    out<E, 3> y = ctx.template make<E, 3>(c.shape());
    ops::selective_scan<E> op;
    set_inputs(op, s);
    op.y = y;
    if (st) op.initial_states = st->ssm, op.final_states = st->ssm;
    run(ctx, op);
    return out_proj.forward(ctx, y, s.out_proj, into);
  }

  /// Step, maps and rates of the scan from the convolution's result.
  void prepare(context_of<E>& ctx, saved& s) const {
    s.low = x_proj.forward(ctx, s.convolved, s.x_proj);
    s.ready = s.low;
    if (config.scan_norms) {
      const out<E, 3> ready = like(ctx, s.low);
      for (int i = 0; i < 3; ++i) {
        const out_accum<E, 1> rstd =
            ctx.template make_accum<E, 1>({{s.low.size[0] * s.low.size[1]}});
        run(ctx, ops::rms_norm<E>{.x = rows(part(s.low, i)),
                                  .y = rows(part(ready, i)),
                                  .rstd = rstd,
                                  .epsilon = typename E::real(config.scan_norm_epsilon)});
        s.rstd[std::size_t(i)] = rstd;
      }
      s.ready = ready;
    }
    const out<E, 3> dt = ctx.template make<E, 3>(s.convolved.shape());
    multiply<E>(ctx, rows(part(s.ready, 0)), dt_proj.weight, rows(dt));
    s.dt = dt;
    const out_accum<E, 2> rate = ctx.template make_accum<E, 2>(A_log.value.shape());
    run(ctx,
        ops::negative_exp<E>{.x = in_accum<E, 2>(A_log.value.view()).flat(), .y = rate.flat()});
    s.rate = rate;
  }
  /// From the gradient of r, B and C as used to that of x_proj's result.
  out<E, 3> normalise_backward(context_of<E>& ctx, out<E, 3> dready, const saved& s) const {
    if (!config.scan_norms) return dready;
    const out<E, 3> dlow = like(ctx, dready);
    for (int i = 0; i < 3; ++i)
      run(ctx, ops::rms_norm_backward<E>{.x = rows(part(s.low, i)),
                                         .rstd = s.rstd[std::size_t(i)],
                                         .dy = rows(part(in<E, 3>(dready), i)),
                                         .dx = rows(part(dlow, i))});
    return dlow;
  }
  /// r (0), B (1) or C (2) of (B, L, dt_rank + 2 N).
  template <class V>
  V part(const V& v, int which) const {
    const index_t k = config.rank(), n = config.d_state;
    return which == 0 ? v.slice(2, 0, k) : v.slice(2, k + (which - 1) * n, n);
  }
  /// B (0) or C (1) -> (B, L, 1, N)
  template <class V>
  auto map(const V& v, int which) const {
    return part(v, which + 1).split(2, config.d_state);
  }
  template <class Op>
  void set_inputs(Op& op, const saved& s) const {
    const index_t d = config.d_inner();
    op.x = s.convolved;
    op.dt = s.dt;
    op.A = s.rate;
    op.B = map(s.ready, 0), op.C = map(s.ready, 1);
    op.D = D.value;
    op.z = s.projected.slice(2, d, d);
    op.dt_bias = dt_proj.bias.value;
    op.dt_softplus = true;
  }
};

}  // namespace mlmamba::nn
