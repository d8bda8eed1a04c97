// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The states that enter the chunks of SSD and the adjoints that leave them, on tensor cores.
#pragma once

#include "mlmamba/backend/cuda/ssd_tokens.cuh"

namespace mlmamba::backend::kernels {

/// The backward in launches like those of ssd_backward_plan, with states and adjoints rounded to
/// values as the operands that they are, and dB and dC summed over the heads of a block.
template <class E>
struct ssd_backward_tiles_plan {
  static constexpr const char* name = ops::ssd_backward<E>::name;
  ops::ssd_backward<E> op;
  index_t chunks, set_heads, sets;              // heads of a block; sets of them in a group
  typename E::value *states, *adjoints;         // (B, chunks, H, P, N)
  float *scores, *tokens;                       // ssd_tokens.cuh
  view<float, 4, memory::device> dB, dC;        // (B, L, G sets, N)
  view<float, 3, memory::device> dA, ddt_bias;  // (B, chunks, H)
  view<float, 4, memory::device> dD;            // (B, chunks, H, P)

  __device__ index_t state_at(index_t b, index_t c, index_t h) const {
    return ((b * chunks + c) * op.x.size[2] + h) * op.x.size[3] * op.B.size[3];
  }
  __device__ const float* tokens_at(index_t b, index_t c, index_t h) const {
    return tokens + ((b * chunks + c) * op.x.size[2] + h) * ssd_tokens_size(op);
  }
};

inline constexpr int ssd_backward_threads = 256;

/// What a chunk leaves, for one head and 64 rows p: of a state, or of the adjoint before it.
template <class N16_, class E>
__global__ void __launch_bounds__(ssd_tile_threads)
    ssd_summary_tiles_kernel(const ssd_backward_tiles_plan<E> plan) {
  using V = typename E::value;
  constexpr int N16 = N16_::value, Pieces = 2 * N16, XPieces = ssd_tile / 8;
  __shared__ __align__(128) V xs[ssd_tile * ssd_tile], Bs[ssd_tile * 16 * N16];
  __shared__ float weights[ssd_tile];
  const auto& op = plan.op;
  index_t b = blockIdx.x;
  const bool adjoint = take_index(b, 2) == 1;
  const index_t h = take_index(b, op.x.size[2]), c = take_index(b, plan.chunks);
  const index_t g = h / (op.x.size[2] / op.B.size[2]), t0 = c * ssd_tile,
                left_over = op.x.size[1] - t0;
  const int rows = left_over < ssd_tile ? int(left_over) : ssd_tile;
  const int width = int(op.x.size[3]), states = int(op.B.size[3]);
  const auto& x = adjoint ? op.dy : op.x;
  const auto& B = adjoint ? op.C : op.B;
  copy_tile<ssd_tile_threads, XPieces>(xs, &x(b, t0, h, 0), x.stride[1], rows, width);
  copy_tile<ssd_tile_threads, Pieces>(Bs, &B(b, t0, g, 0), B.stride[1], rows, states);
  commit_copies();
  if (threadIdx.x < ssd_tile)
    weights[threadIdx.x] = plan.tokens_at(b, c, h)[(adjoint ? 2 : 3) * ssd_tile + threadIdx.x];
  wait_copies<0>();
  __syncthreads();
  const int warp = warp_index(), lane = lane_index(), row = lane >> 2, pair = 2 * (lane & 3);
  const int p0 = 32 * (warp & 1), n0 = 8 * N16 * (warp >> 1);
  float S[2][N16][4] = {};
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const float2 near = *reinterpret_cast<const float2*>(weights + 16 * k + pair);
    const float2 far = *reinterpret_cast<const float2*>(weights + 16 * k + pair + 8);
    unsigned left[2][4], right[4];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      load_left_transposed<XPieces>(left[i], xs, 16 * k, p0 / 8 + 2 * i);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float2 w = e < 2 ? near : far;
        left[i][e] = pack<V>(w.x * low_of<V>(left[i][e]), w.y * high_of<V>(left[i][e]));
      }
    }
#pragma unroll
    for (int j = 0; j < N16; j += 2) {
      load_right<Pieces>(right, Bs, 16 * k, n0 / 8 + j);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        multiply_tile<V>(S[i][j], left[i], right[0], right[1]);
        multiply_tile<V>(S[i][j + 1], left[i], right[2], right[3]);
      }
    }
  }
  V* to = (adjoint ? plan.adjoints : plan.states) + plan.state_at(b, c, h);
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int j = 0; j < N16; ++j)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int p = p0 + 16 * i + row + 8 * e, n = n0 + 8 * j + pair;
        if (p < width && n < states)
          *reinterpret_cast<unsigned*>(to + p * states + n) =
              pack<V>(S[i][j][2 * e], S[i][j][2 * e + 1]);
      }
}

/// A thread has 8 elements n: after this, `states` enter their chunks and `adjoints` are of the
/// states that leave them.
template <class E>
__global__ void ssd_join_tiles_kernel(const ssd_backward_tiles_plan<E> plan) {
  using V = typename E::value;
  const auto& op = plan.op;
  const index_t heads = op.x.size[2], width = op.x.size[3], states = op.B.size[3];
  index_t b = thread_index();
  if (b >= op.x.size[0] * heads * width * (states / 8)) return;
  const index_t n = 8 * take_index(b, states / 8), p = take_index(b, width),
                h = take_index(b, heads);
  const index_t step = plan.state_at(0, 1, 0);
  const index_t heads_on = ssd_tokens_size(op) * heads;
  const float* decays = plan.tokens_at(b, 0, h) + 2 * ssd_tile + ssd_tile - 1;
  // Several chunks are read before the first is written: the compiler can't know that they differ.
  constexpr int ahead = 8;
  const auto walk = [&](V* first, index_t begin, index_t by, float(&S)[8]) {
    for (index_t c0 = 0; c0 < plan.chunks; c0 += ahead) {
      piece<V> left[ahead];
      float decay[ahead];
#pragma unroll
      for (int k = 0; k < ahead; ++k) {
        if (c0 + k >= plan.chunks) break;
        const index_t c = begin + by * (c0 + k);
        left[k] = *reinterpret_cast<const piece<V>*>(first + c * step);
        decay[k] = decays[c * heads_on];
      }
#pragma unroll
      for (int k = 0; k < ahead; ++k) {
        if (c0 + k >= plan.chunks) break;
        write_piece(first + (begin + by * (c0 + k)) * step, S);
#pragma unroll
        for (int i = 0; i < 8; ++i)
          S[i] = decay[k] == 0.0f ? float(left[k].at[i])
                                  : multiply_add(decay[k], S[i], float(left[k].at[i]));
      }
    }
  };
  const index_t at = plan.state_at(b, 0, h) + p * states + n;
  float S[8] = {}, G[8] = {};
  if (op.initial_states) read_piece(S, &op.initial_states(b, h, p, n));
  walk(plan.states + at, 0, 1, S);
  if (op.dfinal_states) read_piece(G, &op.dfinal_states(b, h, p, n));
  walk(plan.adjoints + at, plan.chunks - 1, -1, G);
  if (op.dinitial_states) write_piece(&op.dinitial_states(b, h, p, n), G);
}

}  // namespace mlmamba::backend::kernels
