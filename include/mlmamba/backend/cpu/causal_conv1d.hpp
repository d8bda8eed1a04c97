// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Causal convolution on the CPU: forward by runs of tokens, backward by row of the batch and block
// of channels. Gradients of weights are sums over the tokens of a row, then over rows in order.
#pragma once

#include "mlmamba/backend/cpu/simd/dispatch.hpp"
#include "mlmamba/backend/cpu/workers.hpp"
#include "mlmamba/ops/causal_conv1d.hpp"

namespace mlmamba::backend {

namespace detail {

inline constexpr index_t conv_tokens = 64;  // of a forward task
// Long enough for the processor to see that rows are streams; weights of this fit the first cache.
inline constexpr index_t conv_channels = 1024;
inline constexpr index_t conv_step_channels = 512;  // most of a task of one token

/// Weights and bias of channels [from, to) as kernels read them: (W + 1, pitch), channels in the
/// order of the lanes.
template <class E, class Op>
void pack_conv_weights(const Op& op, index_t from, index_t to, typename E::accum* packed,
                       index_t pitch) {
  simd::cpu_kernels<simd::conv_entries<typename E::value>>().pack(
      {.weight = op.weight.data + from * op.weight.stride[0],
       .weight_stride = {op.weight.stride[0], op.weight.stride[1]},
       .channels = to - from,
       .width = op.weight.size[1],
       .bias = op.bias ? op.bias.data + from * op.bias.stride[0] : nullptr,
       .bias_stride = op.bias.stride[0],
       .to = packed,
       .pitch = pitch});
}
inline index_t conv_pitch(index_t channels) {
  return (channels + simd::conv_unit - 1) / simd::conv_unit * simd::conv_unit;
}
template <class E, class Op>
view<typename E::accum, 2> pack_conv_weights(context<cpu>& ctx, const Op& op) {
  const index_t D = op.weight.size[0], W = op.weight.size[1], pitch = conv_pitch(D);
  const auto p = ctx.scratch.template make<typename E::accum, 2>({{W + 1, pitch}});
  pack_conv_weights<E>(op, 0, D, p.data, pitch);
  return p;
}

/// States (B, D, W - 1) with any strides as (B, W - 1, D), and back.
template <class T>
view<T, 3> pack_conv_states(context<cpu>& ctx, const view<const T, 3>& s) {
  if (!s) return {};
  auto p = ctx.scratch.template make<T, 3>({{s.size[0], s.size[2], s.size[1]}});
  for (index_t b = 0; b < s.size[0]; ++b)
    for (index_t w = 0; w < s.size[2]; ++w)
      for (index_t d = 0; d < s.size[1]; ++d) p(b, w, d) = s(b, d, w);
  return p;
}

/// Bit w: tap w counts for token t of row b. 0: padding.
inline std::uint8_t conv_counts(const view<const std::int32_t, 2>& seq, index_t b, index_t t,
                                index_t width) {
  if (!seq) return 0xff;
  const std::int32_t now = seq(b, t);
  unsigned bits = 0;
  for (index_t w = 0; w < width && now >= 0; ++w) {
    const index_t s = t + w - (width - 1);
    if (seq(b, s < 0 ? 0 : s) == now) bits |= 1u << w;
  }
  return std::uint8_t(bits);
}

}  // namespace detail

template <class E>
void execute(context<cpu>& ctx, const ops::causal_conv1d<E>& op) {
  using A = typename E::accum;
  using T = typename E::value;
  const index_t batch = op.x.size[0], L = op.x.size[1], D = op.x.size[2], W = op.weight.size[1];
  const auto kernel = simd::cpu_kernels<simd::conv_entries<T>>().forward;
  auto frame = ctx.scratch.make_frame();
  const view<A, 2> packed = detail::pack_conv_weights<E>(ctx, op);
  const view<T, 3> before = detail::pack_conv_states<T>(ctx, op.initial_states);
  const index_t tiles = (L + detail::conv_tokens - 1) / detail::conv_tokens;

  // `tokens` tokens from t, channels from d; all have the same taps
  auto run_rows = [&](index_t b, index_t t, index_t tokens, index_t d, unsigned counts) {
    simd::conv_rows<T> r;
    r.tokens = tokens, r.channels = std::min(detail::conv_channels, D - d), r.taps = 0;
    r.x_row = op.x.stride[1], r.y_row = op.y.stride[1];
    r.bias = &packed(W, d);
    r.y = op.y.data + b * op.y.stride[0] + t * r.y_row + d;
    r.silu = op.activation == activation::silu;
    if (counts == 0) {
      std::fill_n(r.y, r.channels, T(A(0)));
      return;
    }
    for (index_t w = 0; w < W; ++w) {
      const index_t s = t + w - (W - 1);
      if (!(counts >> w & 1u) || (s < 0 && !before)) continue;
      r.weight[r.taps] = &packed(w, d);
      r.x[r.taps++] = s >= 0 ? op.x.data + b * op.x.stride[0] + s * r.x_row + d
                             : before.data + (b * (W - 1) + s + W - 1) * D + d;
    }
    kernel(r);
  };
  ctx.parallel_for(batch * tiles, [&](index_t i) {
    const index_t b = i / tiles, from = i % tiles * detail::conv_tokens;
    const index_t to = std::min(L, from + detail::conv_tokens);
    for (index_t d = 0; d < D; d += detail::conv_channels)
      for (index_t t = from; t < to;) {
        // one by one where the state before or other sequences are near
        const index_t n = op.seq_idx || t < W - 1 ? 1 : to - t;
        run_rows(b, t, n, d, detail::conv_counts(op.seq_idx, b, t, W));
        t += n;
      }
  });
  if (!op.final_states) return;
  for (index_t b = 0; b < batch; ++b)
    for (index_t w = 0; w < W - 1; ++w) {
      const index_t s = L - (W - 1) + w;
      for (index_t d = 0; d < D; ++d)
        op.final_states(b, d, w) = s >= 0   ? op.x(b, s, d)
                                   : before ? before(b, s + W - 1, d)
                                            : T(A(0));
    }
}

template <class E>
void execute(context<cpu>& ctx, const ops::causal_conv1d_backward<E>& op) {
  using A = typename E::accum;
  using T = typename E::value;
  const index_t batch = op.x.size[0], L = op.x.size[1], D = op.x.size[2], W = op.weight.size[1];
  const auto kernel = simd::cpu_kernels<simd::conv_backward_entries<T>>().backward;
  auto frame = ctx.scratch.make_frame();
  const view<A, 2> packed = detail::pack_conv_weights<E>(ctx, op);
  const view<T, 3> before = detail::pack_conv_states<T>(ctx, op.initial_states);
  const view<T, 3> dlast = detail::pack_conv_states<T>(ctx, op.dfinal_states);
  view<T, 3> dbefore;
  if (op.dinitial_states) dbefore = ctx.scratch.template make<T, 3>({{batch, W - 1, D}});
  view<std::uint8_t, 2> counts;
  if (op.seq_idx) {
    counts = ctx.scratch.template make<std::uint8_t, 2>({{batch, L}});
    for (index_t b = 0; b < batch; ++b)
      for (index_t t = 0; t < L; ++t) counts(b, t) = detail::conv_counts(op.seq_idx, b, t, W);
  }
  const auto sums = ctx.scratch.template make<A, 3>({{batch, W + 1, D}});
  // As wide as rows are read best, unless threads would have nothing to do.
  const index_t share = batch * D / (4 * index_t(ctx.threads.size()));
  const index_t block =
      std::clamp(share / simd::conv_unit * simd::conv_unit, simd::conv_unit, simd::conv_block);
  const index_t blocks = (D + block - 1) / block;
  ctx.parallel_for(batch * blocks, [&](index_t i) {
    const index_t b = i / blocks, d = i % blocks * block;
    simd::conv_backward_task<T> t{};
    t.length = L, t.width = W, t.channels = std::min(block, D - d), t.pitch = D;
    t.packed_pitch = packed.stride[0];
    t.x = op.x.data + b * op.x.stride[0] + d, t.x_row = op.x.stride[1];
    t.dy = op.dy.data + b * op.dy.stride[0] + d, t.dy_row = op.dy.stride[1];
    t.dx = op.dx.data + b * op.dx.stride[0] + d, t.dx_row = op.dx.stride[1];
    if (before) t.before = &before(b, 0, d);
    if (dlast) t.dlast = &dlast(b, 0, d);
    if (dbefore) t.dbefore = &dbefore(b, 0, d);
    t.weight = &packed(0, d);
    if (counts) t.counts = counts.data + b * L;
    t.dweight = &sums(b, 0, d), t.dbias = &sums(b, W, d);
    t.silu = op.activation == activation::silu;
    kernel(t);
  });
  for (index_t b = 0; b < batch && dbefore; ++b)
    for (index_t w = 0; w < W - 1; ++w)
      for (index_t d = 0; d < D; ++d) op.dinitial_states(b, d, w) = dbefore(b, w, d);
  const index_t weights = op.dweight ? W : 0;
  detail::for_each_run(ctx, D, 64, [&](index_t from, index_t to) {
    for (index_t d = from; d < to; ++d) {
      for (index_t w = 0; w < weights; ++w) {
        A sum = 0;
        for (index_t b = 0; b < batch; ++b) sum += sums(b, w, d);
        op.dweight(d, w) += sum;
      }
      A sum = 0;
      for (index_t b = 0; b < batch && op.dbias; ++b) sum += sums(b, W, d);
      if (op.dbias) op.dbias(d) += sum;
    }
  });
}

template <class E>
void execute(context<cpu>& ctx, const ops::causal_conv1d_step<E>& op) {
  using A = typename E::accum;
  using T = typename E::value;
  static_assert(sizeof(T) <= sizeof(A));
  const index_t batch = op.x.size[0], D = op.x.size[1], W = op.weight.size[1];
  const auto kernel = simd::cpu_kernels<simd::conv_entries<T>>().forward;
  const index_t by_d = op.state.stride[1], by_w = op.state.stride[2];
  const bool in_rows = by_d == 1 || D <= 1;
  // Tasks are blocks of channels of some rows: two or more for each thread.
  const index_t wanted = 2 * index_t(ctx.threads.size());
  const index_t block = std::clamp(detail::conv_pitch((D + wanted - 1) / wanted),
                                   4 * simd::conv_unit, detail::conv_step_channels);
  const index_t blocks = (D + block - 1) / block;
  const index_t rows = std::max<index_t>(1, batch * blocks / wanted);
  const index_t runs = (batch + rows - 1) / rows;
  detail::for_each_with_scratch<A>(ctx, runs * blocks, 2 * W * block, [&](index_t i, A* scratch) {
    const index_t d = i % blocks * block, n = std::min(block, D - d);
    const index_t from = i / blocks * rows, to = std::min(batch, from + rows);
    // Products that read all weights of a model ran since the last step: these are in memory, and
    // too short for the processor to see that they are streams.
    if (op.weight.stride[1] == 1)
      detail::fetch(&op.weight(d, 0), n * op.weight.stride[0] * index_t(sizeof(A)));
    if (op.bias && op.bias.stride[0] == 1) detail::fetch(&op.bias(d), n * index_t(sizeof(A)));
    for (index_t b = from; b < to && in_rows; ++b)
      for (index_t w = 0; w < W - 1; ++w) detail::fetch(&op.state(b, d, w), n * index_t(sizeof(T)));
    detail::pack_conv_weights<E>(op, d, d + n, scratch, block);
    simd::conv_rows<T> r;
    r.tokens = 1, r.channels = n, r.taps = W;
    r.x_row = r.y_row = 0;
    r.bias = scratch + W * block;
    r.silu = op.activation == activation::silu;
    for (index_t b = from; b < to; ++b) {
      T* state = op.state.data + b * op.state.stride[0] + d * by_d;
      T* gathered = reinterpret_cast<T*>(scratch + (W + 1) * block);
      for (index_t w = 0; w < W - 1; ++w) {
        r.x[w] = in_rows ? state + w * by_w : gathered + w * block;
        for (index_t k = 0; k < n && !in_rows; ++k)
          gathered[w * block + k] = state[k * by_d + w * by_w];
      }
      for (index_t w = 0; w < W; ++w) r.weight[w] = scratch + w * block;
      r.x[W - 1] = op.x.data + b * op.x.stride[0] + d;
      r.y = op.y.data + b * op.y.stride[0] + d;
      kernel(r);
      for (index_t w = 0; w < W - 1; ++w) {
        if (in_rows) {
          std::copy_n(r.x[w + 1], n, state + w * by_w);
        } else {
          for (index_t k = 0; k < n; ++k) state[k * by_d + w * by_w] = r.x[w + 1][k];
        }
      }
    }
  });
}

}  // namespace mlmamba::backend
