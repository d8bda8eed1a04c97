// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What the SSD tile kernels know before they start: the decays of each head's tokens, and C B^T of
// each group's chunks.
#pragma once

#include "mlmamba/backend/cuda/mma.cuh"
#include "mlmamba/backend/cuda/pieces.cuh"
#include "mlmamba/backend/cuda/ssd_plan.cuh"

namespace mlmamba::backend::kernels {

inline constexpr int ssd_tile = 64;              ///< tokens of a chunk, and rows p of a block
inline constexpr int ssd_tile_threads = 128;     ///< of a block that multiplies one chunk
inline constexpr float ssd_forgotten = -160.0f;  ///< 2^-160 is 0: no step decays by more

/// The tokens of a chunk for one head. a[t] is the logarithm (base 2) of the decay since the chunk
/// began, token t included.
struct ssd_tokens {
  float decay[ssd_tile];   ///< a[t]
  float dt[ssd_tile];      ///< dt', 0 behind the end
  float carry[ssd_tile];   ///< 2^a[t]; 0 if a sequence has begun in the chunk since
  float weight[ssd_tile];  ///< dt'[t] 2^(a[end] - a[t]); 0 if a later sequence has begun
  int sequence[ssd_tile];  ///< how many have begun in the chunk; there only if there is a seq_idx
};

/// Floats from one chunk's tokens to the next.
template <class E>
MLMAMBA_HD index_t ssd_tokens_size(const ops::ssd_inputs<E>& op) {
  return (op.seq_idx ? 5 : 4) * index_t(ssd_tile);
}

inline constexpr int ssd_tokens_heads = 16;  ///< of a block of ssd_tokens_kernel

template <class E>
struct ssd_tokens_plan {
  static constexpr const char* name = "ssd";
  ops::ssd_inputs<E> op;
  float* tokens;         // (B, chunks of 64, H, ssd_tokens_size)
  int* flags = nullptr;  // these become zero
  index_t flag_count = 0;

  index_t blocks() const {
    return op.x.size[0] * ((op.x.size[1] + ssd_tile - 1) / ssd_tile) *
           ((op.x.size[2] + ssd_tokens_heads - 1) / ssd_tokens_heads);
  }
};

/// A block has 16 heads of one chunk, a warp two of them; a lane has tokens 2 lane and 2 lane + 1.
/// Rates: 0: A is given, 1: log(-A) is.
template <class Rates, class E>
__device__ void ssd_tokens_block(const ssd_tokens_plan<E>& plan, index_t block) {
  constexpr int some = ssd_tokens_heads;
  __shared__ float steps[some][ssd_tile + 1];
  const ops::ssd_inputs<E>& op = plan.op;
  const index_t length = op.x.size[1], heads = op.x.size[2];
  const index_t chunks = (length + ssd_tile - 1) / ssd_tile;
  index_t b = block;
  const index_t h0 = take_index(b, (heads + some - 1) / some) * some, c = take_index(b, chunks),
                t0 = c * ssd_tile;
  if (block == 0)
    for (index_t i = threadIdx.x; i < plan.flag_count; i += block_threads) plan.flags[i] = 0;
  for (int e = int(threadIdx.x); e < some * ssd_tile; e += block_threads) {
    const int h = e % some, t = e / some;
    const bool there = h0 + h < heads && t0 + t < length;
    steps[h][t] = there ? ssd_dt(op, b, t0 + t, h0 + h) : 0.0f;
  }
  const int lane = lane_index();
  int sequence[2];
  {
    int starts[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const index_t t = t0 + 2 * lane + i;
      starts[i] = t < length && ssd_starts(op, b, t);
    }
    int count = starts[0] + starts[1];
#pragma unroll
    for (int o = 1; o < warp_size; o *= 2) {
      const int begun = __shfl_up_sync(all_lanes, count, o);
      if (lane >= o) count += begun;
    }
    sequence[0] = count - starts[1], sequence[1] = count;
  }
  const int current = __shfl_sync(all_lanes, sequence[1], warp_size - 1);
  __syncthreads();
  for (int i = warp_index(); i < some; i += block_threads / warp_size) {
    const index_t h = h0 + i;
    if (h >= heads) return;
    const float a_of_h = Rates::value == 1 ? -math::exp(op.A(h)) : op.A(h);
    const float rate = a_of_h * 1.44269504f;  // to base 2
    const float dt[2] = {steps[i][2 * lane], steps[i][2 * lane + 1]};
    float decay[2] = {dt[0] * rate, dt[1] * rate};
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      if (t0 + 2 * lane + k >= length) decay[k] = 0.0f;
      if (decay[k] < ssd_forgotten) decay[k] = ssd_forgotten;  // NaN stays
    }
    float sum = decay[0] + decay[1];
#pragma unroll
    for (int o = 1; o < warp_size; o *= 2) {
      const float before = __shfl_up_sync(all_lanes, sum, o);
      if (lane >= o) sum += before;
    }
    const float a[2] = {sum - decay[1], sum};
    const float last = __shfl_sync(all_lanes, sum, warp_size - 1);
    float* to = plan.tokens + ((b * chunks + c) * heads + h) * ssd_tokens_size(op) + 2 * lane;
    const auto put = [&](int array, float x, float y) {
      *reinterpret_cast<float2*>(to + array * ssd_tile) = make_float2(x, y);
    };
    put(0, a[0], a[1]);
    put(1, dt[0], dt[1]);
    put(2, sequence[0] == 0 ? power_of_2(a[0]) : 0.0f, sequence[1] == 0 ? power_of_2(a[1]) : 0.0f);
    put(3, sequence[0] == current ? dt[0] * power_of_2(last - a[0]) : 0.0f,
        sequence[1] == current ? dt[1] * power_of_2(last - a[1]) : 0.0f);
    if (op.seq_idx) put(4, __int_as_float(sequence[0]), __int_as_float(sequence[1]));
  }
}

template <class E>
__global__ void __launch_bounds__(block_threads) ssd_tokens_kernel(const ssd_tokens_plan<E> plan) {
  wait_for_launch_before();
  ssd_tokens_block<constant<0>>(plan, blockIdx.x);
}

/// C B^T of the tokens of each chunk, once for all heads of a group, in the order in which the
/// lanes of ssd_tile_kernel want it.
template <class V>
struct ssd_scores_plan {
  static constexpr const char* name = "ssd";
  view<const V, 4, memory::device> B, C;
  float* scores;  // (B, chunks of 64, G, 64 x 64)
};

inline constexpr index_t ssd_scores_size = index_t(ssd_tile) * ssd_tile;

/// 64 rows into a tile, by all threads of a block; zeros behind `rows` and `columns`.
template <int Threads, int Pieces, class V>
__device__ void copy_tile(V* to, const V* from, index_t stride, int rows, int columns) {
  constexpr int step = Threads / Pieces;
  const int first = int(threadIdx.x) / Pieces, c = int(threadIdx.x) % Pieces;
  const bool column = 8 * c < columns;
  const V* at = column ? from + first * stride + 8 * c : from;
#pragma unroll
  for (int r = 0; r < ssd_tile; r += step) {
    const bool there = column && first + r < rows;
    copy_piece(to + piece_at<Pieces>(first + r, c), there ? at : from, there);
    at += step * stride;
  }
}

template <class Pieces_, class V>
__global__ void __launch_bounds__(ssd_tile_threads)
    ssd_scores_kernel(const ssd_scores_plan<V> plan) {
  constexpr int Pieces = Pieces_::value;
  __shared__ __align__(128) V Bs[ssd_tile * Pieces * 8], Cs[ssd_tile * Pieces * 8];
  const index_t length = plan.B.size[1], groups = plan.B.size[2];
  const index_t chunks = (length + ssd_tile - 1) / ssd_tile;
  index_t b = blockIdx.x;
  const index_t g = take_index(b, groups), c = take_index(b, chunks), t0 = c * ssd_tile;
  const int rows = int(length - t0 < ssd_tile ? length - t0 : index_t(ssd_tile));
  copy_tile<ssd_tile_threads, Pieces>(Bs, &plan.B(b, t0, g, 0), plan.B.stride[1], rows,
                                      int(plan.B.size[3]));
  copy_tile<ssd_tile_threads, Pieces>(Cs, &plan.C(b, t0, g, 0), plan.C.stride[1], rows,
                                      int(plan.B.size[3]));
  commit_copies();
  wait_copies<0>();
  __syncthreads();
  const int warp = warp_index(), lane = lane_index();
  float d[8][4] = {};
#pragma unroll
  for (int k = 0; k < Pieces; k += 2) {
    unsigned left[4], right[4];
    load_left<Pieces>(left, Cs, 16 * warp, k);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (j > warp) continue;  // later tokens
      load_right_transposed<Pieces>(right, Bs, 16 * j, k);
      multiply_tile<V>(d[2 * j], left, right[0], right[1]);
      multiply_tile<V>(d[2 * j + 1], left, right[2], right[3]);
    }
  }
  float* to = plan.scores + ((b * chunks + c) * groups + g) * ssd_scores_size + warp * 1024;
#pragma unroll
  for (int j = 0; j < 8; ++j)
    if (j / 2 <= warp)
      *reinterpret_cast<float4*>(to + j * 128 + lane * 4) =
          make_float4(d[j][0], d[j][1], d[j][2], d[j][3]);
}

/// Fills tokens (B, chunks, H, ssd_tokens_size).
template <class E>
void launch_ssd_steps(context<cuda>& ctx, const ssd_tokens_plan<E>& plan) {
  launch_early(ctx, "ssd", ssd_tokens_kernel<E>, blocks_for(plan.blocks(), 1), block_threads, 0,
               plan);
}

/// The same, and scores (B, chunks, G, ssd_scores_size).
template <class Pieces, class E>
void launch_ssd_tokens(context<cuda>& ctx, const ops::ssd_inputs<E>& op, float* tokens,
                       float* scores) {
  launch_ssd_steps(ctx, ssd_tokens_plan<E>{op, tokens});
  const index_t chunks = (op.x.size[1] + ssd_tile - 1) / ssd_tile;
  using V = typename E::value;
  ssd_scores_kernel<Pieces, V>
      <<<blocks_for(op.x.size[0] * chunks * op.groups(), 1), ssd_tile_threads, 0, ctx.stream>>>(
          ssd_scores_plan<V>{op.B, op.C, scores});
  launched("ssd");
}

}  // namespace mlmamba::backend::kernels
