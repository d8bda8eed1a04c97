// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The Mamba-2 mixer: projection, convolution, SSD, gated norm, projection.
#pragma once

#include "mlmamba/nn/linear.hpp"
#include "mlmamba/nn/norm.hpp"
#include "mlmamba/nn/ssd_direction.hpp"
#include "mlmamba/ops/mamba2_block_step.hpp"
#include "mlmamba/ops/norm.hpp"

namespace mlmamba::nn {

/// The weight of a gated norm, under its published name.
template <engine E>
struct norm_weight {
  using engine_type = E;
  parameter<E, 1> weight;  // (D) or absent
  static void fields(auto& self, auto&& f) { f("weight", self.weight); }
  static void initialise(auto& self, random_stream) {
    if (self.weight) fill(self.weight, [] { return 1.0; });
  }
};

/// Mamba-2 mixer.
///
///   (z0, x0, z, xBC, dt) = in_proj(u)
///   (x, B, C) = silu(conv1d(xBC))
///   y   = ssd(x, dt, -exp(A_log), B, C, D)                 (gated by z if there is no norm)
///   v   = gated_rms_norm(y, z)                             groups of d_ssm / ngroups channels
///   out = out_proj([silu(z0) x0, v])
///
/// Shapes    u, out (B, L, d_model)
/// Layout    z0, x0, z, xBC and dt are slices of the one projection: nothing is copied
/// Numerics  steps, decays and the scan's state in accum; the convolution's window in value
/// Names     in_proj.weight, conv1d.{weight,bias}, dt_bias, A_log, D, norm.weight, out_proj.weight
/// Source    Dao and Gu 2024, arXiv:2405.21060, section 7; names of state-spaces/mamba
template <class E>  // not `engine E`: as a default argument of mamba_lm nvcc 13.0 refuses it then
struct mamba2 {
  static_assert(engine<E>);
  using engine_type = E;
  using config_type = mixer_config;
  using state = ssd_state<E>;

  linear<E> in_proj;
  ssd_direction<E> scan;
  norm_weight<E> norm;
  linear<E> out_proj;
  mixer_config config;

  explicit mamba2(const mixer_config& c)
      : in_proj(checked(c).d_model, c.d_in_proj(), c.bias),
        scan(c),
        out_proj(c.d_inner(), c.d_model, c.bias),
        config(c) {
    in_proj.keep_wide(c.nheads());  // dt
    if (c.rmsnorm) norm.weight = parameter<E, 1>({c.scanned()});
  }
  static void fields(auto& self, auto&& f) {
    f("in_proj", self.in_proj), f("conv1d", self.scan.conv1d), f("dt_bias", self.scan.dt_bias);
    f("A_log", self.scan.A_log), f("D", self.scan.D), f("norm", self.norm);
    f("out_proj", self.out_proj);
  }
  static void initialise(auto& self, random_stream r) {
    nn::initialise(self.in_proj, r.fork("in_proj"));
    ssd_direction<E>::initialise(self.scan, r);
    nn::initialise(self.norm, r.fork("norm"));
    nn::initialise(self.out_proj, r.fork("out_proj"));
  }

  struct saved {
    typename linear<E>::saved in_proj, out_proj;
    typename ssd_direction<E>::saved scan;
    in<E, 3> projected;   // (B, L, d_in_proj)
    in<E, 3> scanned;     // (B, L, d_ssm), before the norm
    in_accum<E, 2> rstd;  // (B L, G)
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
  /// The same, but the norm's factors may be left to whoever adds y to something: then `left` says
  /// which (a residual_sum has them). left.squares (B, L, H) is where the sums go.
  void prefill(context_of<E>& ctx, in<E, 3> u, state& st, out<E, 3> into,
               left_norm<E>& left) const {
    const mixer_config& c = config;
    const index_t d = c.scanned(), conv = c.conv_dim();
    left.width = 0;
    saved s;
    if (left.squares && norm.weight && c.ngroups == 1 && !c.norm_before_gate && c.d_mlp() == 0 &&
        !c.bias) {
      auto frame = ctx.scratch.make_frame();
      const in<E, 3> p = in_proj.forward(ctx, u, s.in_proj);
      const out<E, 3> v = ctx.template make<E, 3>({{u.size[0], u.size[1], d}});
      if (scan.scan_onto(ctx, p.slice(2, d, conv), p.slice(2, d + conv, c.nheads()), v, st,
                         {p.slice(2, 0, d), norm.weight.value, left.squares})) {
        out_proj.forward(ctx, v, s.out_proj, into);
        left.width = d, left.epsilon = typename E::real(c.norm_epsilon);
        return;
      }
      finish(ctx, p, s, &st, into);
      return;
    }
    whole(ctx, u, s, &st, into);
  }

  out<E, 3> step(context_of<E>& ctx, in<E, 3> u, state& st) const {
    typename linear<E>::saved unused;
    const in<E, 3> p = in_proj.forward(ctx, u, unused);
    auto row = [&](index_t from, index_t n) { return p.slice(2, from, n).select(1, 0); };
    const index_t m = config.d_mlp(), d = config.scanned(), c = config.conv_dim();
    const in<E, 2> z = row(2 * m, d);
    out<E, 2> y = scan.step(ctx, row(2 * m + d, c), row(2 * m + d + c, config.nheads()),
                            norm.weight ? in<E, 2>{} : z, st);
    out<E, 3> v = ctx.template make<E, 3>({{u.size[0], 1, config.d_inner()}});
    combine(ctx, p, y, v, {});
    return out_proj.forward(ctx, v, unused);
  }

  /// r += step(before(r)) at once, where the backend would rather do that than its parts. False:
  /// nothing was done.
  bool step_onto(context_of<E>& ctx, out_accum<E, 3> r, const rms_norm<E, wide>& before,
                 state& st) const {
    using op_type = ops::mamba2_block_step<E>;
    if constexpr (requires(const op_type& op) { prefers(ctx, op); }) {
      const mixer_config& c = config;
      if (c.d_mlp() > 0 || c.bias || !norm.weight || c.norm_before_gate || !scan.D.value)
        return false;
      const op_type op{.residual = rows(r),
                       .norm_weight = before.weight.value,
                       .in_proj = in_proj.weight.value,
                       .window = st.window(),
                       .conv_weight = scan.conv1d.matrix(),
                       .conv_bias = scan.conv1d.bias.value,
                       .state = st.ssm,
                       .A_log = scan.A_log.value,
                       .dt_bias = scan.dt_bias.value,
                       .D = scan.skip(in_accum<E, 1>(scan.D.value.view())),
                       .gate_weight = norm.weight.value,
                       .out_proj = out_proj.weight.value,
                       .groups = c.ngroups,
                       .epsilon = typename E::real(before.epsilon),
                       .gate_epsilon = typename E::real(c.norm_epsilon),
                       .dt_min = typename E::real(c.dt_limit_low),
                       .dt_max = typename E::real(c.dt_limit_high)};
      if (!prefers(ctx, op)) return false;
      run(ctx, op);
      return true;
    } else {
      return false;
    }
  }

  out<E, 3> backward(context_of<E>& ctx, in<E, 3> dout, const saved& s) {
    const index_t m = config.d_mlp(), d = config.scanned(), c = config.conv_dim();
    out<E, 3> du = ctx.template make<E, 3>(dout.shape());
    auto frame = ctx.scratch.make_frame();
    const out<E, 3> dv = out_proj.backward(ctx, dout, s.out_proj);
    out<E, 3> dp = ctx.template make<E, 3>(s.projected.shape());
    // [silu(z0) x0, v]
    if (m > 0)
      run(ctx, ops::gated_backward<E>{.gate = rows(s.projected.slice(2, 0, m)),
                                      .up = rows(s.projected.slice(2, m, m)),
                                      .dy = rows(dv.slice(2, 0, m)),
                                      .dgate = rows(dp.slice(2, 0, m)),
                                      .dup = rows(dp.slice(2, m, m))});
    const out<E, 3> dz = dp.slice(2, 2 * m, d);
    in<E, 3> dy = dv.slice(2, m, d);
    if (norm.weight) {
      out<E, 3> dscanned = ctx.template make<E, 3>(s.scanned.shape());
      run(ctx, ops::gated_rms_norm_backward<E>{.x = rows(s.scanned),
                                               .z = rows(s.projected.slice(2, 2 * m, d)),
                                               .weight = norm.weight.value,
                                               .rstd = s.rstd,
                                               .dy = rows(dy),
                                               .dx = rows(dscanned),
                                               .dz = rows(dz),
                                               .dweight = norm.weight.grad,
                                               .group_size = d / config.ngroups,
                                               .norm_before_gate = config.norm_before_gate});
      dy = dscanned;
    }
    scan.backward(ctx, dy, s.scan, dp.slice(2, 2 * m + d, c),
                  dp.slice(2, 2 * m + d + c, config.nheads()), norm.weight ? out<E, 3>{} : dz);
    in_proj.backward_into(ctx, dp, s.in_proj, du);
    return du;
  }

 private:
  static const mixer_config& checked(const mixer_config& c) {
    if (const char* p = problem_with(c)) fail<shape_error>("mamba2: ", p);
    return c;
  }

  out<E, 3> whole(context_of<E>& ctx, in<E, 3> u, saved& s, state* st, out<E, 3> into = {}) const {
    return finish(ctx, in_proj.forward(ctx, u, s.in_proj), s, st, into);
  }
  /// What comes after in_proj.
  out<E, 3> finish(context_of<E>& ctx, in<E, 3> projected, saved& s, state* st,
                   out<E, 3> into) const {
    const index_t m = config.d_mlp(), d = config.scanned(), c = config.conv_dim();
    s.projected = projected;
    const in<E, 3> z = s.projected.slice(2, 2 * m, d);
    out<E, 3> y = scan.forward(ctx, s.projected.slice(2, 2 * m + d, c),
                               s.projected.slice(2, 2 * m + d + c, config.nheads()),
                               norm.weight ? in<E, 3>{} : z, s.scan, st);
    s.scanned = y;
    const index_t b = projected.size[0], l = projected.size[1];
    out<E, 3> v = ctx.template make<E, 3>({{b, l, config.d_inner()}});
    out_accum<E, 2> rstd = ctx.template make_accum<E, 2>({{b * l, config.ngroups}});
    s.rstd = rstd;
    combine(ctx, s.projected, rows(y), v, rstd);
    return out_proj.forward(ctx, v, s.out_proj, into);
  }

  /// v = [silu(z0) x0, norm(y, z)]
  void combine(context_of<E>& ctx, in<E, 3> p, out<E, 2> y, out<E, 3> v,
               out_accum<E, 2> rstd) const {
    const index_t m = config.d_mlp(), d = config.scanned();
    if (m > 0)
      run(ctx, ops::gated<E>{.gate = rows(p.slice(2, 0, m)),
                             .up = rows(p.slice(2, m, m)),
                             .y = rows(v.slice(2, 0, m))});
    if (norm.weight) {
      run(ctx, ops::gated_rms_norm<E>{.x = y,
                                      .z = rows(p.slice(2, 2 * m, d)),
                                      .weight = norm.weight.value,
                                      .y = rows(v.slice(2, m, d)),
                                      .rstd = rstd,
                                      .group_size = d / config.ngroups,
                                      .norm_before_gate = config.norm_before_gate,
                                      .epsilon = typename E::real(config.norm_epsilon)});
    } else {
      assign(ctx, rows(v.slice(2, m, d)), y);
    }
  }
};

}  // namespace mlmamba::nn
