// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A Mamba-2 block for one token of up to 8 rows in 16 bits, small enough that its time is that of
// reaching memory a few times: one launch of three parts, whose blocks wait for those of the part
// before with their weights in shared memory. Norm, projection and convolution; the state and its
// gate; norm, projection and residual. Products on tensor cores.
#pragma once

#include <algorithm>

#include "mlmamba/backend/cuda/mamba2_block_step_tiles.cuh"

namespace mlmamba::backend::kernels {

inline constexpr int small_step_threads = 256, small_step_warps = small_step_threads / warp_size;
inline constexpr int small_step_resident = 3;  ///< blocks of a multiprocessor
inline constexpr int small_step_rows = 8;      ///< of residual, at most
inline constexpr int small_step_depth = 32;    ///< terms of a warp's turn
inline constexpr int small_step_tiles = 2;     ///< of 8 rows of in_proj, of a block
/// Of the depth of in_proj and of out_proj, at most.
inline constexpr int small_step_in_turns = 4, small_step_out_turns = 8;

/// Of a product of this depth.
__host__ __device__ inline int small_step_turns(index_t depth) {
  constexpr index_t turn = small_step_warps * small_step_depth;
  return int((depth + turn - 1) / turn);
}

template <class E, class W>
struct small_step_plan {
  ops::mamba2_block_step<E, W> op;
  out<E, 2> z, xBC, dt;
  ssd_gated_step<E> state;
  int in_blocks, state_blocks, out_blocks;
  int parts;      // of the squares of a row
  int* arrivals;  // of blocks of the first part, of the second; of those that wait for nobody more
};

/// The terms of a product that a lane has, as weight_tile_lane, and the sums of a block's warps.
template <int Turns, int Tiles>
struct small_step_product {
  static __device__ int at(int turn) {
    return (warp_index() + turn * small_step_warps) * small_step_depth + lane_index() % 4 * 8;
  }
  /// Of residual; where there are fewer the last again, whose sums nobody asks for.
  static __device__ int row(int rows) { return min(lane_index() / 4, rows - 1); }

  float sums[small_step_warps][small_step_rows][8 * Tiles];
  float squares[small_step_warps][small_step_rows];

  /// Where a lane's piece of the weights is: only it reads what it has asked for.
  static __device__ uint4& piece(uint4* weights, int turn, int tile) {
    return weights[(turn * Tiles + tile) * small_step_threads + int(threadIdx.x)];
  }
  /// Asks for rows of w from `first` on.
  template <class T>
  static __device__ void fetch(uint4* weights, const view<const T, 2, memory::device>& w,
                               int first) {
    for (int i = 0; i < Turns && at(i) < int(w.size[1]); ++i)
#pragma unroll
      for (int t = 0; t < Tiles; ++t) {
        const int n = first + 8 * t + lane_index() / 4;
        const bool there = n < int(w.size[0]);
        copy_piece(&piece(weights, i, t), w.data + (there ? n : 0) * w.stride[0] + at(i), there);
      }
    commit_copies();
  }
  /// By all threads, which meet.
  template <class T>
  __device__ void multiply(uint4* weights, const uint4 (&x)[Turns], int depth) {
    float sum[Tiles][4] = {};
    wait_copies<0>();
#pragma unroll
    for (int i = 0; i < Turns; ++i) {
      if (at(i) - lane_index() % 4 * 8 >= depth) break;
      const unsigned a0[4] = {x[i].x, 0, x[i].y, 0}, a1[4] = {x[i].z, 0, x[i].w, 0};
#pragma unroll
      for (int t = 0; t < Tiles; ++t) {
        const uint4 b = piece(weights, i, t);
        multiply_tile<T>(sum[t], a0, b.x, b.y);
        multiply_tile<T>(sum[t], a1, b.z, b.w);
      }
    }
    float* const to = &sums[warp_index()][lane_index() / 4][lane_index() % 4 * 2];
#pragma unroll
    for (int t = 0; t < Tiles; ++t)
      *reinterpret_cast<float2*>(to + 8 * t) = make_float2(sum[t][0], sum[t][1]);
    __syncthreads();
  }
  /// Row n of the block's for row m of residual, over the warps in ascending order, divided by the
  /// root of the mean of so many squares.
  __device__ float result(int m, int n, int squared, float epsilon) const {
    float sum = 0, square = 0;
#pragma unroll
    for (int w = 0; w < small_step_warps; ++w) sum += sums[w][m][n], square += squares[w][m];
    return sum * rsqrtf(square / float(squared) + epsilon);
  }
};

template <class E, class W>
__device__ void small_step_in(const small_step_plan<E, W>& plan, int block) {
  using V = typename E::value;
  using product = small_step_product<small_step_in_turns, small_step_tiles>;
  constexpr int turns = small_step_in_turns, taps = block_step_taps, per = 8;
  constexpr int of_block = 8 * small_step_tiles;
  __shared__ product sums;
  extern __shared__ uint4 weights[];
  const auto& op = plan.op;
  const int rows = int(op.residual.size[0]), width = int(op.residual.size[1]);
  const int d = int(plan.z.size[1]), channels = int(plan.xBC.size[1]);
  product::fetch(weights, op.in_proj, block * of_block);
  float* const factors = reinterpret_cast<float*>(
      weights + small_step_turns(width) * small_step_tiles * small_step_threads);
  for (int i = int(threadIdx.x); i < width / 4; i += small_step_threads)
    reinterpret_cast<float4*>(factors)[i] = reinterpret_cast<const float4*>(op.norm_weight.data)[i];
  // A thread finishes row m of residual with row n of the weights.
  const int m = int(threadIdx.x) / of_block, of = int(threadIdx.x) % of_block;
  const int n = block * of_block + of, c = n - d;
  const bool finishes = m < rows && n < int(op.in_proj.size[0]);
  const bool convolves = finishes && c >= 0 && c < channels;
  float weight[taps] = {}, bias = 0;
  V window[taps - 1] = {};
  if (convolves) {
    read_piece(weight, &op.conv_weight(c, 0));
    if (op.conv_bias) bias = op.conv_bias(c);
#pragma unroll
    for (int i = 0; i + 1 < taps; ++i)
      asm volatile("prefetch.global.L2 [%0];\n" ::"l"(&op.window(m, c, i)));
  }
  __syncthreads();  // the factors are there
  wait_for_launch_before();
  // All is asked for at once: terms that are not there are others, which are not multiplied.
  const float* const residual = &op.residual(product::row(rows), 0);
  float r[turns][per];
#pragma unroll
  for (int i = 0; i < turns; ++i)
    read_piece(r[i], residual + (product::at(i) < width ? product::at(i) : 0));
  if (convolves)
#pragma unroll
    for (int i = 0; i + 1 < taps; ++i) window[i] = op.window(m, c, i);
  uint4 x[turns];
  float squares = 0;
#pragma unroll
  for (int i = 0; i < turns; ++i) {
    const bool there = product::at(i) < width;
    float factor[per], square = 0;
    read_piece(factor, factors + (there ? product::at(i) : 0));
#pragma unroll
    for (int e = 0; e < per; ++e) {
      square = fmaf(r[i][e], r[i][e], square);
      r[i][e] *= factor[e];
    }
    squares += there ? square : 0.0f;
    x[i] = make_uint4(pack<V>(r[i][0], r[i][1]), pack<V>(r[i][2], r[i][3]),
                      pack<V>(r[i][4], r[i][5]), pack<V>(r[i][6], r[i][7]));
  }
  squares = warp_sum<4>(squares);
  if (lane_index() % 4 == 0) sums.squares[warp_index()][lane_index() / 4] = squares;
  sums.template multiply<W>(weights, x, width);
  if (!finishes) return;
  const V v = V(sums.result(m, of, width, float(op.epsilon)));
  if (convolves) {
    plan.xBC(m, c) =
        V(silu_as<V>(block_step_convolution(op.window, m, c, weight, bias, window, v)));
  } else {
    (n < d ? plan.z(m, n) : plan.dt(m, c - channels)) = v;
  }
}

/// States: rows of the state that a warp of the part before has.
template <int States, class E, class W>
__device__ void small_step_out(const small_step_plan<E, W>& plan, int block) {
  using product = small_step_product<small_step_out_turns, 1>;
  constexpr int turns = small_step_out_turns;
  __shared__ product sums;
  extern __shared__ uint4 weights[];
  const auto& op = plan.op;
  const int rows = int(op.residual.size[0]), d = int(op.out_proj.size[1]);
  product::fetch(weights, op.out_proj, block * 8);
  const int m = int(threadIdx.x) / 8, of = int(threadIdx.x) % 8, n = block * 8 + of;
  const bool finishes = m < rows && n < int(op.out_proj.size[0]);
  wait_for_launch_before();
  const float before = finishes ? op.residual(m, n) : 0.0f;
  wait_for_arrivals(plan.arrivals + arrival_step, plan.state_blocks);
  const auto* const gated =  // (B, H, P), a row of which is one piece
      reinterpret_cast<const uint4*>(&plan.state.op.y(product::row(rows), 0, 0));
  uint4 x[turns];
#pragma unroll
  for (int i = 0; i < turns; ++i)
    x[i] = __ldcg(gated + (product::at(i) < d ? product::at(i) / 8 : 0));
  // Few rows have their squares summed by all warps, more by a warp each.
  constexpr bool shared = States < ssd_step_rows;
  const int parts = plan.parts, warp = warp_index();
  const int begin = shared ? parts * warp / small_step_warps : 0;
  const int end = shared ? parts * (warp + 1) / small_step_warps : parts;
  if (lane_index() < small_step_rows) sums.squares[warp][lane_index()] = 0;
  __syncwarp();
  for (int b = shared ? 0 : warp; b < rows; b += shared ? 1 : small_step_warps) {
    const float* const squares = plan.state.squares + index_t(b) * parts;
    const float sum = sum_of_run < shared ? 4 : 8 > (squares + begin, end - begin);
    if (lane_index() == 0) sums.squares[warp][b] = sum;
  }
  sums.template multiply<W>(weights, x, d);
  if (finishes) op.residual(m, n) = before + sums.result(m, of, d, float(op.gate_epsilon));
  if (threadIdx.x == 0 && atomicAdd(plan.arrivals + 2 * arrival_step, 1) == plan.out_blocks - 1)
    for (int i = 0; i < 3; ++i) plan.arrivals[i * arrival_step] = 0;  // nobody waits any more
}

template <class States, class E, class W>
__global__ void __launch_bounds__(small_step_threads, small_step_resident)
    small_step_kernel(const small_step_plan<E, W> plan) {
  int block = int(blockIdx.x);
  if (block < plan.in_blocks) {
    small_step_in(plan, block);
    return arrive(plan.arrivals);
  }
  block -= plan.in_blocks;
  if (block >= plan.state_blocks)
    return small_step_out<States::value>(plan, block - plan.state_blocks);
  ssd_step_of_rows<constant<1>, States::value, E>(
      plan.state, index_t(block) * small_step_warps + warp_index(),
      [] { wait_for_launch_before(); }, [&] { wait_for_arrivals(plan.arrivals, plan.in_blocks); });
  arrive(plan.arrivals + arrival_step);
}

template <class E, class W>
bool block_step_is_small(const ops::mamba2_block_step<E, W>& op) {
  constexpr index_t per = 8;  // of V and of an f32 state
  const index_t width = op.residual.size[1], d = op.scanned();
  return op.residual.size[0] <= small_step_rows && op.groups == 1 &&
         width % small_step_depth == 0 && d % small_step_depth == 0 &&
         op.state.size[3] % per == 0 && small_step_turns(width) <= small_step_in_turns &&
         small_step_turns(d) <= small_step_out_turns && op.conv_weight.size[1] == block_step_taps &&
         in_pieces(op.conv_weight, 4) && in_pieces(op.residual, 4) &&
         in_pieces(op.norm_weight, 4) && in_pieces(op.in_proj) && in_pieces(op.out_proj) &&
         ssd_step_in_rows<E>(op.state);
}

template <class States, class E, class W>
void launch_block_step_small(context<cuda>& ctx, const ops::mamba2_block_step<E, W>& op) {
  const index_t b = op.residual.size[0], h = op.heads(), width = op.residual.size[1];
  const index_t d = op.scanned(), parts = h * ssd_step_tiles(op.state.size[2], States::value);
  auto frame = ctx.scratch.make_frame();
  const auto make = [&](index_t n) -> out<E, 2> { return ctx.template make<E, 2>({{b, n}}); };
  small_step_plan<E, W> plan{op, make(d), make(op.channels()), make(h)};
  plan.state = {block_step_state<E, W>(op, plan.xBC, plan.dt, make(d), plan.z), op.gate_weight.data,
                ctx.scratch.template make<float>(shape<2>{{b, parts}}).data};
  plan.in_blocks = int(blocks_for(op.in_proj.size[0], 8 * small_step_tiles));
  plan.state_blocks = int(blocks_for(b * parts, small_step_warps));
  plan.out_blocks = int(blocks_for(op.out_proj.size[0], 8));
  plan.parts = int(parts), plan.arrivals = ctx.arrivals.data();
  constexpr int turn_bytes = small_step_threads * 16;
  const int bytes =
      std::max(small_step_turns(width) * small_step_tiles * turn_bytes + int(width) * 4,
               small_step_turns(d) * turn_bytes);
  launch_early(ctx, op.name, small_step_kernel<States, E, W>,
               unsigned(plan.in_blocks + plan.state_blocks + plan.out_blocks), small_step_threads,
               std::size_t(bytes), plan);
}

/// Few rows of residual have more warps for the state.
template <class E, class W>
void run_block_step_small(context<cuda>& ctx, const ops::mamba2_block_step<E, W>& op) {
  if (op.residual.size[0] <= 2) return launch_block_step_small<constant<2>>(ctx, op);
  launch_block_step_small<constant<ssd_step_rows>>(ctx, op);
}

}  // namespace mlmamba::backend::kernels
