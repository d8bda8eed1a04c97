// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Backward of the selective scan on a GPU: chunks side by side, joined by their states and
// adjoints.
#pragma once

#include "mlmamba/backend/cuda/column_sums.cuh"
#include "mlmamba/backend/cuda/selective_scan.cuh"
#include "mlmamba/backend/cuda/selective_scan_backward_channels.cuh"

namespace mlmamba::backend {

namespace kernels {

/// Tokens in a chunk: their states are kept in registers.
inline constexpr int scan_tokens = 16;
/// Channels of a block, of one group.
inline constexpr int scan_channels = block_threads / scan_lanes;

/// The backward in launches as of ssd_backward_plan (ssd_backward_chunk.cuh): what chunks leave,
/// the join, the gradients of each chunk (again for every 16 elements of the state), and sums over
/// the channels of a group.
template <class E>
struct selective_scan_backward_plan {
  static constexpr const char* name = ops::selective_scan_backward<E>::name;
  template <int R>
  using wide = view<typename E::accum, R, memory::device>;
  ops::selective_scan_backward<E> op;
  index_t chunks, tiles;            // tiles of channels in a group
  wide<4> states, adjoints, decay;  // (B, chunks, D, N); decay becomes dA of each chunk
  wide<3> dx, ddt, v;               // (B, L, D): sums over n; v only with a gate
  wide<5> dB, dC;                   // (B, L, G, tiles, N)
  index_t first_n = 0;              // the elements of the state of this launch
};

/// The gradient before the gate.
template <class E>
__device__ typename E::accum scan_dv(const ops::selective_scan_backward<E>& op, index_t b,
                                     index_t t, index_t d) {
  using A = typename E::accum;
  const A dy = A(op.dy(b, t, d));
  return op.z ? dy * apply_activation(activation::silu, A(op.z(b, t, d))) : dy;
}

/// What each chunk leaves to the adjoint of the state before it: one thread per element.
template <class E>
__global__ void selective_scan_adjoint_kernel(const selective_scan_backward_plan<E> plan) {
  using A = typename E::accum;
  const auto& op = plan.op;
  index_t b = thread_index();
  if (b >= plan.adjoints.count()) return;
  const index_t n = take_index(b, op.A.size[1]), d = take_index(b, op.x.size[2]),
                c = take_index(b, plan.chunks), length = op.x.size[1];
  const index_t g = d / (op.x.size[2] / op.B.size[2]), begin = c * scan_tokens;
  const index_t end = begin + scan_tokens < length ? begin + scan_tokens : length;
  const A rate = op.A(d, n);
  A adjoint = 0;
  for (index_t t = end - 1; t >= begin; --t) {
    adjoint = multiply_add(scan_dv(op, b, t, d), A(op.C(b, t, g, n)), adjoint);
    const A dt = scan_dt(op, A(op.dt(b, t, d)), d);
    adjoint = scan_starts(op, b, t) ? A(0) : adjoint * math::exp(dt * rate);
  }
  plan.adjoints(b, c, d, n) = adjoint;
}

/// After this, adjoints are of the states that leave the chunks.
template <class E>
__global__ void selective_scan_adjoint_join_kernel(const selective_scan_backward_plan<E> plan) {
  using A = typename E::accum;
  const auto& op = plan.op;
  index_t b = thread_index();
  if (b >= op.x.size[0] * op.x.size[2] * op.A.size[1]) return;
  const index_t n = take_index(b, op.A.size[1]), d = take_index(b, op.x.size[2]);
  A adjoint = op.dfinal_states ? op.dfinal_states(b, d, n) : A(0);
  for (index_t c = plan.chunks - 1; c >= 0; --c) {
    A& slot = plan.adjoints(b, c, d, n);
    const A left = slot, decay = plan.decay(b, c, d, n);
    slot = adjoint;
    adjoint = decay == A(0) ? left : multiply_add(decay, adjoint, left);
  }
  if (op.dinitial_states) op.dinitial_states(b, d, n) = adjoint;
}

/// A block has a chunk of 16 channels, 16 lanes each; a lane has one element of the state.
template <class E>
__global__ void __launch_bounds__(block_threads)
    selective_scan_chunk_kernel(const selective_scan_backward_plan<E> plan) {
  using A = typename E::accum;
  __shared__ A dBs[scan_tokens][scan_channels][scan_lanes],
      dCs[scan_tokens][scan_channels][scan_lanes];
  const auto& op = plan.op;
  const index_t length = op.x.size[1], states = op.A.size[1], groups = op.B.size[2],
                per_group = op.x.size[2] / groups;
  index_t b = blockIdx.x;
  const index_t tile = take_index(b, plan.tiles), g = take_index(b, groups),
                c = take_index(b, plan.chunks), begin = c * scan_tokens;
  const int count = int(length - begin < scan_tokens ? length - begin : index_t(scan_tokens));
  const int lane = int(threadIdx.x) % scan_lanes, slot = int(threadIdx.x) / scan_lanes;
  const index_t of_group = tile * scan_channels + slot, d = g * per_group + of_group,
                n = plan.first_n + lane;
  const bool inside = of_group < per_group, there = inside && n < states;
  const A rate = there ? op.A(d, n) : A(0);

  A h[scan_tokens + 1], keep[scan_tokens], dt[scan_tokens], x[scan_tokens];
  h[0] = there ? plan.states(b, c, d, n) : A(0);
#pragma unroll
  for (int i = 0; i < scan_tokens; ++i) {
    keep[i] = A(1), dt[i] = x[i] = A(0), h[i + 1] = h[i];
    if (i >= count || !inside) continue;
    const index_t t = begin + i;
    dt[i] = scan_dt(op, A(op.dt(b, t, d)), d);
    x[i] = A(op.x(b, t, d));
    keep[i] = scan_starts(op, b, t) ? A(0) : math::exp(dt[i] * rate);
    const A carried = keep[i] == A(0) ? A(0) : keep[i] * h[i];
    h[i + 1] = there ? multiply_add(dt[i] * x[i], A(op.B(b, t, g, n)), carried) : A(0);
  }

  A adjoint = there ? plan.adjoints(b, c, d, n) : A(0), dA = 0;
#pragma unroll
  for (int i = scan_tokens - 1; i >= 0; --i) {
    const index_t t = begin + i;
    const bool now = i < count && inside;
    const A dv = now ? scan_dv(op, b, t, d) : A(0);
    const A B = now && there ? A(op.B(b, t, g, n)) : A(0);
    const A C = now && there ? A(op.C(b, t, g, n)) : A(0);
    adjoint = multiply_add(dv, C, adjoint);
    dBs[i][slot][lane] = adjoint * dt[i] * x[i];
    dCs[i][slot][lane] = dv * h[i + 1];
    const A through = keep[i] == A(0) ? A(0) : adjoint * keep[i] * h[i];
    dA = multiply_add(dt[i], through, dA);
    const A dx = warp_sum<scan_lanes>(adjoint * B * dt[i]);
    const A ddt = warp_sum<scan_lanes>(multiply_add(adjoint * B, x[i], rate * through));
    const A v = op.z ? warp_sum<scan_lanes>(C * h[i + 1]) : A(0);
    adjoint = keep[i] == A(0) ? A(0) : adjoint * keep[i];
    if (!now || lane != 0) continue;
    const bool first = plan.first_n == 0;
    plan.dx(b, t, d) = first ? dx : plan.dx(b, t, d) + dx;
    plan.ddt(b, t, d) = first ? ddt : plan.ddt(b, t, d) + ddt;
    if (op.z) plan.v(b, t, d) = first ? v : plan.v(b, t, d) + v;
  }
  if (there) plan.decay(b, c, d, n) = dA;

  __syncthreads();
  const int i = slot;  // now a thread has a token
  if (i >= count || n >= states) return;
  A dB = 0, dC = 0;
  for (int k = 0; k < scan_channels; ++k) {
    dB += dBs[i][k][lane];
    dC += dCs[i][k][lane];
  }
  plan.dB(b, begin + i, g, tile, n) = dB;
  plan.dC(b, begin + i, g, tile, n) = dC;
}

/// dx, ddt, dz from the sums over the state.
template <class E>
__global__ void selective_scan_finish_kernel(const selective_scan_backward_plan<E> plan) {
  using A = typename E::accum;
  using V = typename E::value;
  const auto& op = plan.op;
  index_t b = thread_index();
  if (b >= op.x.count()) return;
  const index_t d = take_index(b, op.x.size[2]), t = take_index(b, op.x.size[1]);
  const A skip = op.D ? op.D(d) : A(0), x = A(op.x(b, t, d));
  op.dx(b, t, d) = V(multiply_add(skip, scan_dv(op, b, t, d), plan.dx(b, t, d)));
  A ddt = plan.ddt(b, t, d);
  if (op.dt_softplus) {
    const A raw = A(op.dt(b, t, d)) + (op.dt_bias ? op.dt_bias(d) : A(0));
    ddt *= math::softplus_derivative(raw);
  }
  plan.ddt(b, t, d) = ddt;
  op.ddt(b, t, d) = V(ddt);
  if (!op.z) return;
  const A v = multiply_add(skip, x, plan.v(b, t, d));
  const A slope = activation_derivative(activation::silu, A(op.z(b, t, d)));
  op.dz(b, t, d) = V(A(op.dy(b, t, d)) * v * slope);
}

/// dB and dC: the tiles of channels of a group, ascending.
template <class E>
__global__ void selective_scan_group_kernel(const selective_scan_backward_plan<E> plan) {
  using A = typename E::accum;
  using V = typename E::value;
  const auto& op = plan.op;
  index_t b = thread_index();
  if (b >= op.dB.count()) return;
  const index_t n = take_index(b, op.B.size[3]), g = take_index(b, op.B.size[2]),
                t = take_index(b, op.B.size[1]);
  A dB = 0, dC = 0;
  for (index_t tile = 0; tile < plan.tiles; ++tile) {
    dB += plan.dB(b, t, g, tile, n);
    dC += plan.dC(b, t, g, tile, n);
  }
  op.dB(b, t, g, n) = V(dB);
  op.dC(b, t, g, n) = V(dC);
}

/// dD and ddt_bias.
template <class E>
struct selective_scan_channel_term {
  static constexpr const char* name = ops::selective_scan_backward<E>::name;
  static constexpr int outputs = 2;
  using accum = typename E::accum;
  selective_scan_backward_plan<E> plan;

  index_t rows() const { return plan.op.x.size[0] * plan.op.x.size[1]; }
  index_t columns() const { return plan.op.x.size[2]; }
  __device__ void add(index_t b, index_t d, accum (&sums)[outputs]) const {
    const auto& op = plan.op;
    const index_t t = take_index(b, op.x.size[1]);
    sums[0] = multiply_add(scan_dv(op, b, t, d), accum(op.x(b, t, d)), sums[0]);
    sums[1] += plan.ddt(b, t, d);
  }
  __device__ accum* target(int k, index_t d) const {
    if (k == 0) return plan.op.dD ? &plan.op.dD(d) : nullptr;
    return plan.op.ddt_bias ? &plan.op.ddt_bias(d) : nullptr;
  }
};

/// dA from those of the chunks.
template <class E>
struct selective_scan_rate_term {
  static constexpr const char* name = ops::selective_scan_backward<E>::name;
  static constexpr int outputs = 1;
  using accum = typename E::accum;
  selective_scan_backward_plan<E> plan;

  index_t rows() const { return plan.op.x.size[0] * plan.chunks; }
  index_t columns() const { return plan.op.A.count(); }
  __device__ void add(index_t b, index_t d, accum (&sums)[outputs]) const {
    const index_t c = take_index(b, plan.chunks), n = take_index(d, plan.op.A.size[1]);
    sums[0] += plan.decay(b, c, d, n);
  }
  __device__ accum* target(int, index_t d) const {
    const index_t n = take_index(d, plan.op.A.size[1]);
    return &plan.op.dA(d, n);
  }
};

/// The states that enter the chunks, and by how much a chunk decays a state: as forward.
template <class E>
void scan_states(context<cuda>& ctx, const selective_scan_backward_plan<E>& plan) {
  const auto& op = plan.op;
  selective_scan_plan<E> forward{};
  forward.op.x = op.x, forward.op.dt = op.dt, forward.op.A = op.A;
  forward.op.B = op.B, forward.op.C = op.C, forward.op.dt_bias = op.dt_bias;
  forward.op.initial_states = op.initial_states, forward.op.seq_idx = op.seq_idx;
  forward.op.dt_softplus = op.dt_softplus;
  forward.chunk = scan_tokens, forward.chunks = plan.chunks;
  forward.ends = plan.states, forward.decay = plan.decay;
  launch_selective_scan<constant<1>>(ctx, forward);
  launch_elements(ctx, selective_scan_join_kernel<E>, op.x.size[0] * op.x.size[2] * op.A.size[1],
                  forward);
}

}  // namespace kernels

template <class E>
void execute(context<cuda>& ctx, const ops::selective_scan_backward<E>& op) {
  using A = typename E::accum;
  const index_t b = op.x.size[0], l = op.x.size[1], d = op.x.size[2], n = op.A.size[1],
                g = op.B.size[2];
  if (b == 0 || d == 0) return;
  if constexpr (std::is_same_v<A, float>)
    if (kernels::scans_back_by_channels(op)) return kernels::run_scan_back_by_channels(ctx, op);
  auto frame = ctx.scratch.make_frame();
  const auto make = [&](auto n) { return ctx.scratch.template make<A>(n); };
  kernels::selective_scan_backward_plan<E> plan{};
  plan.op = op;
  const index_t c = (l + kernels::scan_tokens - 1) / kernels::scan_tokens;
  plan.chunks = c;
  plan.tiles = (d / g + kernels::scan_channels - 1) / kernels::scan_channels;
  plan.states = make(shape<4>{{b, c, d, n}}), plan.adjoints = make(shape<4>{{b, c, d, n}});
  plan.decay = make(shape<4>{{b, c, d, n}});
  plan.dx = make(op.x.shape()), plan.ddt = make(op.x.shape());
  if (op.z) plan.v = make(op.x.shape());
  plan.dB = make(shape<5>{{b, l, g, plan.tiles, n}});
  plan.dC = make(shape<5>{{b, l, g, plan.tiles, n}});

  if (c > 0) kernels::scan_states(ctx, plan);
  kernels::launch_elements(ctx, kernels::selective_scan_adjoint_kernel<E>, b * c * d * n, plan);
  kernels::launch_elements(ctx, kernels::selective_scan_adjoint_join_kernel<E>, b * d * n, plan);
  for (plan.first_n = 0; plan.first_n == 0 || plan.first_n < n; plan.first_n += kernels::scan_lanes)
    kernels::launch_rows(ctx, kernels::selective_scan_chunk_kernel<E>, b * c * g * plan.tiles,
                         plan);
  kernels::launch_elements(ctx, kernels::selective_scan_finish_kernel<E>, op.x.count(), plan);
  kernels::launch_elements(ctx, kernels::selective_scan_group_kernel<E>, op.dB.count(), plan);
  if (op.dD || op.ddt_bias)
    kernels::add_column_sums(ctx, kernels::selective_scan_channel_term<E>{plan});
  if (op.dA) kernels::add_column_sums(ctx, kernels::selective_scan_rate_term<E>{plan});
}

}  // namespace mlmamba::backend
