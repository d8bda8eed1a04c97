// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// SSD forward on Hopper's tensor cores (N <= 128), the mathematics of ssd_tiles.cuh, by warps with
// different work: the chain from state to state is short, and what y takes beside it (decays,
// gate, writing) is hidden by two groups that write every other chunk.
//
// Every thread tells barriers itself what it is done with. One for its warp, after __syncwarp,
// would do, and be no faster; compute-sanitizer's racecheck doesn't see that and has hundreds of
// reports.
#pragma once

#include "mlmamba/backend/cuda/ssd_role_parts.cuh"

namespace mlmamba::backend::kernels {

#if defined(MLMAMBA_WARPGROUPS)

/// Four warps: walks the state and shares it as it enters each chunk.
template <class Work, class E>
__device__ void ssd_role_state(const ssd_role_plan<E>& all, const ssd_role_place<E>& at,
                               ssd_role_memory<typename E::value>& s) {
  using V = typename E::value;
  using memory = ssd_role_memory<V>;
  const ssd_plan<E>& plan = all.plan;
  const ops::ssd<E>& op = plan.op;
  const int quarter = __shfl_sync(all_lanes, warp_index(), 0);
  const ssd_state_place<E> where{plan, at.b, at.h, at.p0, at.columns, at.states, quarter};
  float S[16][4];
  clear_state(S);
  // The chunk of turn u is added; after that, it is done with: by y's warps, too, if `arrivals`
  // is 2.
  const auto add = [&](int u, unsigned arrivals) {
    const int later = u % memory::later;
    wait_for_copies(s.filled[later], u / memory::later & 1);
    const float decay = add_chunk(S, s.tokens[later], s.x[later], s.B[u % memory::turns], quarter);
    wait_products<0>();
    take_products(S);
    arrive(s.done[u % memory::turns], arrivals);
    return decay;
  };
  const int first = at.template ends<Work>(plan) ? at.chunks : 0;  // turn of the first chunk for y
  if constexpr (std::is_same_v<Work, ssd_both>) {
    if (at.segment == 0 && op.initial_states) {
      where.read(S, op.initial_states);
      where.write_part(S, plan.ends.size[1] - 1);  // the last segment may write it before others
    }                                              // have read it
    if (first > 0) {
      float total = 1;
      for (int c = 0; c < at.chunks; ++c) total *= add(c, 2);
      where.write_part(S, at.segment);
      if (threadIdx.x == 0) where.decay(at.segment) = total;
      raise_flag<128>(plan.flags + blockIdx.x);
    }
    const index_t apart = gridDim.x / op.x.size[0] / plan.chunks;
    wait_for_flags<128>(plan.flags + blockIdx.x - at.segment * apart, int(at.segment), apart);
  }
  where.enter(S, at.segment);

  const bool finally = op.final_states && at.segment + 1 == plan.chunks;
  for (int c = 0; c < at.chunks; ++c) {
    // As it enters chunk c; y of chunk c - 2 had the same place.
    if (c > 1) wait_for_copies(s.multiplied[c % 2], (c - 2) / 2 & 1);
    store_state<V>(S, s.S[c % 2], quarter);
    show_to_products();
    arrive(s.entered[c % 2]);
    if (c + 1 < at.chunks || finally) add(first + c, 1);
  }
  if (finally) where.write(S, op.final_states);
}

/// Four warps: y of every `ssd_writers`-th chunk.
template <class Work, class Starts, class Gated, class E>
__device__ void ssd_role_y(const ssd_role_plan<E>& all, const ssd_role_place<E>& at,
                           ssd_role_memory<typename E::value>& s) {
  using V = typename E::value;
  using memory = ssd_role_memory<V>;
  constexpr bool gated = Gated::value != 0;
  const ssd_plan<E>& plan = all.plan;
  const int first = at.template ends<Work>(plan) ? at.chunks : 0;
  const int warp = __shfl_sync(all_lanes, warp_index(), 0), quarter = warp & 3;
  const int lane = lane_index(), row = lane >> 2, pair = 2 * (lane & 3), t = 16 * quarter + row;
  for (int c = warp / 4 - 1; c < at.chunks; c += ssd_writers) {
    const int u = first + c, near = u % memory::turns, later = u % memory::later;
    const index_t t0 = at.begin + index_t(c) * ssd_tile;
    const ssd_tokens& tokens = s.tokens[later];
    const V *xs = s.x[later], *Bs = s.B[near], *Cs = s.C[near], *Ss = s.S[c % 2];
    V* const ys = s.z[later];
    // A barrier tells turns apart by their parity: no wait for one before the ends are done with.
    if (first > 0 && c < 2) wait_for_copies(s.entered[c % 2], 0);
    if (c >= ssd_writers) {
      if (lane == 0) wait_until_read();
      __syncwarp();
      arrive(s.written[(u - ssd_writers) % memory::later]);
    }
    wait_for_copies(s.filled[later], u / memory::later & 1);
    float y[8][4], gate[8][4];
    {
      float cb[8][4];
      begin_products();
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        const int from = k / 4 * operand_tile + k % 4 * 16;
        multiply_shared<V>(cb, operand_at(Cs, from), operand_at(Bs, from), k > 0);
      }
      commit_products();
      if constexpr (gated) {  // while these run
#pragma unroll
        for (int j = 0; j < 8; j += 2) {
          unsigned z[4];
          load_left<8>(z, ys, 16 * quarter, j);
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            gate[j + i / 2][2 * (i % 2)] = silu_as<V>(low_of<V>(z[i]));
            gate[j + i / 2][2 * (i % 2) + 1] = silu_as<V>(high_of<V>(z[i]));
          }
        }
      }
      wait_for_copies(s.entered[c % 2], c / 2 & 1);
      begin_products();
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        const int from = k / 4 * operand_tile + k % 4 * 16;
        multiply_shared<V>(y, operand_at(Cs, from), operand_at(Ss, from), k > 0);
      }
      commit_products();
      wait_products<1>();
      take_products(cb);

      unsigned scores[4][4];
      ssd_scores<V, Starts::value != 0>(scores, cb, tokens, quarter);
      const float carry[2] = {tokens.carry[t], tokens.carry[t + 8]};
      wait_products<0>();
      take_products(y);
      arrive(s.multiplied[c % 2]), arrive(s.done[near]);
#pragma unroll
      for (int j = 0; j < 8; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) y[j][e] *= carry[e / 2];
      if (carry[0] == 0.0f || carry[1] == 0.0f) {  // drops even infinities
#pragma unroll
        for (int j = 0; j < 8; ++j)
#pragma unroll
          for (int e = 0; e < 4; ++e) y[j][e] = carry[e / 2] == 0.0f ? 0.0f : y[j][e];
      }
      begin_products();
#pragma unroll
      for (int k = 0; k < 4; ++k)
        multiply_add_right<V>(y, scores[k], operand_at(xs, 16 * k * ssd_tile));
      commit_products();
    }
    wait_products<0>();
    take_products(y);
    // D x and the gate; then through shared memory, to write whole rows.
    const unsigned y_place = stored_at(ys, 16 * quarter);
    float squares[2] = {};
#pragma unroll
    for (int j = 0; j < 8; j += 2) {
      unsigned x[4], out[4];
      load_left<8>(x, xs, 16 * quarter, j);
#pragma unroll
      for (int i = 0; i < 4; ++i) {  // rows t and t + 8 of columns 8 j, then of the next 8
        const int p = 8 * (j + i / 2) + pair, e = i % 2;
        const float2 D = *reinterpret_cast<const float2*>(s.D + p);
        float v[2] = {multiply_add(D.x, low_of<V>(x[i]), y[j + i / 2][2 * e]),
                      multiply_add(D.y, high_of<V>(x[i]), y[j + i / 2][2 * e + 1])};
        if constexpr (gated) {
          v[0] *= gate[j + i / 2][2 * e];
          v[1] *= gate[j + i / 2][2 * e + 1];
        }
        if constexpr (Gated::value == 2) {
          squares[e] += v[0] * v[0] + v[1] * v[1];
          const float2 weight = *reinterpret_cast<const float2*>(s.weight + p);
          v[0] *= weight.x, v[1] *= weight.y;
        }
        out[i] = pack<V>(v[0], v[1]);
      }
      store_matrices(y_place, j, out[0], out[1], out[2], out[3]);
    }
    if constexpr (Gated::value == 2) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const float sum = warp_sum<4>(squares[e]);
        const index_t to = t0 + t + 8 * e;
        if (lane % 4 == 0 && to < at.end) plan.squares(at.b, to, at.h) = sum;
      }
    }
    show_to_copies();
    __syncwarp();
    if (lane == 0)
      copy_tile_out(all.y, ys + 16 * quarter * ssd_tile, at.p0, int(at.h), int(t0) + 16 * quarter,
                    int(at.b));
  }
  if (lane == 0) wait_until_read();  // shared memory stays until then
}

#endif

/// `Work`: ssd_y or ssd_both. `Gated`: 1: by z, 2: and with weight and squares as ops::mamba2_scan
/// has them.
template <class Work, class Starts, class Gated, class E>
__global__ void __launch_bounds__(ssd_role_threads, 1)
    ssd_role_kernel(const __grid_constant__ ssd_role_plan<E> all) {
#if defined(MLMAMBA_WARPGROUPS)
  using memory = ssd_role_memory<typename E::value>;
  extern __shared__ __align__(128) unsigned char raw[];
  auto& s = *reinterpret_cast<memory*>(raw + (1024 - shared_address(raw) % 1024) % 1024);
  if (threadIdx.x == 0) {
#pragma unroll
    for (int i = 0; i < memory::later; ++i)
      open_barrier(s.filled[i]), open_barrier(s.written[i], 128);
#pragma unroll
    for (int i = 0; i < memory::turns; ++i) open_barrier(s.done[i], 256);
#pragma unroll
    for (int i = 0; i < 2; ++i) open_barrier(s.entered[i], 128), open_barrier(s.multiplied[i], 128);
    barriers_are_open();
  }
  const ssd_plan<E>& plan = all.plan;
  const ssd_role_place<E> at(plan);
  wait_for_launch_before();
  const int p = int(threadIdx.x);
  if (p < ssd_tile) {
    s.D[p] = plan.op.D && p < at.columns ? plan.op.D(at.h, at.p0 + p) : 0.0f;
    if constexpr (Gated::value == 2)
      s.weight[p] = p < at.columns ? plan.gate_weight(at.h * plan.op.x.size[3] + at.p0 + p) : 0.0f;
  }
  __syncthreads();
  if (threadIdx.x >= (1 + ssd_writers) * 128) {
    give_registers<32>();
    if (threadIdx.x == (1 + ssd_writers) * 128) ssd_role_copies<Work, Gated>(all, at, s);
    return;
  }
  take_registers<160>();
  if (threadIdx.x < 128) {
    ssd_role_state<Work>(all, at, s);
  } else {
    ssd_role_y<Work, Starts, Gated>(all, at, s);
  }
#endif
}

}  // namespace mlmamba::backend::kernels
