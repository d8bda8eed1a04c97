// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fixtures of single ops: causal_conv1d, selective_scan, ssd, rms_norm.
#pragma once

#include "check_fixture/fixture.hpp"
#include "mlmamba/ops/causal_conv1d.hpp"
#include "mlmamba/ops/norm.hpp"
#include "mlmamba/ops/selective_scan.hpp"
#include "mlmamba/ops/ssd.hpp"

namespace mlmamba::check_fixture {

/// Operands of one fixture on an engine, and where its results go.
template <engine E>
struct op_runner {
  using M = typename E::memory;
  using V = typename E::value;
  using A = typename E::accum;
  fixture& f;
  context_of<E>& ctx;
  results out;

  template <int R>
  using values = tensor<V, R, M>;
  template <int R>
  using accums = tensor<A, R, M>;

  template <class T, int R>
  void put(const std::string& name, const tensor<T, R, M>& t, bool gradient = false) {
    const auto n = t.shape();
    out[name] = {std::vector<std::int64_t>(n.n, n.n + R), numbers(t.view()), gradient};
  }
  /// The same with two axes exchanged, for the layouts of the original.
  template <class T, int R>
  tensor<T, R, M> transposed(const tensor<T, R, M>& t, int a, int b) {
    if (!t) return {};
    const auto from = t.view().transposed(a, b);
    tensor<T, R, M> to(from.shape());
    run(ctx, ops::copy<typename E::backend, T, T, R>{.x = from, .y = to});
    return to;
  }

  void causal_conv1d() {
    const auto x = f.needed<V, 3, M>("in.x");
    const auto weight = f.needed<A, 2, M>("in.weight");
    const auto bias = f.optional<A, 1, M>("in.bias");
    const auto initial = f.optional<V, 3, M>("in.initial_states");
    const auto seq_idx = f.optional<std::int32_t, 2, M>("in.seq_idx");
    const auto dy = f.optional<V, 3, M>("grad.y");
    const auto dfinal = f.optional<V, 3, M>("grad.final_states");
    const std::string act = f.option("activation", "none");
    if (act != "silu" && act != "swish" && act != "none" && act != "None" && act != "identity")
      fail<io_error>(f.path(), ": activation \"", act, "\"; silu or none is wanted");
    const auto activation = act == "silu" || act == "swish" ? activation::silu : activation::none;
    f.refuse_unknown();
    values<3> y(x.shape()), final({x.size(0), x.size(2), weight.size(1) - 1});
    run(ctx, ops::causal_conv1d<E>{.x = x,
                                   .weight = weight,
                                   .bias = bias,
                                   .initial_states = initial,
                                   .seq_idx = seq_idx,
                                   .y = y,
                                   .final_states = final,
                                   .activation = activation});
    put("y", y), put("final_states", final);
    if (!dy && !dfinal) return;
    values<3> dx(x.shape()), dinitial;
    accums<2> dweight(weight.shape());
    accums<1> dbias;
    if (bias) dbias = accums<1>(bias.shape());
    if (initial) dinitial = values<3>(initial.shape());
    const values<3> zero = dy ? values<3>() : values<3>(x.shape());
    run(ctx, ops::causal_conv1d_backward<E>{.x = x,
                                            .weight = weight,
                                            .bias = bias,
                                            .initial_states = initial,
                                            .seq_idx = seq_idx,
                                            .dy = dy ? dy : zero,
                                            .dfinal_states = dfinal,
                                            .dx = dx,
                                            .dweight = dweight,
                                            .dbias = dbias,
                                            .dinitial_states = dinitial,
                                            .activation = activation});
    put("dx", dx, true), put("dweight", dweight, true);
    if (bias) put("dbias", dbias, true);
    if (initial) put("dinitial_states", dinitial, true);
  }

  void selective_scan() {
    // The original has time last; here channels are last.
    const auto swapped = [&](const auto& t) { return transposed(t, 1, 2); };
    const auto grouped = [&](const char* name) {  // (B, G, N, L) or (B, N, L) -> (B, L, G, N)
      const auto n = f.shape_of(name);
      const auto t = n.size() == 3 ? f.shaped<V, 4, M>(name, shape<4>{{n[0], 1, n[1], n[2]}})
                                   : f.needed<V, 4, M>(name);
      return transposed(transposed(t, 1, 3), 2, 3);
    };
    const auto x = swapped(f.needed<V, 3, M>("in.u"));
    const auto dt = swapped(f.needed<V, 3, M>("in.delta"));
    const auto a = f.needed<A, 2, M>("in.A");
    const auto b = grouped("in.B"), c = grouped("in.C");
    const auto d = f.optional<A, 1, M>("in.D");
    const auto z = swapped(f.optional<V, 3, M>("in.z"));
    const auto bias = f.optional<A, 1, M>("in.delta_bias");
    const auto initial = f.optional<A, 3, M>("in.initial_states");
    const auto seq_idx = f.optional<std::int32_t, 2, M>("in.seq_idx");
    const auto dy = swapped(f.optional<V, 3, M>("grad.y"));
    const auto dlast = f.optional<A, 3, M>("grad.last_state");
    const bool softplus = f.flag("delta_softplus", false);
    f.refuse_unknown();
    values<3> y(x.shape());
    accums<3> last({x.size(0), x.size(2), a.size(1)});
    ops::selective_scan<E> op;
    const auto operands = [&](auto& o) {
      o.x = x, o.dt = dt, o.A = a, o.B = b, o.C = c, o.D = d, o.z = z, o.dt_bias = bias;
      o.initial_states = initial, o.seq_idx = seq_idx, o.dt_softplus = softplus;
    };
    operands(op);
    op.y = y, op.final_states = last;
    run(ctx, op);
    put("y", swapped(y)), put("last_state", last);
    if (!dy && !dlast) return;
    values<3> dx(x.shape()), ddt(x.shape()), dz, zero;
    values<4> db(b.shape()), dc(c.shape());
    accums<2> da(a.shape());
    accums<1> dd, dbias;
    accums<3> dinitial;
    if (d) dd = accums<1>(d.shape());
    if (bias) dbias = accums<1>(bias.shape());
    if (z) dz = values<3>(z.shape());
    if (initial) dinitial = accums<3>(initial.shape());
    if (!dy) zero = values<3>(x.shape());
    ops::selective_scan_backward<E> back;
    operands(back);
    back.dy = dy ? dy : zero, back.dfinal_states = dlast;
    back.dx = dx, back.ddt = ddt, back.dA = da, back.dB = db, back.dC = dc, back.dD = dd;
    back.dz = dz, back.ddt_bias = dbias, back.dinitial_states = dinitial;
    run(ctx, back);
    put("du", swapped(dx), true), put("ddelta", swapped(ddt), true), put("dA", da, true);
    for (auto* p : {&db, &dc}) {  // (B, L, G, N) -> (B, G, N, L), or (B, N, L) as they were given
      const std::string name = p == &db ? "B" : "C";
      put("d" + name, transposed(transposed(*p, 2, 3), 1, 3), true);
      out["d" + name].shape = f.shape_of("in." + name);
    }
    if (d) put("dD", dd, true);
    if (z) put("dz", swapped(dz), true);
    if (bias) put("ddelta_bias", dbias, true);
    if (initial) put("dinitial_states", dinitial, true);
  }

  void ssd() {
    const auto x = f.needed<V, 4, M>("in.x");
    const auto dt = f.needed<V, 3, M>("in.dt");
    const auto a = f.needed<A, 1, M>("in.A");
    const auto b = f.needed<V, 4, M>("in.B"), c = f.needed<V, 4, M>("in.C");
    const bool per_channel = f.shape_of("in.D").size() == 2;
    accums<2> d2;
    accums<1> d1;
    if (per_channel) {
      d2 = f.optional<A, 2, M>("in.D");
    } else {
      d1 = f.optional<A, 1, M>("in.D");
    }
    const auto z = f.optional<V, 4, M>("in.z");
    const auto bias = f.optional<A, 1, M>("in.dt_bias");
    const auto initial = f.optional<A, 4, M>("in.initial_states");
    const auto seq_idx = f.optional<std::int32_t, 2, M>("in.seq_idx");
    const auto dy = f.optional<V, 4, M>("grad.y");
    const auto dfinal = f.optional<A, 4, M>("grad.final_states");
    const bool softplus = f.flag("dt_softplus", false);
    using real = typename E::real;
    const real low = real(f.number("dt_min", 0));
    const real high = real(f.number("dt_max", std::numeric_limits<double>::infinity()));
    const index_t chunk = f.integer("chunk_size", 0);
    f.refuse_unknown();
    const auto broadcast = [&](auto v) {  // one value per head: stride 0 over p
      using T = typename decltype(v)::element;
      return view<T, 2, M>(v.data, shape<2>{{x.size(2), x.size(3)}}, shape<2>{{1, 0}});
    };
    const auto operands = [&](auto& o) {
      o.x = x, o.dt = dt, o.A = a, o.B = b, o.C = c, o.z = z, o.dt_bias = bias;
      if (d2) o.D = d2;
      if (d1) o.D = broadcast(d1.view());
      o.initial_states = initial, o.seq_idx = seq_idx, o.dt_softplus = softplus;
      o.dt_min = low, o.dt_max = high, o.chunk_size = chunk;
    };
    if (d1 && d1.size(0) != x.size(2))
      fail<io_error>(f.path(), ": in.D is (", d1.size(0), "), wanted is (", x.size(2), ")");
    ops::ssd<E> op;
    operands(op);
    values<4> y(x.shape());
    accums<4> final(op.state_shape());
    op.y = y, op.final_states = final;
    run(ctx, op);
    put("y", y), put("final_states", final);
    if (!dy && !dfinal) return;
    values<4> dx(x.shape()), db(b.shape()), dc(c.shape()), dz, zero;
    values<3> ddt(dt.shape());
    accums<1> da(a.shape()), dd1, dbias;
    accums<2> dd2;
    accums<4> dinitial;
    if (d1) dd1 = accums<1>(d1.shape());
    if (d2) dd2 = accums<2>(d2.shape());
    if (bias) dbias = accums<1>(bias.shape());
    if (z) dz = values<4>(z.shape());
    if (initial) dinitial = accums<4>(initial.shape());
    if (!dy) zero = values<4>(x.shape());
    ops::ssd_backward<E> back;
    operands(back);
    back.dy = dy ? dy : zero, back.dfinal_states = dfinal;
    back.dx = dx, back.ddt = ddt, back.dA = da, back.dB = db, back.dC = dc, back.dz = dz;
    if (d2) back.dD = dd2;
    if (d1) back.dD = broadcast(dd1.view());
    back.ddt_bias = dbias, back.dinitial_states = dinitial;
    run(ctx, back);
    put("dx", dx, true), put("ddt", ddt, true), put("dA", da, true);
    put("dB", db, true), put("dC", dc, true);
    if (d1) put("dD", dd1, true);
    if (d2) put("dD", dd2, true);
    if (z) put("dz", dz, true);
    if (bias) put("ddt_bias", dbias, true);
    if (initial) put("dinitial_states", dinitial, true);
  }

  void rms_norm() {
    rms_norm_of_rows();
    for (const char* like_x : {"y", "dx", "dz"})
      if (out.contains(like_x)) out[like_x].shape = f.shape_of("in.x");  // (..., D)
  }
  void rms_norm_of_rows() {
    if (f.find("in.x") == nullptr) fail<io_error>(f.path(), ": there is no \"in.x\"; it is needed");
    const auto x = f.optional_rows<V, M>("in.x"), z = f.optional_rows<V, M>("in.z", "in.x");
    const auto weight = f.optional<A, 1, M>("in.weight");
    const auto dy = f.optional_rows<V, M>("grad.y", "in.x");
    const double eps = f.number("eps", 1e-5);
    const index_t group = f.integer("group_size", 0);
    const bool before = f.flag("norm_before_gate", false);
    if (f.find("in.bias") != nullptr)
      fail<io_error>(f.path(), ": rms_norm with in.bias is not supported; wanted is no bias");
    f.refuse_unknown();
    const index_t groups = x.size(1) / std::max<index_t>(group == 0 ? x.size(1) : group, 1);
    values<2> y(x.shape());
    accums<2> rstd({x.size(0), groups});
    using real = typename E::real;
    run(ctx, ops::gated_rms_norm<E>{.x = x,
                                    .z = z,
                                    .weight = weight,
                                    .y = y,
                                    .rstd = rstd,
                                    .group_size = group,
                                    .norm_before_gate = before,
                                    .epsilon = real(eps)});
    put("y", y);
    if (!dy) return;
    values<2> dx(x.shape()), dz;
    accums<1> dweight;
    if (z) dz = values<2>(z.shape());
    if (weight) dweight = accums<1>(weight.shape());
    run(ctx, ops::gated_rms_norm_backward<E>{.x = x,
                                             .z = z,
                                             .weight = weight,
                                             .rstd = rstd,
                                             .dy = dy,
                                             .dx = dx,
                                             .dz = dz,
                                             .dweight = dweight,
                                             .group_size = group,
                                             .norm_before_gate = before});
    put("dx", dx, true);
    if (z) put("dz", dz, true);
    if (weight) put("dweight", dweight, true);
  }
};

}  // namespace mlmamba::check_fixture
