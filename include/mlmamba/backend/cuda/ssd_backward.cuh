// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Backward of SSD on a GPU: chunks side by side, joined by their states and adjoint states.
#pragma once

#include <algorithm>

#include "mlmamba/backend/cuda/column_sums.cuh"
#include "mlmamba/backend/cuda/ssd_backward_chunk.cuh"
#include "mlmamba/backend/cuda/ssd_backward_tiles.cuh"
#include "mlmamba/backend/cuda/ssd_backward_warpgroups.cuh"

namespace mlmamba::backend {

namespace kernels {

/// What each chunk leaves to the state after it, and to the adjoint of the state before it. A block
/// has a chunk of one head.
template <class E>
__global__ void __launch_bounds__(block_threads)
    ssd_summary_kernel(const ssd_backward_plan<E> plan) {
  using A = typename E::accum;
  __shared__ tile_operands<A> operands;
  __shared__ ssd_chunk<A> chunk;
  const ssd_chunk_view<E> v(plan);
  chunk.load(v);
  if (threadIdx.x == 0) plan.decay(v.b, v.c, v.h) = chunk.from_start[ssd_chunk<A>::tokens - 1];
  constexpr int columns = tile<A, 4>::columns;
  for (index_t p0 = 0; p0 < v.width; p0 += tile_rows) {
    for (index_t n0 = 0; n0 < v.states; n0 += columns) {
      const auto keep = [&](const view<A, 5, memory::device>& to) {
        return [&, to](int i, int j, A value) {
          if (p0 + i < v.width && n0 + j < v.states) to(v.b, v.c, v.h, p0 + i, n0 + j) = value;
        };
      };
      tile<A, 4> state;
      state.add(
          operands, v.count, along::other,
          [&](int i, index_t t) { return chunk.dt[t] * chunk.to_end[t] * v.x(t, p0 + i); },
          along::other, [&](index_t t, int j) { return v.B(t, n0 + j); });
      state.for_each(keep(plan.states));
      tile<A, 4> adjoint;
      adjoint.add(
          operands, v.count, along::other,
          [&](int i, index_t t) { return chunk.from_start[t] * v.dv(t, p0 + i); }, along::other,
          [&](index_t t, int j) { return v.C(t, n0 + j); });
      adjoint.for_each(keep(plan.adjoints));
    }
  }
}

/// One thread per element of the state: after this, `states` enter their chunks and `adjoints` are
/// of the states that leave them.
template <class E>
__global__ void ssd_backward_join_kernel(const ssd_backward_plan<E> plan) {
  using A = typename E::accum;
  const auto& op = plan.op;
  index_t b = thread_index();
  if (b >= op.x.size[0] * op.x.size[2] * op.x.size[3] * op.B.size[3]) return;
  const index_t n = take_index(b, op.B.size[3]), p = take_index(b, op.x.size[3]),
                h = take_index(b, op.x.size[2]);
  A state = op.initial_states ? A(op.initial_states(b, h, p, n)) : A(0);
  for (index_t c = 0; c < plan.chunks; ++c) {
    A& slot = plan.states(b, c, h, p, n);
    const A left = slot, decay = plan.decay(b, c, h);
    slot = state;
    state = decay == A(0) ? left : multiply_add(decay, state, left);
  }
  A adjoint = op.dfinal_states ? op.dfinal_states(b, h, p, n) : A(0);
  for (index_t c = plan.chunks - 1; c >= 0; --c) {
    A& slot = plan.adjoints(b, c, h, p, n);
    const A left = slot, decay = plan.decay(b, c, h);
    slot = adjoint;
    adjoint = decay == A(0) ? left : multiply_add(decay, adjoint, left);
  }
  if (op.dinitial_states) op.dinitial_states(b, h, p, n) = adjoint;
}

/// dB and dC: the heads of a group (or sets of heads), ascending.
template <class E, class Plan>
__global__ void ssd_group_kernel(const Plan plan) {
  using A = typename E::accum;
  using V = typename E::value;
  const auto& op = plan.op;
  index_t b = thread_index();
  if (b >= op.dB.count()) return;
  const index_t n = take_index(b, op.B.size[3]), g = take_index(b, op.B.size[2]),
                t = take_index(b, op.B.size[1]);
  const index_t heads = plan.dB.size[2] / op.B.size[2];
  A dB = 0, dC = 0;
  for (index_t h = g * heads; h < (g + 1) * heads; ++h) {
    dB += plan.dB(b, t, h, n);
    dC += plan.dC(b, t, h, n);
  }
  op.dB(b, t, g, n) = V(dB);
  op.dC(b, t, g, n) = V(dC);
}

/// dA and ddt_bias from those of the chunks.
template <class E, class Plan = ssd_backward_plan<E>>
struct ssd_head_term {
  static constexpr const char* name = ops::ssd_backward<E>::name;
  static constexpr int outputs = 2;
  using accum = typename E::accum;
  Plan plan;

  index_t rows() const { return plan.dA.size[0] * plan.dA.size[1]; }
  index_t columns() const { return plan.dA.size[2]; }
  __device__ void add(index_t b, index_t h, accum (&sums)[outputs]) const {
    const index_t c = take_index(b, plan.chunks);
    sums[0] += plan.dA(b, c, h);
    sums[1] += plan.ddt_bias(b, c, h);
  }
  __device__ accum* target(int k, index_t h) const {
    if (k == 0) return plan.op.dA ? &plan.op.dA(h) : nullptr;
    return plan.op.ddt_bias ? &plan.op.ddt_bias(h) : nullptr;
  }
};

/// dD of each channel, or of each head.
template <class E, class Plan = ssd_backward_plan<E>>
struct ssd_skip_term {
  static constexpr const char* name = ops::ssd_backward<E>::name;
  static constexpr int outputs = 1;
  using accum = typename E::accum;
  Plan plan;

  /// Has a head one number? Then its channels are rows.
  __host__ __device__ bool of_head() const { return plan.op.dD.stride[1] == 0; }
  __host__ __device__ index_t width() const { return plan.op.x.size[3]; }
  index_t rows() const { return plan.dA.size[0] * plan.dA.size[1] * (of_head() ? width() : 1); }
  index_t columns() const { return plan.op.x.size[2] * (of_head() ? 1 : width()); }
  __device__ void add(index_t b, index_t h, accum (&sums)[outputs]) const {
    const index_t p = take_index(of_head() ? b : h, width()), c = take_index(b, plan.chunks);
    sums[0] += plan.dD(b, c, h, p);
  }
  __device__ accum* target(int, index_t h) const {
    const index_t p = of_head() ? 0 : take_index(h, width());
    return &plan.op.dD(h, p);
  }
};

/// Can the kernels on tensor cores do this op?
template <class E>
bool ssd_has_tiles(const ops::ssd_backward<E>& op) {
  if constexpr (!is_16_bit<typename E::value> || !std::is_same_v<typename E::accum, float>) {
    return false;
  } else {
    return op.x.size[1] >= 16 && op.x.size[3] <= ssd_tile && op.state_size() <= 128 &&
           (op.chunk_size == 0 || op.chunk_size >= ssd_tile) && !op.z && in_pieces(op.x) &&
           in_pieces(op.B) && in_pieces(op.C) && in_pieces(op.dy) && in_pieces(op.dx) &&
           in_pieces(op.initial_states, 8) && in_pieces(op.dfinal_states, 8) &&
           in_pieces(op.dinitial_states, 8);
  }
}

template <class N16, class E>
void launch_ssd_backward_tiles(context<cuda>& ctx, const ssd_backward_tiles_plan<E>& plan) {
  const auto& op = plan.op;
  const index_t b = op.x.size[0], h = op.x.size[2], c = plan.chunks, g = op.groups();
  if (N16::value == 8 && has_warpgroups()) {
    launch_ssd_steps(ctx, ssd_tokens_plan<E>{op, plan.tokens});
    launch_ssd_walk(ctx, plan);
    return launch_ssd_gradients(ctx, plan);
  }
  launch_ssd_tokens<constant<2 * N16::value>, E>(ctx, op, plan.tokens, plan.scores);
  ssd_summary_tiles_kernel<N16, E>
      <<<blocks_for(b * c * h * 2, 1), ssd_tile_threads, 0, ctx.stream>>>(plan);
  launched(plan.name);
  launch_elements(ctx, ssd_join_tiles_kernel<E>, b * h * op.x.size[3] * (op.B.size[3] / 8), plan);
  constexpr int bytes = int(sizeof(ssd_backward_memory<typename E::value, N16::value>));
  const auto kernel = ssd_chunk_tiles_kernel<N16, E>;
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
             plan.name);
  kernel<<<blocks_for(b * c * g * plan.sets, 1), ssd_backward_threads, bytes, ctx.stream>>>(plan);
  launched(plan.name);
}

/// On tensor cores.
template <class E>
void run_ssd_backward_tiles(context<cuda>& ctx, const ops::ssd_backward<E>& op) {
  using Plan = ssd_backward_tiles_plan<E>;
  const index_t b = op.x.size[0], l = op.x.size[1], h = op.x.size[2], p = op.x.size[3],
                n = op.state_size(), g = op.groups(), c = (l + ssd_tile - 1) / ssd_tile;
  auto frame = ctx.scratch.make_frame();
  Plan plan{};
  plan.op = op, plan.chunks = c;
  plan.set_heads = std::min<index_t>(h / g, 8);
  plan.sets = (h / g + plan.set_heads - 1) / plan.set_heads;
  const auto make = [&](index_t count) {
    return ctx.scratch.template make<float>(shape<1>{{count}}).data;
  };
  plan.states = ctx.scratch.template make<typename E::value>(shape<1>{{b * c * h * p * n}}).data;
  plan.adjoints = ctx.scratch.template make<typename E::value>(shape<1>{{b * c * h * p * n}}).data;
  plan.scores = make(b * c * g * ssd_scores_size);
  plan.tokens = make(b * c * h * ssd_tokens_size(op));
  plan.dB = ctx.scratch.template make<float>(shape<4>{{b, l, g * plan.sets, n}});
  plan.dC = ctx.scratch.template make<float>(shape<4>{{b, l, g * plan.sets, n}});
  plan.dA = ctx.scratch.template make<float>(shape<3>{{b, c, h}});
  plan.ddt_bias = ctx.scratch.template make<float>(shape<3>{{b, c, h}});
  if (op.dD) plan.dD = ctx.scratch.template make<float>(shape<4>{{b, c, h, p}});
  if (n <= 32) {
    launch_ssd_backward_tiles<constant<2>>(ctx, plan);
  } else if (n <= 64) {
    launch_ssd_backward_tiles<constant<4>>(ctx, plan);
  } else {
    launch_ssd_backward_tiles<constant<8>>(ctx, plan);
  }
  launch_elements(ctx, ssd_group_kernel<E, Plan>, op.dB.count(), plan);
  if (op.dA || op.ddt_bias) add_column_sums(ctx, ssd_head_term<E, Plan>{plan});
  if (op.dD) add_column_sums(ctx, ssd_skip_term<E, Plan>{plan});
}

}  // namespace kernels

template <class E>
void execute(context<cuda>& ctx, const ops::ssd_backward<E>& op) {
  if constexpr (is_16_bit<typename E::value>) {
    if (op.x.count() > 0 && kernels::ssd_has_tiles(op))
      return kernels::run_ssd_backward_tiles(ctx, op);
  }
  using A = typename E::accum;
  const index_t b = op.x.size[0], l = op.x.size[1], h = op.x.size[2], p = op.x.size[3],
                n = op.state_size();
  if (b == 0 || h == 0) return;
  constexpr index_t most_tokens = kernels::ssd_chunk<A>::tokens;
  auto frame = ctx.scratch.make_frame();
  kernels::ssd_backward_plan<E> plan{};
  plan.op = op;
  plan.chunk = op.chunk_size > 0 ? std::min(op.chunk_size, most_tokens) : most_tokens;
  plan.chunks = (l + plan.chunk - 1) / plan.chunk;
  const index_t c = plan.chunks;
  plan.states = ctx.scratch.template make<A>(shape<5>{{b, c, h, p, n}});
  plan.adjoints = ctx.scratch.template make<A>(shape<5>{{b, c, h, p, n}});
  plan.decay = ctx.scratch.template make<A>(shape<3>{{b, c, h}});
  plan.dA = ctx.scratch.template make<A>(shape<3>{{b, c, h}});
  plan.ddt_bias = ctx.scratch.template make<A>(shape<3>{{b, c, h}});
  plan.dB = ctx.scratch.template make<A>(shape<4>{{b, l, h, n}});
  plan.dC = ctx.scratch.template make<A>(shape<4>{{b, l, h, n}});
  if (op.dD) plan.dD = ctx.scratch.template make<A>(shape<4>{{b, c, h, p}});

  kernels::launch_rows(ctx, kernels::ssd_summary_kernel<E>, b * c * h, plan);
  kernels::launch_elements(ctx, kernels::ssd_backward_join_kernel<E>, b * h * p * n, plan);
  kernels::launch_rows(ctx, kernels::ssd_chunk_kernel<E>, b * c * h, plan);
  kernels::launch_elements(ctx, kernels::ssd_group_kernel<E, kernels::ssd_backward_plan<E>>,
                           op.dB.count(), plan);
  if (op.dA || op.ddt_bias) kernels::add_column_sums(ctx, kernels::ssd_head_term<E>{plan});
  if (op.dD) kernels::add_column_sums(ctx, kernels::ssd_skip_term<E>{plan});
}

}  // namespace mlmamba::backend
