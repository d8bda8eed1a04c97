// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Selective scan on the CPU: tokens in order, channels in lanes and in tasks. That is parallel
// enough without cutting the time, so every scan_algorithm is this one.
//
// Tasks are blocks of 128 channels of a group. dB and dC are summed over the blocks in order, dA,
// dD and ddt_bias over the rows of the batch in order.
#pragma once

#include "mlmamba/backend/cpu/simd/dispatch.hpp"
#include "mlmamba/backend/cpu/ssd.hpp"
#include "mlmamba/backend/cpu/workers.hpp"
#include "mlmamba/ops/selective_scan.hpp"

namespace mlmamba::backend {

namespace detail {

/// Channels are cut into blocks that do not cross groups: `parts` in each group.
struct scan_blocks {
  static constexpr index_t size = 128;
  index_t per_group, parts;

  explicit scan_blocks(index_t channels, index_t groups)
      : per_group(channels / groups), parts((per_group + size - 1) / size) {}
  index_t first(index_t g, index_t part) const { return g * per_group + part * size; }
  index_t count(index_t part) const { return std::min(size, per_group - part * size); }
  index_t widest() const { return std::min(size, per_group); }
};

template <class T, class Op>
simd::scan_channels<T> scan_channels_of(const Op& op, const view<const accum_t<T>, 3>& initial,
                                        const view<index_t, 2>& starts, index_t b, index_t g,
                                        index_t d, index_t count) {
  simd::scan_channels<T> s{};
  s.length = op.x.size[1], s.states = op.A.size[1], s.channels = count;
  s.x = op.x.data + b * op.x.stride[0] + d, s.x_row = op.x.stride[1];
  s.dt = op.dt.data + b * op.dt.stride[0] + d, s.dt_row = op.dt.stride[1];
  if (op.z) s.z = op.z.data + b * op.z.stride[0] + d, s.z_row = op.z.stride[1];
  s.B = op.B.data + b * op.B.stride[0] + g * op.B.stride[2], s.B_row = op.B.stride[1];
  s.C = op.C.data + b * op.C.stride[0] + g * op.C.stride[2], s.C_row = op.C.stride[1];
  s.rate = op.A.data + d * op.A.stride[0], s.rate_row = op.A.stride[0];
  if (const auto& h = initial)
    s.initial = h.data + b * h.stride[0] + d * h.stride[1], s.initial_row = h.stride[1];
  if (op.D) s.D = op.D.data + d * op.D.stride[0], s.D_stride = op.D.stride[0];
  if (op.dt_bias)
    s.dt_bias = op.dt_bias.data + d * op.dt_bias.stride[0], s.dt_bias_stride = op.dt_bias.stride[0];
  if (starts) s.starts = starts.data + b * starts.stride[0];
  s.softplus = op.dt_softplus;
  return s;
}

}  // namespace detail

template <class E>
void execute(context<cpu>& ctx, const ops::selective_scan<E>& op) {
  using A = typename E::accum;
  using T = typename E::value;
  const auto& k = simd::cpu_kernels<simd::scan_entries<T>>();
  const index_t G = op.B.size[2];
  const detail::scan_blocks blocks(op.x.size[2], G);
  auto frame = ctx.scratch.make_frame();
  const view<index_t, 2> starts = detail::sequence_starts(ctx, op.seq_idx);
  const auto initial = detail::wide_states<E>(ctx, op.initial_states);
  const auto final = detail::wide_states<E>(ctx, op.final_states);
  detail::for_each_with_scratch<A>(
      ctx, op.x.size[0] * G * blocks.parts, k.scratch(op.A.size[1], blocks.widest()),
      [&](index_t i, A* scratch) {
        const index_t part = i % blocks.parts, g = i / blocks.parts % G, b = i / blocks.parts / G;
        const index_t d = blocks.first(g, part);
        simd::scan_forward_task<T> t{};
        t.in = detail::scan_channels_of<T>(op, initial, starts, b, g, d, blocks.count(part));
        t.y = op.y.data + b * op.y.stride[0] + d, t.y_row = op.y.stride[1];
        if (const auto& h = final)
          t.last = h.data + b * h.stride[0] + d * h.stride[1], t.last_row = h.stride[1];
        t.scratch = scratch;
        k.forward(t);
      });
  detail::store_states<E>(ctx, final, op.final_states);
}

template <class E>
void execute(context<cpu>& ctx, const ops::selective_scan_backward<E>& op) {
  using A = typename E::accum;
  using T = typename E::value;
  const auto& k = simd::cpu_kernels<simd::scan_backward_entries<T>>();
  const index_t batch = op.x.size[0], L = op.x.size[1], D = op.x.size[2], N = op.A.size[1];
  const index_t G = op.B.size[2];
  const detail::scan_blocks blocks(D, G);
  auto frame = ctx.scratch.make_frame();
  const view<index_t, 2> starts = detail::sequence_starts(ctx, op.seq_idx);
  const auto initial = detail::wide_states<E>(ctx, op.initial_states);
  const auto dB = ctx.scratch.template make<A, 3>({{batch * G * blocks.parts, L, N}});
  const auto dC = ctx.scratch.template make<A, 3>({{batch * G * blocks.parts, L, N}});
  const auto drate = ctx.scratch.template make<A, 3>({{batch, D, N}});
  const auto dD = ctx.scratch.template make<A, 2>({{batch, D}});
  const auto dbias = ctx.scratch.template make<A, 2>({{batch, D}});
  detail::for_each_with_scratch<A>(
      ctx, batch * G * blocks.parts, k.scratch(L, N, blocks.widest()), [&](index_t i, A* scratch) {
        const index_t part = i % blocks.parts, g = i / blocks.parts % G, b = i / blocks.parts / G;
        const index_t d = blocks.first(g, part);
        simd::scan_backward_task<T> t{};
        t.in = detail::scan_channels_of<T>(op, initial, starts, b, g, d, blocks.count(part));
        t.dy = op.dy.data + b * op.dy.stride[0] + d, t.dy_row = op.dy.stride[1];
        t.dx = op.dx.data + b * op.dx.stride[0] + d, t.dx_row = op.dx.stride[1];
        t.ddt = op.ddt.data + b * op.ddt.stride[0] + d, t.ddt_row = op.ddt.stride[1];
        if (op.dz) t.dz = op.dz.data + b * op.dz.stride[0] + d, t.dz_row = op.dz.stride[1];
        if (const auto& h = op.dfinal_states)
          t.dlast = h.data + b * h.stride[0] + d * h.stride[1], t.dlast_row = h.stride[1];
        if (const auto& h = op.dinitial_states)
          t.dinitial = h.data + b * h.stride[0] + d * h.stride[1], t.dinitial_row = h.stride[1];
        t.dB = dB.data + i * L * N, t.dC = dC.data + i * L * N;
        t.drate = drate.data + (b * D + d) * N;
        t.dD = dD.data + b * D + d, t.ddt_bias = dbias.data + b * D + d;
        t.scratch = scratch;
        k.backward(t);
      });
  detail::for_each_run(ctx, batch * L, 64, [&](index_t from, index_t to) {
    for (index_t i = from; i < to; ++i)
      for (index_t g = 0; g < G; ++g)
        for (index_t n = 0; n < N; ++n) {
          const index_t b = i / L, t = i % L, first = (b * G + g) * blocks.parts;
          A sum_B = 0, sum_C = 0;
          for (index_t part = 0; part < blocks.parts; ++part)
            sum_B += dB(first + part, t, n), sum_C += dC(first + part, t, n);
          op.dB(b, t, g, n) = T(sum_B), op.dC(b, t, g, n) = T(sum_C);
        }
  });
  detail::for_each_run(ctx, D, 64, [&](index_t from, index_t to) {
    for (index_t d = from; d < to; ++d) {
      for (index_t n = 0; op.dA && n < N; ++n) {
        A sum = 0;
        for (index_t b = 0; b < batch; ++b) sum += drate(b, d, n);
        op.dA(d, n) += sum;
      }
      A sum_D = 0, sum_bias = 0;
      for (index_t b = 0; b < batch; ++b) sum_D += dD(b, d), sum_bias += dbias(b, d);
      if (op.dD) op.dD(d) += sum_D;
      if (op.ddt_bias) op.ddt_bias(d) += sum_bias;
    }
  });
}

template <class E>
void execute(context<cpu>& ctx, const ops::selective_scan_step<E>& op) {
  using T = typename E::value;
  const auto kernel = simd::cpu_kernels<simd::scan_step_entries<T, typename E::state>>().step;
  const index_t G = op.B.size[1];
  const detail::scan_blocks blocks(op.x.size[1], G);
  ctx.parallel_for(op.x.size[0] * G * blocks.parts, [&](index_t i) {
    const index_t part = i % blocks.parts, g = i / blocks.parts % G, b = i / blocks.parts / G;
    const index_t d = blocks.first(g, part);
    simd::scan_step_task<T, typename E::state> t{};
    t.in.states = op.A.size[1], t.in.channels = blocks.count(part);
    t.in.x = op.x.data + b * op.x.stride[0] + d, t.in.dt = op.dt.data + b * op.dt.stride[0] + d;
    if (op.z) t.in.z = op.z.data + b * op.z.stride[0] + d;
    t.in.B = op.B.data + b * op.B.stride[0] + g * op.B.stride[1];
    t.in.C = op.C.data + b * op.C.stride[0] + g * op.C.stride[1];
    t.in.rate = op.A.data + d * op.A.stride[0], t.in.rate_row = op.A.stride[0];
    if (op.D) t.in.D = op.D.data + d * op.D.stride[0], t.in.D_stride = op.D.stride[0];
    if (op.dt_bias)
      t.in.dt_bias = op.dt_bias.data + d * op.dt_bias.stride[0],
      t.in.dt_bias_stride = op.dt_bias.stride[0];
    t.in.softplus = op.dt_softplus;
    t.state = op.state.data + b * op.state.stride[0] + d * op.state.stride[1];
    t.state_row = op.state.stride[1];
    t.y = op.y.data + b * op.y.stride[0] + d;
    kernel(t);
  });
}

}  // namespace mlmamba::backend
