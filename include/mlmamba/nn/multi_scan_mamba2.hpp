// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Mamba-2 mixers that scan a set of tokens in several orders: bidirectional and cross scan.
#pragma once

#include <array>

#include "mlmamba/nn/mamba2.hpp"
#include "mlmamba/ops/scan_order.hpp"

namespace mlmamba::nn {

/// Two directions, the ML-Mamba connector's: raster and its reversal (BSM).
struct both_ways {
  static constexpr std::array<ops::scan_direction, 2> directions{ops::scan_direction::raster,
                                                                 ops::scan_direction::reverse};
  static constexpr std::array<const char*, 2> suffix{"", "_b"};
};
/// Four directions, VMamba's cross scan (CSM): raster, column, and the reversals of both.
struct cross_scan {
  static constexpr std::array<ops::scan_direction, 4> directions{
      ops::scan_direction::raster, ops::scan_direction::reverse, ops::scan_direction::column,
      ops::scan_direction::column_reverse};
  static constexpr std::array<const char*, 4> suffix{"", "_b", "_c", "_d"};
};

/// A Mamba-2 mixer over a grid of tokens, K scans of one projection.
///
///   p   = in_proj(u)                                     z, xBC, dt of every token
///   y_k = order_k^-1( norm( ssd_k( conv_k( order_k(p) ) ), z ) )
///   out = out_proj( (y_1 + ... + y_K) / K )
///
/// in_proj, the norm's weight and out_proj are shared; each direction has its own conv1d, dt_bias,
/// A_log and D, named with the suffixes of Orders ("", "_b", ...). The order is applied after the
/// projection, so each convolution is causal in its own order.
///
/// Shapes    u, out (B, T, d_model), T = grid_rows grid_columns
/// Source    ML-Mamba, arXiv:2407.19832, section 3.2; cross scan of VMamba, arXiv:2401.10166
template <engine E, class Orders = both_ways>
struct multi_scan_mamba2 {
  using engine_type = E;
  static constexpr std::size_t K = Orders::directions.size();

  linear<E> in_proj;
  std::vector<ssd_direction<E>> scans;
  norm_weight<E> norm;
  linear<E> out_proj;
  mixer_config config;
  index_t grid_rows, grid_columns;

  explicit multi_scan_mamba2(const mixer_config& c, index_t rows, index_t columns)
      : in_proj(checked(c).d_model, c.d_in_proj(), c.bias),
        scans(K, ssd_direction<E>(c)),
        out_proj(c.d_inner(), c.d_model, c.bias),
        config(c),
        grid_rows(rows),
        grid_columns(columns) {
    in_proj.keep_wide(c.nheads());  // dt
    norm.weight = parameter<E, 1>({c.scanned()});
  }
  static void fields(auto& self, auto&& f) {
    f("in_proj", self.in_proj);
    for (std::size_t k = 0; k < K; ++k) {
      const std::string s = Orders::suffix[k];
      auto& scan = self.scans[k];
      f(("conv1d" + s).c_str(), scan.conv1d), f(("dt_bias" + s).c_str(), scan.dt_bias);
      f(("A_log" + s).c_str(), scan.A_log), f(("D" + s).c_str(), scan.D);
    }
    f("norm", self.norm), f("out_proj", self.out_proj);
  }
  /// Directions start with equal steps, decays and skips, and convolutions of their own.
  static void initialise(auto& self, random_stream r) {
    nn::initialise(self.in_proj, r.fork("in_proj"));
    for (std::size_t k = 0; k < K; ++k) {
      ssd_direction<E>::initialise(self.scans[k], r);
      nn::initialise(self.scans[k].conv1d, r.fork(std::string("conv1d") + Orders::suffix[k]));
    }
    nn::initialise(self.norm, r.fork("norm"));
    nn::initialise(self.out_proj, r.fork("out_proj"));
  }

  struct direction_saved {
    typename ssd_direction<E>::saved scan;
    in<E, 3> ordered;  // order_k(p)
    in<E, 3> scanned;  // (B, T, d_inner), before the norm
    in_accum<E, 2> rstd;
  };
  struct saved {
    typename linear<E>::saved in_proj, out_proj;
    std::array<direction_saved, K> directions;
  };

  out<E, 3> forward(context_of<E>& ctx, in<E, 3> u, saved& s) const {
    const index_t d = config.scanned(), c = config.conv_dim(), G = config.ngroups;
    const in<E, 3> p = in_proj.forward(ctx, u, s.in_proj);
    const shape<3> wide{{u.size[0], u.size[1], d}};
    out<E, 3> sum = ctx.template make<E, 3>(wide);
    for (std::size_t k = 0; k < K; ++k) {
      direction_saved& sk = s.directions[k];
      sk.ordered = order(ctx, p, k, false);
      const in<E, 3> y = scans[k].forward(ctx, sk.ordered.slice(2, d, c),
                                          sk.ordered.slice(2, d + c, config.nheads()), {}, sk.scan);
      sk.scanned = y;
      out_accum<E, 2> rstd = ctx.template make_accum<E, 2>({{u.size[0] * u.size[1], G}});
      sk.rstd = rstd;
      auto frame = ctx.scratch.make_frame();
      out<E, 3> v = ctx.template make<E, 3>(wide);
      run(ctx, ops::gated_rms_norm<E>{.x = rows(y),
                                      .z = rows(sk.ordered.slice(2, 0, d)),
                                      .weight = norm.weight.value,
                                      .y = rows(v),
                                      .rstd = rstd,
                                      .group_size = d / G,
                                      .norm_before_gate = config.norm_before_gate,
                                      .epsilon = typename E::real(config.norm_epsilon)});
      const in<E, 3> back = order(ctx, v, k, true);
      // the last addition takes the mean
      if (k == 0) {
        assign(ctx, sum, back);
      } else {
        run(ctx, ops::add<E>{.a = rows(sum),
                             .b = rows(back),
                             .y = rows(sum),
                             .scale = k + 1 == K ? 1 / typename E::real(K) : 1});
      }
    }
    return out_proj.forward(ctx, sum, s.out_proj);
  }

  out<E, 3> backward(context_of<E>& ctx, in<E, 3> dout, const saved& s) {
    const index_t d = config.scanned(), c = config.conv_dim(), G = config.ngroups;
    out<E, 3> du = ctx.template make<E, 3>(dout.shape());
    auto frame = ctx.scratch.make_frame();
    const in<E, 3> dsum = out_proj.backward(ctx, dout, s.out_proj);
    const shape<3> projected = s.directions[0].ordered.shape();
    out<E, 3> dp = ctx.template make<E, 3>(projected);
    for (std::size_t k = 0; k < K; ++k) {
      const direction_saved& sk = s.directions[k];
      auto inner = ctx.scratch.make_frame();
      // y_k enters the mean with weight 1 / K: (0 + dsum) / K
      out<E, 3> share = ctx.template make<E, 3>(dsum.shape());
      run(ctx, ops::fill<E, typename E::value>{.y = share.flat()});
      run(ctx, ops::add<E>{.a = rows(share),
                           .b = rows(dsum),
                           .y = rows(share),
                           .scale = 1 / typename E::real(K)});
      const in<E, 3> dv = order(ctx, share, k, false);
      out<E, 3> dordered = ctx.template make<E, 3>(projected);
      out<E, 3> dscanned = ctx.template make<E, 3>(sk.scanned.shape());
      run(ctx, ops::gated_rms_norm_backward<E>{.x = rows(sk.scanned),
                                               .z = rows(sk.ordered.slice(2, 0, d)),
                                               .weight = norm.weight.value,
                                               .rstd = sk.rstd,
                                               .dy = rows(dv),
                                               .dx = rows(dscanned),
                                               .dz = rows(dordered.slice(2, 0, d)),
                                               .dweight = norm.weight.grad,
                                               .group_size = d / G,
                                               .norm_before_gate = config.norm_before_gate});
      scans[k].backward(ctx, dscanned, sk.scan, dordered.slice(2, d, c),
                        dordered.slice(2, d + c, config.nheads()), {});
      const in<E, 3> back = order(ctx, dordered, k, true);
      if (k == 0) {
        assign(ctx, dp, back);
      } else {
        add_to(ctx, dp, back);
      }
    }
    in_proj.backward_into(ctx, dp, s.in_proj, du);
    return du;
  }

 private:
  static const mixer_config& checked(const mixer_config& c) {
    if (const char* p = problem_with(c)) fail<shape_error>("multi_scan_mamba2: ", p);
    if (c.d_mlp() != 0 || !c.rmsnorm)
      fail<shape_error>(
          "multi_scan_mamba2: d_ssm or rmsnorm is set; wanted are d_ssm = 0 and a norm");
    return c;
  }
  /// order_k, or its inverse. Raster is the identity: nothing is copied.
  in<E, 3> order(context_of<E>& ctx, in<E, 3> x, std::size_t k, bool inverse) const {
    if (Orders::directions[k] == ops::scan_direction::raster) return x;
    out<E, 3> y = ctx.template make<E, 3>(x.shape());
    run(ctx, ops::scan_order<E>{.x = x,
                                .y = y,
                                .direction = Orders::directions[k],
                                .grid_rows = grid_rows,
                                .grid_columns = grid_columns,
                                .inverse = inverse});
    return y;
  }
};

}  // namespace mlmamba::nn
