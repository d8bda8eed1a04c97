// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Selective scan on a GPU: chunks of tokens that are scanned side by side and joined by their
// states.
#pragma once

#include <algorithm>

#include "mlmamba/backend/cuda/selective_scan_channels.cuh"
#include "mlmamba/backend/cuda/selective_scan_plan.cuh"

namespace mlmamba::backend {

namespace kernels {

/// 16 lanes scan a channel of a chunk; a lane has elements n = lane, lane + 16, ... (`Per` of
/// them). `Ends`: from a zero state, only what it leaves.
template <class Per, class Ends, class E>
__global__ void __launch_bounds__(block_threads)
    selective_scan_kernel(const selective_scan_plan<E> plan) {
  using A = typename E::accum;
  constexpr int per = Per::value, span = per * scan_lanes;
  constexpr bool ends = Ends::value != 0;
  const ops::selective_scan<E>& op = plan.op;
  const index_t length = op.x.size[1], channels = op.x.size[2], states = op.A.size[1];
  index_t b = thread_index() / scan_lanes;
  const bool inside = b < op.x.size[0] * plan.chunks * channels;
  if (!inside) b = 0;  // stays for the sums over lanes, writes nothing
  const index_t d = take_index(b, channels), c = take_index(b, plan.chunks);
  const index_t g = d / (channels / op.B.size[2]), n0 = plan.first_n;
  const int lane = int(threadIdx.x) % scan_lanes;
  const index_t begin = c * plan.chunk,
                end = begin + plan.chunk < length ? begin + plan.chunk : length;
  // All lanes of a warp make the same number of turns: the last chunk may be shorter.
  const index_t turns = plan.chunk;

  A S[per], decays[per], rate[per];
#pragma unroll
  for (int k = 0; k < per; ++k) {
    const index_t n = n0 + lane + k * scan_lanes;
    const bool there = n < states;
    rate[k] = there ? op.A(d, n) : A(0);
    decays[k] = A(1);
    S[k] = A(0);
    if (!ends && there && plan.chunks > 1) S[k] = plan.ends(b, c, d, n);
    if (!ends && there && plan.chunks == 1 && op.initial_states)
      S[k] = A(op.initial_states(b, d, n));
  }

  for (index_t turn = 0; turn < turns; ++turn) {
    const index_t t = begin + turn;
    const bool now = t < end;
    A sum = 0, x = 0;
    if (now) {
      const A dt = scan_dt(op, A(op.dt(b, t, d)), d);
      x = A(op.x(b, t, d));
      const bool starts = op.seq_idx && scan_begins<E>(op.seq_idx, b, t);
#pragma unroll
      for (int k = 0; k < per; ++k) {
        const index_t n = n0 + lane + k * scan_lanes;
        if (n >= states) continue;
        const A decay = starts ? A(0) : math::exp(dt * rate[k]);
        const A carried = starts ? A(0) : decay * S[k];  // a start drops even infinities
        S[k] = multiply_add(dt * x, A(op.B(b, t, g, n)), carried);
        decays[k] *= decay;
        if constexpr (!ends) sum = multiply_add(A(op.C(b, t, g, n)), S[k], sum);
      }
    }
    if constexpr (!ends) {
      sum = warp_sum<scan_lanes>(sum);
      if (now && inside && lane == 0) {
        if (n0 > 0) sum += plan.partial(b, t, d);
        if (n0 + span < states) {
          plan.partial(b, t, d) = sum;
        } else {
          if (op.D) sum = multiply_add(op.D(d), x, sum);
          if (op.z) sum *= apply_activation(activation::silu, A(op.z(b, t, d)));
          op.y(b, t, d) = typename E::value(sum);
        }
      }
    }
  }

  if (!inside) return;
#pragma unroll
  for (int k = 0; k < per; ++k) {
    const index_t n = n0 + lane + k * scan_lanes;
    if (n >= states) continue;
    if (ends) {
      plan.ends(b, c, d, n) = S[k];
      plan.decay(b, c, d, n) = decays[k];
    } else if (plan.chunks == 1 && op.final_states) {
      op.final_states(b, d, n) = typename E::state(S[k]);
    }
  }
}

/// A warp has one channel.
template <class E>
__global__ void selective_scan_step_kernel(const ops::selective_scan_step<E> op) {
  using A = typename E::accum;
  index_t b = thread_index() / warp_size;
  if (b >= op.x.count()) return;
  const index_t d = take_index(b, op.x.size[1]), g = d / (op.x.size[1] / op.B.size[1]);
  const A dt = scan_dt(op, A(op.dt(b, d)), d), x = A(op.x(b, d));
  A sum = 0;
  for (index_t n = lane_index(); n < op.state.size[2]; n += warp_size) {
    const A s =
        multiply_add(dt * x, A(op.B(b, g, n)), math::exp(dt * op.A(d, n)) * A(op.state(b, d, n)));
    op.state(b, d, n) = typename E::state(s);
    sum = multiply_add(A(op.C(b, g, n)), s, sum);
  }
  sum = warp_sum(sum);
  if (lane_index() != 0) return;
  if (op.D) sum = multiply_add(op.D(d), x, sum);
  if (op.z) sum *= apply_activation(activation::silu, A(op.z(b, d)));
  op.y(b, d) = typename E::value(sum);
}

template <class Ends, class E>
void launch_selective_scan(context<cuda>& ctx, selective_scan_plan<E> plan) {
  const auto& n = plan.op.x.size;
  const unsigned blocks = blocks_for(n[0] * plan.chunks * n[2] * scan_lanes, block_threads);
  const index_t states = plan.op.A.size[1];
  const auto launch = [&](auto per) {
    for (plan.first_n = 0; plan.first_n == 0 || plan.first_n < states;
         plan.first_n += per.value * scan_lanes) {
      selective_scan_kernel<decltype(per), Ends, E><<<blocks, block_threads, 0, ctx.stream>>>(plan);
      launched(plan.name);
    }
  };
  if (states <= 16) {
    launch(constant<1>{});
  } else {
    launch(constant<4>{});  // more than 64 in several launches, joined by partial sums
  }
}

}  // namespace kernels

template <class E>
void execute(context<cuda>& ctx, const ops::selective_scan<E>& op) {
  using A = typename E::accum;
  const index_t b = op.x.size[0], l = op.x.size[1], d = op.x.size[2], n = op.A.size[1];
  if (b == 0 || d == 0) return;
  if constexpr (std::is_same_v<A, float>)
    if (op.algorithm != ops::scan_algorithm::sequential && kernels::scans_by_channels(op) &&
        kernels::in_pieces(op.y))
      return kernels::run_scan_by_channels(ctx, op);
  constexpr index_t usual_chunk = 128;
  auto frame = ctx.scratch.make_frame();
  kernels::selective_scan_plan<E> plan{op, std::max<index_t>(l, 1), 1, {}, {}, {}, 0};
  if (op.algorithm != ops::scan_algorithm::sequential && l > 0) {
    plan.chunk = std::min(usual_chunk, l);
    plan.chunks = (l + plan.chunk - 1) / plan.chunk;
  }
  if (n > 64) plan.partial = ctx.scratch.template make<A>(shape<3>{{b, l, d}});
  if (plan.chunks > 1) {
    plan.ends = ctx.scratch.template make<A>(shape<4>{{b, plan.chunks, d, n}});
    plan.decay = ctx.scratch.template make<A>(shape<4>{{b, plan.chunks, d, n}});
    kernels::launch_selective_scan<kernels::constant<1>>(ctx, plan);
    kernels::launch_elements(ctx, kernels::selective_scan_join_kernel<E>, b * d * n, plan);
  }
  kernels::launch_selective_scan<kernels::constant<0>>(ctx, plan);
}

template <class E>
void execute(context<cuda>& ctx, const ops::selective_scan_step<E>& op) {
  kernels::launch_elements(ctx, kernels::selective_scan_step_kernel<E>,
                           op.x.count() * kernels::warp_size, op);
}

}  // namespace mlmamba::backend
