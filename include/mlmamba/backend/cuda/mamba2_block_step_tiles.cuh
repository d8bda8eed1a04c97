// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A Mamba-2 block for one token of up to 16 rows in bf16, in three launches on tensor cores: norm,
// projection and convolution; the state and its gate; norm and projection.
#pragma once

#include <algorithm>

#include "mlmamba/backend/cuda/ssd_step.cuh"
#include "mlmamba/backend/cuda/weight_tiles.cuh"
#include "mlmamba/ops/mamba2_block_step.hpp"

namespace mlmamba::backend::kernels {

inline constexpr int block_step_taps = 4;  ///< of all published models

/// One channel of a row, as causal_conv1d_step, before its activation; moves the window on.
template <class V>
__device__ float block_step_convolution(const view<V, 3, memory::device>& states, int m, int c,
                                        const float (&weight)[block_step_taps], float bias,
                                        const V (&window)[block_step_taps - 1], V x) {
  constexpr int last = block_step_taps - 1;
  float sum = bias;
#pragma unroll
  for (int w = 0; w < last; ++w) {
    sum = fmaf(weight[w], float(window[w]), sum);
    states(m, c, w) = w + 1 < last ? window[w + 1 < last ? w + 1 : w] : x;
  }
  return fmaf(weight[last], float(x), sum);
}

/// The state, between the two projections; z may be empty.
template <class E, class W>
ops::ssd_step<E> block_step_state(const ops::mamba2_block_step<E, W>& op, in<E, 2> xBC, in<E, 2> dt,
                                  out<E, 2> y, in<E, 2> z = {}) {
  const index_t d = op.scanned(), p = op.state.size[2], n = op.state.size[3], gn = op.groups * n;
  return {.state = op.state,
          .x = xBC.slice(1, 0, d).split(1, p),
          .dt = dt,
          .A = op.A_log,
          .B = xBC.slice(1, d, gn).split(1, n),
          .C = xBC.slice(1, d + gn, gn).split(1, n),
          .D = op.D,
          .z = z ? z.split(1, p) : in<E, 3>{},
          .dt_bias = op.dt_bias,
          .y = y.split(1, p),
          .dt_softplus = true,
          .dt_min = op.dt_min,
          .dt_max = op.dt_max};
}

template <class E, class W>
struct block_step_tiles {
  static constexpr index_t most_groups = 8;
  ops::mamba2_block_step<E, W> op;
  weight_tile_plan tiles;
  out<E, 2> z, xBC, dt, gated;             // gated: y silu(z) gate_weight
  view<float, 3, memory::device> squares;  // (B, groups, some): sums of those of y silu(z)
};

/// Asks the second-level cache for the lines of a run.
template <class T>
__device__ void prefetch_run(const T* from, int count, int thread, int threads) {
  constexpr int line = 128 / int(sizeof(T));
  for (int i = thread * line; i < count + line; i += threads * line)  // the run may begin in a line
    asm volatile("prefetch.global.L2 [%0];\n" ::"l"(from + min(i, count - 1)));
}

/// The sum of a run, in every lane, of which a lane reads `Ahead` at once.
template <int Ahead>
__device__ float sum_of_run(const float* from, int count) {
  float sum = 0;
  for (int start = lane_index(); start - lane_index() < count; start += Ahead * warp_size) {
    float v[Ahead];
#pragma unroll
    for (int i = 0; i < Ahead; ++i)
      v[i] = start + i * warp_size < count ? __ldcg(from + start + i * warp_size) : 0.0f;
#pragma unroll
    for (int i = 0; i < Ahead; ++i) sum += v[i];
  }
  return warp_sum(sum);
}

template <class E, class W>
__global__ void __launch_bounds__(weight_tile_threads, 1)
    block_step_in_tiles_kernel(const block_step_tiles<E, W> s) {
  using V = typename E::value;
  using lane = weight_tile_lane;
  constexpr int taps = block_step_taps, turns = few_weight_turns::value, count = 8;
  extern __shared__ __align__(128) unsigned char tile_bytes[];
  __shared__ float squares[weight_tile_warps][weight_tile_vectors];
  const auto& op = s.op;
  const int d = int(s.z.size[1]), channels = int(s.xBC.size[1]), width = int(op.residual.size[1]);
  const int rows = int(op.residual.size[0]);
  struct channel {  // of a row
    float weight[taps], bias;
    V window[taps - 1];
  };
  rows_times_vectors<few_weight_turns, W>(
      s.tiles, op.in_proj, tile_bytes,
      [&](int n, int end) {  // windows first: behind the weights they would wait for all of them
        const int from = max(n - d, 0), some = min(end - d, channels) - from, warp = warp_index();
        if (some > 0) {
          for (int i = warp; i < rows * (taps - 1); i += weight_tile_warps)
            prefetch_run(&op.window(i / (taps - 1), from, i % (taps - 1)), some, lane_index(),
                         warp_size);
          prefetch_run(&op.conv_weight(from, 0), some * taps, int(threadIdx.x),
                       weight_tile_threads);
        }
        prefetch_run(op.norm_weight.data, width, int(threadIdx.x), weight_tile_threads);
      },
      [&](held_vectors<few_weight_turns>& held) {
        float sum[2] = {};
#pragma unroll
        for (int i = 0; i < turns; ++i) {
          float r[2][count] = {}, factor[count] = {};
          if (lane::at(i) < width) {
            read_piece(factor, op.norm_weight.data + lane::at(i));
#pragma unroll
            for (int k = 0; k < 2; ++k)
              if (lane::m(k) < rows) read_piece(r[k], &op.residual(lane::m(k), lane::at(i)));
          }
#pragma unroll
          for (int k = 0; k < 2; ++k) {
#pragma unroll
            for (int e = 0; e < count; ++e) {
              sum[k] = fmaf(r[k][e], r[k][e], sum[k]);
              r[k][e] *= factor[e];
            }
            held[i][k] = make_uint4(pack<V>(r[k][0], r[k][1]), pack<V>(r[k][2], r[k][3]),
                                    pack<V>(r[k][4], r[k][5]), pack<V>(r[k][6], r[k][7]));
          }
        }
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          sum[k] = warp_sum<4>(sum[k]);
          if (lane_index() % 4 == 0) squares[warp_index()][lane::m(k)] = sum[k];
        }
      },
      [&](int m) {
        float all = 0;
#pragma unroll
        for (int w = 0; w < weight_tile_warps; ++w) all += squares[w][m];
        return rsqrtf(all / float(width) + float(op.epsilon));
      },
      [&](int m, int n) {
        channel own{};
        const int c = n - d;
        if (c < 0 || c >= channels || m >= rows) return own;
        read_piece(own.weight, &op.conv_weight(c, 0));
        if (op.conv_bias) own.bias = op.conv_bias(c);
#pragma unroll
        for (int w = 0; w + 1 < taps; ++w) own.window[w] = op.window(m, c, w);
        return own;
      },
      [&](int m, int n, float sum, const channel& own) {
        if (m >= rows) return;
        const V x = V(sum);
        const int c = n - d;
        if (n < d) {
          s.z(m, n) = x;
        } else if (c >= channels) {
          s.dt(m, c - channels) = x;
        } else {
          s.xBC(m, c) = V(silu_as<V>(
              block_step_convolution(op.window, m, c, own.weight, own.bias, own.window, x)));
        }
      });
}

template <class Turns, class E, class W>
__global__ void __launch_bounds__(weight_tile_threads, 1)
    block_step_out_tiles_kernel(const block_step_tiles<E, W> s) {
  using V = typename E::value;
  using lane = weight_tile_lane;
  constexpr int turns = Turns::value;
  extern __shared__ __align__(128) unsigned char tile_bytes[];
  __shared__ float rstd[block_step_tiles<E, W>::most_groups][weight_tile_vectors];
  const auto& op = s.op;
  const int d = int(s.gated.size[1]), groups = int(op.groups), group = d / groups;
  const int rows = int(op.residual.size[0]);
  rows_times_vectors<Turns, W>(
      s.tiles, op.out_proj, tile_bytes, [](int, int) {},
      [&](held_vectors<Turns>& held) {
#pragma unroll
        for (int i = 0; i < turns; ++i)
#pragma unroll
          for (int k = 0; k < 2; ++k)
            held[i][k] = lane::at(i) < d && lane::m(k) < rows
                             ? *reinterpret_cast<const uint4*>(&s.gated(lane::m(k), lane::at(i)))
                             : uint4{};
        for (int i = warp_index(); i < groups * weight_tile_vectors; i += weight_tile_warps) {
          const int m = i % weight_tile_vectors, g = i / weight_tile_vectors;
          if (m >= rows) continue;
          const float sum = sum_of_run<20>(&s.squares(m, g, 0), int(s.squares.size[2]));
          if (lane_index() == 0) rstd[g][m] = rsqrtf(sum / float(group) + float(op.gate_epsilon));
        }
        if (groups == 1) return;  // then it is a factor of the sums
        __syncthreads();
#pragma unroll
        for (int i = 0; i < turns; ++i) {
          if (lane::at(i) >= d) break;
#pragma unroll
          for (int k = 0; k < 2; ++k) {
            const float by = rstd[lane::at(i) / group][lane::m(k)];
            unsigned* const v = &held[i][k].x;
#pragma unroll
            for (int e = 0; e < 4; ++e) v[e] = pack<V>(low_of<V>(v[e]) * by, high_of<V>(v[e]) * by);
          }
        }
      },
      [&](int m) { return groups == 1 ? rstd[0][m] : 1.0f; },
      [&](int m, int n) {
        const bool there = m < rows && n < int(op.out_proj.size[0]);
        return there ? op.residual(m, n) : 0.0f;
      },
      [&](int m, int n, float sum, float before) {
        if (m < rows) op.residual(m, n) = before + sum;
      });
}

template <class E, class W>
bool block_step_in_tiles(const context<cuda>& ctx, const ops::mamba2_block_step<E, W>& op) {
  const index_t per = 8, d = op.scanned();  // pieces of V and of an f32 state
  const index_t b = op.residual.size[0];    // fewer are faster without tensor cores
  constexpr int other_memory = 2 << 10;     // what kernels have beside tiles
  const auto fits = [&](const view<const W, 2, memory::device>& w) {
    return in_weight_tiles(w) &&
           weight_tile_plan(w.size[1]).bytes() + other_memory <= ctx.block_memory;
  };
  return ctx.overlaps_launches && b > 2 && b <= weight_tile_vectors && fits(op.in_proj) &&
         fits(op.out_proj) && op.in_proj.size[1] <= weight_tile_most_depth<few_weight_turns> &&
         op.conv_weight.size[1] == block_step_taps && in_pieces(op.conv_weight, 4) &&
         op.window.stride[1] == 1 && in_pieces(op.residual, per) &&
         in_pieces(op.norm_weight, per) && in_pieces(op.gate_weight, per) &&
         op.groups <= block_step_tiles<E, W>::most_groups && (d / op.groups) % per == 0 &&
         op.state.size[3] % per == 0 && ssd_step_in_rows<E>(op.state);
}

template <class E, class W>
void run_block_step_tiles(context<cuda>& ctx, const ops::mamba2_block_step<E, W>& op) {
  using plan_type = block_step_tiles<E, W>;
  const index_t b = op.residual.size[0], h = op.heads();
  auto frame = ctx.scratch.make_frame();
  const auto make = [&](index_t n) -> out<E, 2> { return ctx.template make<E, 2>({{b, n}}); };
  const index_t some = h / op.groups * ssd_step_tiles(op.state.size[2]);
  plan_type plan{op,
                 weight_tile_plan(op.in_proj.size[1]),
                 make(op.scanned()),
                 make(op.channels()),
                 make(h),
                 make(op.scanned()),
                 ctx.scratch.template make<float>(shape<3>{{b, op.groups, some}})};
  const auto launch = [&](auto kernel, index_t rows) {
    const int bytes = plan.tiles.bytes();
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
               op.name);
    const index_t tiles = (rows + weight_tile_rows - 1) / weight_tile_rows;
    launch_early(ctx, op.name, kernel, unsigned(std::min<index_t>(tiles, ctx.multiprocessors)),
                 weight_tile_threads, std::size_t(bytes), plan);
  };
  launch(block_step_in_tiles_kernel<E, W>, op.in_proj.size[0]);
  launch_ssd_step_rows<constant<1>, E>(
      ctx, ssd_gated_step<E>{block_step_state<E, W>(op, plan.xBC, plan.dt, plan.gated, plan.z),
                             op.gate_weight.data, plan.squares.data});
  plan.tiles = weight_tile_plan(op.out_proj.size[1]);
  if (op.out_proj.size[1] <= weight_tile_most_depth<few_weight_turns>) {
    launch(block_step_out_tiles_kernel<few_weight_turns, E, W>, op.out_proj.size[0]);
  } else {
    launch(block_step_out_tiles_kernel<many_weight_turns, E, W>, op.out_proj.size[0]);
  }
}

}  // namespace mlmamba::backend::kernels
