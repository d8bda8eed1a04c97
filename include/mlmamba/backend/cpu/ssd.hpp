// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// SSD on the CPU.
//
// Chunked: what the heads of a group share (B, C, and C B^T inside chunks) is computed once, then
// each task walks the chunks of some heads of one row, side by side: three dense products a chunk
// and head forward, seven backward. Chunks have 32 tokens, 64 in the backward of large states and
// where the processor multiplies tiles (bf16 forward); chunk_size up to 128 makes them shorter or
// longer (longer ones would only cost more). Sequential: one state in cache, token by token.
//
// dB and dC are summed over blocks of heads, in order; the blocks depend on the number of heads
// only. dA, dD and ddt_bias are sums per head and row, then over rows in order.
#pragma once

#include "mlmamba/backend/cpu/elementwise.hpp"
#include "mlmamba/backend/cpu/simd/denormals.hpp"
#include "mlmamba/backend/cpu/simd/dispatch.hpp"
#include "mlmamba/backend/cpu/workers.hpp"
#include "mlmamba/ops/ssd.hpp"

namespace mlmamba::backend {

namespace detail {

inline constexpr double ssd_scratch_bytes = 64e6;  // rows of the batch are taken in slabs of this

// Of each row of a state: with 128 states 16 KB, half of a first cache or less.
inline constexpr index_t ssd_panel_bytes = 128;

/// Heads that go through the chunks side by side, so that what they share stays in cache. Changes
/// no bit of a result, so it may depend on the threads: each shall have several tasks.
inline constexpr index_t ssd_heads = 8;
inline index_t ssd_heads_of_task(index_t threads, index_t rows_and_groups, index_t heads) {
  index_t n = std::clamp<index_t>(heads, 1, ssd_heads);
  const index_t wanted = threads > 1 ? 4 * threads : 1;
  while (n > 1 && rows_and_groups * ((heads + n - 1) / n) < wanted) n = (n + 1) / 2;
  return n;
}

/// best: tokens of a chunk if chunk_size leaves the choice, or is for matrix units.
inline simd::ssd_plan plan_ssd(index_t unit, index_t length, index_t channels, index_t states,
                               index_t chunk_size, index_t best) {
  const index_t wanted = chunk_size > 0 && chunk_size <= 128 ? chunk_size : best;
  auto pad = [&](index_t n) { return (n + unit - 1) / unit * unit; };
  simd::ssd_plan p{};
  p.length = length, p.channels = channels, p.states = states;
  p.chunk = std::max<index_t>(1, std::min(wanted, length));
  p.channels_ = pad(channels), p.states_ = pad(states), p.chunk_ = pad(p.chunk);
  p.panel = p.channels_;
  return p;
}

/// Rows of a strided matrix in which only the first of two indices has a stride other than 1.
template <class T>
simd::strided<T> strided_rows(T* at, index_t row) {
  simd::strided<T> s;
  s.at = at, s.row = row;
  return s;
}

/// (B, L): the token at which the sequence of each token starts, -1 if before this call.
inline view<index_t, 2> sequence_starts(context<cpu>& ctx, const view<const std::int32_t, 2>& seq) {
  if (!seq) return {};
  auto starts = ctx.scratch.template make<index_t, 2>({{seq.size[0], seq.size[1]}});
  ctx.parallel_for(seq.size[0], [&](index_t b) {
    index_t start = -1;
    std::int32_t before = 0;
    for (index_t t = 0; t < seq.size[1]; ++t) {
      if (seq(b, t) != before) start = t;
      before = seq(b, t);
      starts(b, t) = start;
    }
  });
  return starts;
}

/// States in accum, as scans of whole sequences read and write them: the operand itself, or a copy
/// in scratch of one that is stored narrower. What is written to a copy goes back by store_states.
template <class E, class S, int R>
auto wide_states(context<cpu>& ctx, const view<S, R>& states) {
  using State = typename E::state;
  using A = typename E::accum;
  static_assert(
      std::is_same_v<State, A> || (std::is_same_v<State, bf16> && std::is_same_v<A, float>),
      "cpu: states are stored as accum is, or in bf16 where that is float");
  if constexpr (std::is_same_v<State, A>) {
    return states;
  } else {
    view<std::conditional_t<std::is_const_v<S>, const A, A>, R> wide;
    if (!states) return wide;
    const view<A, R> copy = ctx.scratch.template make<A, R>(states.shape());
    if constexpr (std::is_const_v<S>)
      execute(ctx, ops::copy<cpu, A, State, R>{.x = states, .y = copy});
    wide = copy;
    return wide;
  }
}
template <class E, int R>
void store_states(context<cpu>& ctx, const out_accum<E, R>& wide, const out_state<E, R>& states) {
  if constexpr (!std::is_same_v<typename E::state, typename E::accum>)
    if (states)
      execute(ctx, ops::copy<cpu, typename E::state, typename E::accum, R>{.x = wide, .y = states});
}

template <class T, class Op>
simd::ssd_head<T> ssd_head_of(const Op& op, const view<const accum_t<T>, 4>& initial,
                              const view<index_t, 2>& starts, index_t b, index_t h) {
  simd::ssd_head<T> s;
  s.x = strided_rows(op.x.data + b * op.x.stride[0] + h * op.x.stride[2], op.x.stride[1]);
  if (op.z) s.z = strided_rows(op.z.data + b * op.z.stride[0] + h * op.z.stride[2], op.z.stride[1]);
  s.dt = op.dt.data + b * op.dt.stride[0] + h * op.dt.stride[2], s.dt_row = op.dt.stride[1];
  s.rate = op.A.data[h * op.A.stride[0]];
  if (op.dt_bias) s.dt_bias = op.dt_bias.data[h * op.dt_bias.stride[0]];
  s.dt_min = op.dt_min, s.dt_max = op.dt_max, s.softplus = op.dt_softplus;
  if (op.D) s.D = op.D.data + h * op.D.stride[0], s.D_stride = op.D.stride[1];
  if (initial)
    s.initial = strided_rows(initial.data + b * initial.stride[0] + h * initial.stride[1],
                             initial.stride[2]);
  if (starts) s.starts = starts.data + b * starts.stride[0];
  return s;
}
/// B, C and their gradients: one group of one row of the batch.
template <class T, class Memory>
simd::strided<T> group_rows(const view<T, 4, Memory>& v, index_t b, index_t g) {
  return strided_rows(v.data + b * v.stride[0] + g * v.stride[2], v.stride[1]);
}
template <class T, class Memory>
simd::strided<T> state_rows(const view<T, 4, Memory>& v, index_t b, index_t h) {
  return v ? strided_rows(v.data + b * v.stride[0] + h * v.stride[1], v.stride[2])
           : simd::strided<T>{};
}

/// What rows [from, from + n) of the batch share, one block per row, group and chunk.
template <class E, class Op, class Entries>
typename E::accum* share_ssd(context<cpu>& ctx, const Op& op, const Entries& k,
                             const simd::ssd_plan& p, index_t from, index_t n) {
  using A = typename E::accum;
  const index_t nc = p.chunks(), G = op.groups(), size = p.shared_size();
  A* shared = ctx.scratch.template make<A, 1>({{n * G * nc * size}}).data;
  for_each_with_scratch<A>(ctx, n * G * nc, k.share_scratch(p), [&](index_t i, A* scratch) {
    const simd::without_denormals scope;
    const index_t c = i % nc, g = i / nc % G, b = from + i / nc / G;
    k.share(p, c, group_rows(op.B, b, g), group_rows(op.C, b, g), shared + i * size, scratch);
  });
  return shared;
}
inline index_t ssd_slab(double bytes_per_row, index_t batch) {
  const double rows = ssd_scratch_bytes / std::max(bytes_per_row, 1.0);
  return std::max<index_t>(1, rows < double(batch) ? index_t(rows) : batch);
}

}  // namespace detail

template <class E>
void execute(context<cpu>& ctx, const ops::ssd<E>& op) {
  using A = typename E::accum;
  using T = typename E::value;
  const auto& k = simd::cpu_kernels<simd::ssd_entries<T>>();
  const index_t batch = op.x.size[0], L = op.x.size[1], H = op.heads(), G = op.groups();
  const index_t per = H / G;
  simd::ssd_plan p =
      detail::plan_ssd(k.unit, L, op.x.size[3], op.state_size(), op.chunk_size, k.chunk);
  p.panel = std::min<index_t>(p.channels_, detail::ssd_panel_bytes / index_t(sizeof(A)));
  const bool chunked = op.algorithm == ops::scan_algorithm::chunked ||
                       (op.algorithm == ops::scan_algorithm::automatic && L >= 8);
  auto frame = ctx.scratch.make_frame();
  const view<index_t, 2> starts = detail::sequence_starts(ctx, op.seq_idx);
  const auto initial = detail::wide_states<E>(ctx, op.initial_states);
  const auto final = detail::wide_states<E>(ctx, op.final_states);
  const double shared = chunked ? double(G * p.chunks() * p.shared_size()) : 0;
  const index_t slab = detail::ssd_slab(shared * double(sizeof(A)), batch);
  for (index_t from = 0; from < batch; from += slab) {
    const index_t n = std::min(slab, batch - from);
    auto slab_frame = ctx.scratch.make_frame();
    const A* const blocks = chunked ? detail::share_ssd<E>(ctx, op, k, p, from, n) : nullptr;
    const index_t heads = chunked ? detail::ssd_heads_of_task(ctx.threads.size(), n * G, per) : 1;
    const index_t parts = (per + heads - 1) / heads;
    detail::for_each_with_scratch<A>(
        ctx, n * G * parts, k.scratch(p, heads), [&](index_t i, A* scratch) {
          const simd::without_denormals scope;
          const index_t part = i % parts, g = i / parts % G, b = from + i / parts / G;
          const index_t count = std::min(heads, per - part * heads);
          simd::ssd_forward_task<T> tasks[detail::ssd_heads];
          for (index_t j = 0; j < count; ++j) {
            const index_t h = g * per + part * heads + j;
            simd::ssd_forward_task<T>& t = tasks[j];
            t.plan = p, t.scratch = scratch;
            t.head = detail::ssd_head_of<T>(op, initial, starts, b, h);
            t.B = detail::group_rows(op.B, b, g), t.C = detail::group_rows(op.C, b, g);
            t.y = detail::strided_rows(op.y.data + b * op.y.stride[0] + h * op.y.stride[2],
                                       op.y.stride[1]);
            t.last = detail::state_rows(final, b, h);
            if (chunked) t.shared = blocks + ((b - from) * G + g) * p.chunks() * p.shared_size();
          }
          chunked ? k.forward(tasks, count) : k.sequential(*tasks);
        });
  }
  detail::store_states<E>(ctx, final, op.final_states);
}

template <class E>
void execute(context<cpu>& ctx, const ops::ssd_backward<E>& op) {
  using A = typename E::accum;
  using T = typename E::value;
  const auto& k = simd::cpu_kernels<simd::ssd_backward_entries<T>>();
  const index_t batch = op.x.size[0], L = op.x.size[1], H = op.heads(), G = op.groups();
  if (H == 0) {  // B and C have gradients, and nobody who gives them any
    const auto clear = [&](const out<E, 4>& d) {
      for (index_t b = 0; b < batch; ++b)
        for (index_t t = 0; t < L; ++t)
          for (index_t g = 0; g < G; ++g)
            std::fill_n(detail::group_rows(d, b, g)[t], op.state_size(), T(A(0)));
    };
    clear(op.dB), clear(op.dC);
    return;
  }
  const index_t P = op.x.size[3], per = H / G;
  const index_t best = P * op.state_size() <= 4096 ? 32 : 64;
  simd::ssd_plan p = detail::plan_ssd(k.unit, L, P, op.state_size(), op.chunk_size, best);
  p.both = true;
  const index_t nc = p.chunks(), size = p.shared_size(), grad_size = p.grad_size();
  // at least 4 heads in a block of sums, at most 4 blocks in a group: whatever the batch
  const index_t block = std::max<index_t>(4, (per + 3) / 4), parts = (per + block - 1) / block;
  auto frame = ctx.scratch.make_frame();
  const view<index_t, 2> starts = detail::sequence_starts(ctx, op.seq_idx);
  const auto initial = detail::wide_states<E>(ctx, op.initial_states);
  const auto sums = ctx.scratch.template make<A, 3>({{batch, H, 2 + P}});
  const index_t slab =
      detail::ssd_slab(double(G * nc * (size + parts * grad_size)) * double(sizeof(A)), batch);
  for (index_t from = 0; from < batch; from += slab) {
    const index_t n = std::min(slab, batch - from);
    auto slab_frame = ctx.scratch.make_frame();
    const A* const shared = detail::share_ssd<E>(ctx, op, k, p, from, n);
    A* const grads = ctx.scratch.template make<A, 1>({{n * G * parts * nc * grad_size}}).data;
    detail::for_each_with_scratch<A>(ctx, n * G * parts, k.scratch(p), [&](index_t i, A* scratch) {
      const simd::without_denormals scope;
      const index_t part = i % parts, g = i / parts % G, b = from + i / parts / G;
      for (index_t j = part * block; j < std::min(per, (part + 1) * block); ++j) {
        const index_t h = g * per + j;
        simd::ssd_backward_task<T> t;
        t.plan = p, t.head = detail::ssd_head_of<T>(op, initial, starts, b, h), t.scratch = scratch;
        t.shared = shared + ((b - from) * G + g) * nc * size;
        t.shared_grad = grads + i * nc * grad_size, t.first = j == part * block;
        t.dy = detail::strided_rows(op.dy.data + b * op.dy.stride[0] + h * op.dy.stride[2],
                                    op.dy.stride[1]);
        t.dx = detail::strided_rows(op.dx.data + b * op.dx.stride[0] + h * op.dx.stride[2],
                                    op.dx.stride[1]);
        if (op.dz)
          t.dz = detail::strided_rows(op.dz.data + b * op.dz.stride[0] + h * op.dz.stride[2],
                                      op.dz.stride[1]);
        t.ddt = op.ddt.data + b * op.ddt.stride[0] + h * op.ddt.stride[2];
        t.ddt_row = op.ddt.stride[1];
        t.dlast = detail::state_rows(op.dfinal_states, b, h);
        t.dinitial = detail::state_rows(op.dinitial_states, b, h);
        t.sums = &sums(b, h, 0);
        k.backward(t);
      }
    });
    const index_t finish_scratch = grad_size + p.chunk_ * p.chunk_ + p.states_ * p.chunk_;
    detail::for_each_with_scratch<A>(ctx, n * G * nc, finish_scratch, [&](index_t i, A* scratch) {
      const simd::without_denormals scope;
      const index_t c = i % nc, g = i / nc % G, b = from + i / nc / G;
      k.finish(p, c, shared + i * size, grads + ((i / nc) * parts * nc + c) * grad_size, parts,
               nc * grad_size, detail::group_rows(op.dB, b, g), detail::group_rows(op.dC, b, g),
               scratch);
    });
  }
  for (index_t h = 0; h < H; ++h) {
    A dA = 0, dbias = 0;
    for (index_t b = 0; b < batch; ++b) dA += sums(b, h, 0), dbias += sums(b, h, 1);
    if (op.dA) op.dA(h) += dA;
    if (op.ddt_bias) op.ddt_bias(h) += dbias;
    for (index_t q = 0; op.dD && q < P; ++q) {
      A dD = 0;
      for (index_t b = 0; b < batch; ++b) dD += sums(b, h, 2 + q);
      op.dD(h, q) += dD;
    }
  }
}

template <class E>
void execute(context<cpu>& ctx, const ops::ssd_step<E>& op) {
  using A = typename E::accum;
  using T = typename E::value;
  const auto& k = simd::cpu_kernels<simd::ssd_step_entries<T, typename E::state>>();
  const index_t H = op.x.size[1], per = H / op.B.size[1];
  const simd::ssd_plan p = detail::plan_ssd(k.unit, 1, op.x.size[2], op.B.size[2], 1, 1);
  detail::for_each_with_scratch<A>(
      ctx, op.x.size[0] * H, 2 * p.states_ + 3 * p.channels_, [&](index_t i, A* scratch) {
        const simd::without_denormals scope;
        const index_t b = i / H, h = i % H;
        simd::ssd_head<T> s;
        s.x.at = op.x.data + b * op.x.stride[0] + h * op.x.stride[1];
        if (op.z) s.z.at = op.z.data + b * op.z.stride[0] + h * op.z.stride[1];
        s.dt = op.dt.data + b * op.dt.stride[0] + h * op.dt.stride[1];
        s.rate = op.A.data[h * op.A.stride[0]];
        if (op.dt_bias) s.dt_bias = op.dt_bias.data[h * op.dt_bias.stride[0]];
        s.dt_min = op.dt_min, s.dt_max = op.dt_max, s.softplus = op.dt_softplus;
        if (op.D) s.D = op.D.data + h * op.D.stride[0], s.D_stride = op.D.stride[1];
        k.step(p, s, op.B.data + b * op.B.stride[0] + (h / per) * op.B.stride[1],
               op.C.data + b * op.C.stride[0] + (h / per) * op.C.stride[1],
               op.y.data + b * op.y.stride[0] + h * op.y.stride[1],
               detail::state_rows(op.state, b, h), scratch);
      });
}

}  // namespace mlmamba::backend
