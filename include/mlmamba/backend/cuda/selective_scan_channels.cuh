// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Selective scan on a GPU where states are small (N <= 16) and channels many: four lanes have a
// channel, four elements of its state each, in registers. A block has 64 channels and a segment of
// the sequence, and walks over it 16 tokens at a time; what it reads comes through shared memory.
#pragma once

#include <algorithm>

#include "mlmamba/backend/cuda/selective_scan_tiles.cuh"

namespace mlmamba::backend::kernels {

/// What a walk over a segment does.
enum class scan_walk : std::uint8_t {
  ends,      ///< from a zero state: what the segment leaves
  outputs,   ///< from the state that enters it: y
  keep,      ///< as `ends`, and keeps a state every 8 tokens for the walk back
  adjoints,  ///< as `keep`, and what the segment alone leaves to the adjoint of the state before it
};

/// Arrays of the walks; channels are padded to whole blocks.
template <class E>
struct scan_channels_plan {
  static constexpr const char* name = ops::selective_scan<E>::name;
  ops::selective_scan<E> op;
  in<E, 3> dy{};
  index_t segment = 0, segments = 1, blocks = 0;  // tokens of a segment, segments, of channels
  view<float, 4, memory::device> ends{};          // (B, segments, D, 16); joined: what enters
  view<float, 4, memory::device> adjoints{};      // the same; joined: of what leaves
  view<float, 3, memory::device> steps{};  // (B, segments, D): sum of dt'; infinite: state dropped
  view<float, 4, memory::device> kept{};   // (B, runs of 8, D, 16): from a zero state
  view<float, 3, memory::device> kept_steps{};  // (B, runs, D): sum of dt' since the segment began
};

/// By how much steps of this sum decay a state.
template <class V>
__device__ float scan_decay(float steps, float rate) {
  return steps == INFINITY ? 0.0f : decay_of_2<V>(steps * rate);
}

template <class V>
struct scan_walk_memory {
  alignas(16) scan_rows<V> x[2], dt[2], z[2], dy[2];
  alignas(16) float2 steps[scan_tile][scan_block];  // dt', dt' x
  alignas(16) float dv[scan_tile][scan_block];      // dy silu(z)
  alignas(16) float B[scan_tile][scan_state_size], C[scan_tile][scan_state_size];
  int begins[scan_tile];
};

template <class Walk, class Starts, class E>
__global__ void __launch_bounds__(scan_threads, Walk::value == int(scan_walk::adjoints) ? 3 : 5)
    scan_walk_kernel(const scan_channels_plan<E> plan) {
  using V = typename E::value;
  constexpr auto walk = scan_walk(Walk::value);
  constexpr bool outputs = walk == scan_walk::outputs, adjoints = walk == scan_walk::adjoints,
                 keep = adjoints || walk == scan_walk::keep, needs_C = outputs || adjoints;
  constexpr bool starts = Starts::value != 0;
  extern __shared__ __align__(128) unsigned char raw[];
  auto& s = *reinterpret_cast<scan_walk_memory<V>*>(raw);
  const ops::selective_scan<E>& op = plan.op;
  const index_t length = op.x.size[1], channels = op.x.size[2];
  const int states = int(op.A.size[1]);
  const index_t segments = walk == scan_walk::ends ? plan.segments - 1 : plan.segments;
  index_t b = blockIdx.x;
  const index_t d0 = take_index(b, plan.blocks) * scan_block, segment = take_index(b, segments);
  const index_t begin = segment * plan.segment,
                end = begin + plan.segment < length ? begin + plan.segment : length;
  const int channel = int(threadIdx.x) / scan_quarter, q = int(threadIdx.x) % scan_quarter;
  const index_t d = d0 + channel;
  const bool inside = d < channels;

  float S[4], rate[4], P[4], G[4] = {};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int n = 4 * q + i;
    const bool there = inside && n < states;
    rate[i] = there ? op.A(d, n) * 1.44269504f : 0.0f;  // to base 2
    S[i] = 0.0f, P[i] = 1.0f;
    if (!outputs) continue;
    if (plan.segments > 1) S[i] = plan.ends(b, segment, d, n);
    if (plan.segments == 1 && there && op.initial_states) S[i] = float(op.initial_states(b, d, n));
  }
  float steps = 0;
  const float skip = outputs && op.D && inside ? op.D(d) : 0.0f;

  // Four channels of one token of a tile are this thread's to prepare.
  const int my_token = int(threadIdx.x) / 16, my_channel = 4 * (int(threadIdx.x) % 16);
  float bias[4] = {};
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (op.dt_bias && d0 + my_channel + i < channels) bias[i] = op.dt_bias(d0 + my_channel + i);
  const int my_n = int(threadIdx.x) % scan_state_size;
  V next_B = V(0.0f), next_C = V(0.0f);
  int next_begins = 0;
  const auto count_at = [&](index_t t0) {
    return t0 >= end ? 0 : int(end - t0 < scan_tile ? end - t0 : index_t(scan_tile));
  };
  const auto read = [&](index_t t0, int to) {
    const int count = count_at(t0);
    if (count > 0) {
      scan_copy<V>(s.x[to], op.x, b, t0, count, d0, 0);
      scan_copy<V>(s.dt[to], op.dt, b, t0, count, d0, 1);
      if (needs_C && op.z) scan_copy<V>(s.z[to], op.z, b, t0, count, d0, 2);
      if constexpr (adjoints) scan_copy<V>(s.dy[to], plan.dy, b, t0, count, d0, 3);
      const bool there = my_token < count && my_n < states;
      next_B = there ? op.B(b, t0 + my_token, 0, my_n) : V(0.0f);
      if constexpr (needs_C) next_C = there ? op.C(b, t0 + my_token, 0, my_n) : V(0.0f);
      if constexpr (starts)
        next_begins = int(threadIdx.x) < count &&
                      scan_begins<E>(op.seq_idx, b, t0 + int(threadIdx.x) % scan_tile);
    }
    commit_copies();
  };
  read(begin, 0);
  int at = 0;
  for (index_t t0 = begin; t0 < end; t0 += scan_tile, at ^= 1) {
    const int count = count_at(t0);
    wait_copies<0>();
    __syncthreads();  // the tile is there, and the one before is done with
    if (outputs && t0 > begin)
      scan_write<V>(op.y, s.x[at ^ 1], b, t0 - scan_tile, scan_tile, d0, 0);
    scan_prepare<adjoints>(s, at, my_token, my_channel, bias, my_token < count, op.dt_softplus,
                           adjoints && op.z);
    s.B[my_token][my_n] = float(next_B);
    if constexpr (needs_C) s.C[my_token][my_n] = float(next_C);
    if (starts && threadIdx.x < scan_tile) s.begins[threadIdx.x] = next_begins;
    __syncthreads();
    read(t0 + scan_tile, at ^ 1);

#pragma unroll
    for (int t1 = 0; t1 < scan_tile; t1 += 4) {
      if (keep && t1 % scan_kept == 0) {
        const index_t run = t0 / scan_kept + t1 / scan_kept;
        if (t1 < count) {
          write_piece(&plan.kept(b, run, d, 4 * q), S);
          if (q == 0) plan.kept_steps(b, run, d) = steps;
        }
      }
      float sums[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const int t = t1 + k;
        const float2 step = s.steps[t][channel];
        float B[4], C[4];
        read_piece(B, &s.B[t][4 * q]);
        if constexpr (needs_C) read_piece(C, &s.C[t][4 * q]);
        if (starts && s.begins[t]) {
          steps = INFINITY;
#pragma unroll
          for (int i = 0; i < 4; ++i) S[i] = P[i] = 0.0f;
        }
        if constexpr (!outputs) steps += step.x;
        float sum = 0;
        const float dv = adjoints ? s.dv[t][channel] : 0.0f;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float decay = decay_of_2<V>(step.x * rate[i]);
          S[i] = multiply_add(step.y, B[i], decay * S[i]);
          if constexpr (outputs) sum = multiply_add(C[i], S[i], sum);
          if constexpr (adjoints) {
            P[i] *= decay;
            G[i] = multiply_add(P[i], dv * C[i], G[i]);
          }
        }
        sums[k] = sum;
      }
      if constexpr (outputs) {
        const int t = t1 + q;
        float y = scan_sums(sums);
        y = multiply_add(skip, float(s.x[at][t][channel]), y);
        if (op.z) y *= silu_as<V>(float(s.z[at][t][channel]));
        s.x[at][t][channel] = V(y);
      }
    }
  }
  if constexpr (outputs) {
    __syncthreads();
    const index_t last = begin + (end - begin - 1) / scan_tile * scan_tile;
    scan_write<V>(op.y, s.x[at ^ 1], b, last, count_at(last), d0, 0);
    if (!inside || !op.final_states || segment + 1 < plan.segments) return;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (4 * q + i < states) op.final_states(b, d, 4 * q + i) = typename E::state(S[i]);
  } else {
    write_piece(&plan.ends(b, segment, d, 4 * q), S);
    if constexpr (adjoints) write_piece(&plan.adjoints(b, segment, d, 4 * q), G);
    if (q == 0) plan.steps(b, segment, d) = steps;
  }
}

/// One thread per element of the state: after this `ends` enter their segments, and `adjoints` are
/// of the states that leave them (`dfinal_states` at the last).
template <class E>
__global__ void scan_join_kernel(const scan_channels_plan<E> plan,
                                 const in_accum<E, 3> dfinal_states) {
  using V = typename E::value;
  const ops::selective_scan<E>& op = plan.op;
  index_t b = thread_index();
  if (b >= op.x.size[0] * plan.blocks * scan_block * scan_state_size) return;
  const index_t n = take_index(b, scan_state_size), d = take_index(b, plan.blocks * scan_block);
  const bool there = d < op.x.size[2] && n < op.A.size[1];
  const float rate = there ? op.A(d, n) * 1.44269504f : 0.0f;
  const auto join = [&](const view<float, 4, memory::device>& of, float state, index_t c) {
    float& slot = of(b, c, d, n);
    const float left = slot, decay = scan_decay<V>(plan.steps(b, c, d), rate);
    slot = state;
    return decay == 0.0f ? left : multiply_add(decay, state, left);
  };
  float state = there && op.initial_states ? float(op.initial_states(b, d, n)) : 0.0f;
  for (index_t c = 0; c + 1 < plan.segments; ++c) state = join(plan.ends, state, c);
  plan.ends(b, plan.segments - 1, d, n) = state;
  if (!plan.adjoints) return;
  float adjoint = there && dfinal_states ? dfinal_states(b, d, n) : 0.0f;
  for (index_t c = plan.segments - 1; c > 0; --c) adjoint = join(plan.adjoints, adjoint, c);
  plan.adjoints(b, 0, d, n) = adjoint;
}

/// Can these kernels do this op? Others are done by lanes that share a channel.
template <class Op>
bool scans_by_channels(const Op& op) {
  return op.A.size[1] <= scan_state_size && op.A.size[1] > 4 && op.B.size[2] == 1 &&
         op.x.size[1] > 0 && op.x.size[0] * op.x.size[2] >= 256 && in_pieces(op.x) &&
         in_pieces(op.dt) && in_pieces(op.z);
}

/// Cuts the sequence into segments, as many as make `room` blocks: a cut costs work, so no more
/// than keep the GPU busy. A function of sizes and of the GPU: runs repeat bit for bit.
template <class E>
void cut_scan(const context<cuda>& ctx, scan_channels_plan<E>& plan, index_t blocks_of_each) {
  const auto& n = plan.op.x.size;
  const index_t room = blocks_of_each * ctx.multiprocessors;
  plan.blocks = (n[2] + scan_block - 1) / scan_block;
  const index_t tiles = (n[1] + scan_tile - 1) / scan_tile;
  const index_t most = std::max<index_t>(
      std::min(room / ((ctx.independent_rows ? 1 : n[0]) * plan.blocks), tiles / 8), 1);
  const index_t per = (tiles + most - 1) / most;
  plan.segment = per * scan_tile, plan.segments = (tiles + per - 1) / per;
}

template <scan_walk Walk, class E>
void launch_scan_walk(context<cuda>& ctx, const scan_channels_plan<E>& plan) {
  constexpr int bytes = int(sizeof(scan_walk_memory<typename E::value>));
  const index_t segments = Walk == scan_walk::ends ? plan.segments - 1 : plan.segments;
  const auto launch = [&](auto kernel) {
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
               plan.name);
    kernel<<<blocks_for(plan.op.x.size[0] * plan.blocks * segments, 1), scan_threads, bytes,
             ctx.stream>>>(plan);
    launched(plan.name);
  };
  if (plan.op.seq_idx) {
    launch(scan_walk_kernel<constant<int(Walk)>, constant<1>, E>);
  } else {
    launch(scan_walk_kernel<constant<int(Walk)>, constant<0>, E>);
  }
}

template <class E>
void launch_scan_join(context<cuda>& ctx, const scan_channels_plan<E>& plan,
                      const in_accum<E, 3>& dfinal_states) {
  const index_t n = plan.op.x.size[0] * plan.blocks * scan_block * scan_state_size;
  scan_join_kernel<E>
      <<<blocks_for(n, block_threads), block_threads, 0, ctx.stream>>>(plan, dfinal_states);
  launched(plan.name);
}

template <class E>
void run_scan_by_channels(context<cuda>& ctx, const ops::selective_scan<E>& op) {
  auto frame = ctx.scratch.make_frame();
  scan_channels_plan<E> plan{op};
  cut_scan(ctx, plan, 5);
  if (plan.segments > 1) {
    const index_t b = op.x.size[0], d = plan.blocks * scan_block;
    const auto make = [&](auto n) { return ctx.scratch.template make<float>(n); };
    plan.ends = make(shape<4>{{b, plan.segments, d, scan_state_size}});
    plan.steps = make(shape<3>{{b, plan.segments, d}});
    launch_scan_walk<scan_walk::ends>(ctx, plan);
    launch_scan_join<E>(ctx, plan, {});
  }
  launch_scan_walk<scan_walk::outputs>(ctx, plan);
}

}  // namespace mlmamba::backend::kernels
