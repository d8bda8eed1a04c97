// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Backward of the selective scan where states are small and channels many (see
// selective_scan_channels.cuh): forward once to keep a state every 8 tokens, then back, 8 tokens
// at a time, whose states are recomputed into registers. Segments of the sequence run side by side.
#pragma once

#include "mlmamba/backend/cuda/selective_scan_backward_sums.cuh"

namespace mlmamba::backend::kernels {

inline constexpr int scan_warps = scan_threads / warp_size;

template <class V>
struct scan_back_memory {
  alignas(16) scan_rows<V> x[2], dt[2], z[2], dy[2];  // then dx, ddt and dz
  alignas(16) float2 steps[scan_tile][scan_block];    // dt', dt' x
  alignas(16) float dv[scan_tile][scan_block];        // dy silu(z)
  alignas(16) float B[scan_tile][scan_state_size], C[scan_tile][scan_state_size];
  float sums[scan_tile][scan_warps][warp_size];  // of dB and dC over the channels of a warp
  int begins[scan_tile];
};

/// Sums of v over the 8 channels of a warp: the lane (channel, q) gets that of number `channel`.
__device__ inline float scan_channel_sums(float (&v)[8]) {
  const int lane = lane_index();
#pragma unroll
  for (int k = 4, o = 16; k >= 1; k /= 2, o /= 2) {
    const bool upper = lane & o;
#pragma unroll
    for (int i = 0; i < k; ++i) {
      const float keep = upper ? v[i + k] : v[i], give = upper ? v[i] : v[i + k];
      v[i] = keep + __shfl_xor_sync(all_lanes, give, o);
    }
  }
  return v[0];
}

template <class Starts, class E>
__global__ void __launch_bounds__(scan_threads, 2) scan_back_kernel(const scan_back_plan<E> plan) {
  using V = typename E::value;
  constexpr bool starts = Starts::value != 0;
  extern __shared__ __align__(128) unsigned char raw[];
  auto& s = *reinterpret_cast<scan_back_memory<V>*>(raw);
  const auto& op = plan.op;
  const scan_channels_plan<E>& forward = plan.forward;
  const index_t length = op.x.size[1], channels = op.x.size[2];
  const int states = int(op.A.size[1]);
  index_t b = blockIdx.x;
  const index_t block = take_index(b, forward.blocks), d0 = block * scan_block,
                segment = take_index(b, forward.segments);
  const index_t begin = segment * forward.segment,
                end = begin + forward.segment < length ? begin + forward.segment : length;
  const int channel = int(threadIdx.x) / scan_quarter, q = int(threadIdx.x) % scan_quarter;
  const int warp = warp_index(), lane = lane_index();
  const index_t d = d0 + channel;
  const bool inside = d < channels;

  float G[4], rate[4], entering[4], dA[4] = {}, dD = 0, dbias = 0;
  read_piece(entering, &forward.ends(b, segment, d, 4 * q));
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int n = 4 * q + i;
    const bool there = inside && n < states;
    rate[i] = there ? op.A(d, n) * 1.44269504f : 0.0f;  // to base 2
    G[i] = there && op.dfinal_states && !forward.adjoints ? op.dfinal_states(b, d, n) : 0.0f;
  }
  if (forward.adjoints) read_piece(G, &forward.adjoints(b, segment, d, 4 * q));
  const float skip = op.D && inside ? op.D(d) : 0.0f;
  const float my_bias = op.dt_bias && inside ? op.dt_bias(d) : 0.0f;

  const int my_token = int(threadIdx.x) / 16, my_channel = 4 * (int(threadIdx.x) % 16);
  const int my_n = int(threadIdx.x) % scan_state_size;
  float bias[4] = {};
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (op.dt_bias && d0 + my_channel + i < channels) bias[i] = op.dt_bias(d0 + my_channel + i);
  V next_B = V(0.0f), next_C = V(0.0f);
  int next_begins = 0;
  const auto count_at = [&](index_t t0) {
    return int(end - t0 < scan_tile ? end - t0 : index_t(scan_tile));
  };
  const auto read = [&](index_t t0, int to) {
    if (t0 >= begin) {
      const int count = count_at(t0);
      scan_copy<V>(s.x[to], op.x, b, t0, count, d0, 0);
      scan_copy<V>(s.dt[to], op.dt, b, t0, count, d0, 1);
      if (op.z) scan_copy<V>(s.z[to], op.z, b, t0, count, d0, 2);
      scan_copy<V>(s.dy[to], op.dy, b, t0, count, d0, 3);
      const bool there = my_token < count && my_n < states;
      next_B = there ? op.B(b, t0 + my_token, 0, my_n) : V(0.0f);
      next_C = there ? op.C(b, t0 + my_token, 0, my_n) : V(0.0f);
      if constexpr (starts)
        next_begins = int(threadIdx.x) < count &&
                      scan_begins<E>(op.seq_idx, b, t0 + int(threadIdx.x) % scan_tile);
    }
    commit_copies();
  };
  const auto write = [&](index_t t0, int from) {
    const int count = count_at(t0);
    scan_write<V>(op.dx, s.x[from], b, t0, count, d0, 0);
    scan_write<V>(op.ddt, s.dt[from], b, t0, count, d0, 1);
    if (op.z) scan_write<V>(op.dz, s.z[from], b, t0, count, d0, 2);
    for (int e = int(threadIdx.x); e < count * warp_size; e += scan_threads) {
      const int t = e / warp_size, n = e % warp_size;
      float sum = 0;
#pragma unroll
      for (int w = 0; w < scan_warps; ++w) sum += s.sums[t][w][n];
      plan.dBC(b, t0 + t, block, n) = sum;
    }
  };

  const index_t last = begin + (end - begin - 1) / scan_tile * scan_tile;
  read(last, 0);
  float next_kept[4], next_steps = 0;
  const auto read_kept = [&](index_t t) {
    if (t < begin) return;
    read_piece(next_kept, &forward.kept(b, t / scan_kept, d, 4 * q));
    next_steps = forward.kept_steps(b, t / scan_kept, d);
  };
  const index_t last_run = begin + (end - begin - 1) / scan_kept * scan_kept;
  read_kept(last_run);
  int at = 0;
  for (index_t t0 = last; t0 >= begin; t0 -= scan_tile, at ^= 1) {
    const int count = count_at(t0);
    wait_copies<0>();
    __syncthreads();  // the tile is there, and the one after is done with
    if (t0 < last) write(t0 + scan_tile, at ^ 1);
    scan_prepare<true>(s, at, my_token, my_channel, bias, my_token < count, op.dt_softplus,
                       bool(op.z));
    s.B[my_token][my_n] = float(next_B);
    s.C[my_token][my_n] = float(next_C);
    if (starts && threadIdx.x < scan_tile) s.begins[threadIdx.x] = next_begins;
    __syncthreads();
    read(t0 - scan_tile, at ^ 1);

    for (int r0 = (count - 1) / scan_kept * scan_kept; r0 >= 0; r0 -= scan_kept) {
      float h[scan_kept + 1][4], decay[scan_kept][4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float carried = scan_decay<V>(next_steps, rate[i]);
        h[0][i] = carried == 0.0f ? next_kept[i] : multiply_add(carried, entering[i], next_kept[i]);
      }
      read_kept(t0 + r0 - scan_kept);
#pragma unroll
      for (int k = 0; k < scan_kept; ++k) {
        const float2 step = s.steps[r0 + k][channel];
        float B[4];
        read_piece(B, &s.B[r0 + k][4 * q]);
        const bool begins = starts && s.begins[r0 + k];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          decay[k][i] = begins ? 0.0f : decay_of_2<V>(step.x * rate[i]);
          h[k + 1][i] = multiply_add(step.y, B[i], begins ? 0.0f : decay[k][i] * h[k][i]);
        }
      }
#pragma unroll
      for (int k0 = scan_kept - 4; k0 >= 0; k0 -= 4) {
        float v[4], through[4], onto[4];  // C h; G B; what goes by the decay
#pragma unroll
        for (int k = 3; k >= 0; --k) {
          const int t = r0 + k0 + k;
          const float2 step = s.steps[t][channel];
          const float dv = s.dv[t][channel];
          const bool begins = starts && s.begins[t];
          float B[4], C[4], products[8];
          read_piece(B, &s.B[t][4 * q]);
          read_piece(C, &s.C[t][4 * q]);
          v[k] = through[k] = onto[k] = 0.0f;
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            v[k] = multiply_add(C[i], h[k0 + k + 1][i], v[k]);
            G[i] = multiply_add(dv, C[i], G[i]);
            products[i] = step.y * G[i];
            products[4 + i] = dv * h[k0 + k + 1][i];
            through[k] = multiply_add(G[i], B[i], through[k]);
            G[i] = begins ? 0.0f : G[i] * decay[k0 + k][i];
            const float carried = begins ? 0.0f : G[i] * h[k0 + k][i];
            onto[k] = multiply_add(rate[i], carried, onto[k]);
            dA[i] = multiply_add(step.x, carried, dA[i]);
          }
          const float sum = scan_channel_sums(products);
          // Number `lane / 4` of lane q: element 4 q + lane / 4 % 4, of dB or dC.
          s.sums[t][warp][lane / 16 * 16 + 4 * q + lane / 4 % 4] = sum;
        }
        // Lane q finishes token q of the four.
        const int t = r0 + k0 + q;
        const float x = float(s.x[at][t][channel]), dv = s.dv[t][channel];
        const float raw_dt = float(s.dt[at][t][channel]) + my_bias;
        const float all_v = multiply_add(skip, x, scan_sums(v)), all_through = scan_sums(through);
        // Rates are to base 2: ln 2 of them is A.
        float ddt = multiply_add(all_through, x, scan_sums(onto) * 0.69314718f);
        if (op.dt_softplus) ddt *= fast_softplus_slope<V>(raw_dt);
        if (t >= count) ddt = 0.0f;
        dD = multiply_add(dv, x, dD);
        dbias += ddt;
        s.x[at][t][channel] = V(multiply_add(skip, dv, all_through * s.steps[t][channel].x));
        s.dt[at][t][channel] = V(ddt);
        if (op.z)
          s.z[at][t][channel] =
              V(float(s.dy[at][t][channel]) * all_v * silu_slope_as<V>(float(s.z[at][t][channel])));
      }
    }
  }
  __syncthreads();
  write(begin, at ^ 1);
  dD = warp_sum<scan_quarter>(dD), dbias = warp_sum<scan_quarter>(dbias);
  if (!inside) return;
  write_piece(&plan.dA(b, segment, d, 4 * q), dA);
  if (q == 0) plan.dD(b, segment, d) = dD, plan.ddt_bias(b, segment, d) = dbias;
  if (!op.dinitial_states || segment > 0) return;
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (4 * q + i < states) op.dinitial_states(b, d, 4 * q + i) = G[i];
}

/// Can these kernels do this op?
template <class E>
bool scans_back_by_channels(const ops::selective_scan_backward<E>& op) {
  return scans_by_channels(op) && in_pieces(op.dy) && in_pieces(op.dx) && in_pieces(op.ddt) &&
         in_pieces(op.dz);
}

template <class E>
void run_scan_back_by_channels(context<cuda>& ctx, const ops::selective_scan_backward<E>& op) {
  auto frame = ctx.scratch.make_frame();
  const auto make = [&](auto n) { return ctx.scratch.template make<float>(n); };
  scan_back_plan<E> plan{};
  plan.op = op;
  scan_channels_plan<E>& forward = plan.forward;
  forward.op.x = op.x, forward.op.dt = op.dt, forward.op.A = op.A, forward.op.B = op.B;
  forward.op.C = op.C, forward.op.z = op.z, forward.op.dt_bias = op.dt_bias, forward.dy = op.dy;
  forward.op.initial_states = op.initial_states, forward.op.seq_idx = op.seq_idx;
  forward.op.dt_softplus = op.dt_softplus;
  cut_scan(ctx, forward, 10);
  const index_t b = op.x.size[0], l = op.x.size[1], d = forward.blocks * scan_block,
                c = forward.segments, runs = (l + scan_kept - 1) / scan_kept;
  forward.ends = make(shape<4>{{b, c, d, scan_state_size}});
  if (c > 1) forward.adjoints = make(shape<4>{{b, c, d, scan_state_size}});
  forward.steps = make(shape<3>{{b, c, d}});
  forward.kept = make(shape<4>{{b, runs, d, scan_state_size}});
  forward.kept_steps = make(shape<3>{{b, runs, d}});
  plan.dBC = make(shape<4>{{b, l, forward.blocks, warp_size}});
  plan.dA = make(shape<4>{{b, c, d, scan_state_size}});
  plan.dD = make(shape<3>{{b, c, d}}), plan.ddt_bias = make(shape<3>{{b, c, d}});
  if (c > 1) {
    launch_scan_walk<scan_walk::adjoints>(ctx, forward);
  } else {
    launch_scan_walk<scan_walk::keep>(ctx, forward);
  }
  launch_scan_join<E>(ctx, forward, op.dfinal_states);
  constexpr int bytes = int(sizeof(scan_back_memory<typename E::value>));
  const auto launch = [&](auto kernel) {
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
               plan.name);
    kernel<<<blocks_for(b * forward.blocks * c, 1), scan_threads, bytes, ctx.stream>>>(plan);
    launched(plan.name);
  };
  if (op.seq_idx) {
    launch(scan_back_kernel<constant<1>, E>);
  } else {
    launch(scan_back_kernel<constant<0>, E>);
  }
  launch_elements(ctx, scan_group_kernel<E>, b * l * warp_size, plan);
  launch_elements(ctx, scan_parameters_kernel<E>, op.A.count(), plan);
}

}  // namespace mlmamba::backend::kernels
