// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What ssd_gradient_kernel is made of: shared memory, pairs of tokens, what a head's sums
// become.
#pragma once

#include "mlmamba/backend/cuda/ssd_backward_steps.cuh"

namespace mlmamba::backend::kernels {

/// Arrays [2] and [3] belong to heads in turn.
template <class V>
struct ssd_gradient_memory {
  alignas(1024) V B[2 * operand_tile], C[2 * operand_tile];
  alignas(1024) V S[2][2 * operand_tile], G[2][2 * operand_tile];
  alignas(1024) V x[2][operand_tile], dy[2][operand_tile], dx[operand_tile];
  alignas(16) ssd_tokens tokens[3];
  alignas(16) float D[2][ssd_tile];
  // Of each token: sums over the pairs that read it or that it reads, and beyond the chunk.
  float row[2][ssd_tile], column[2][ssd_tile], before[2][ssd_tile];
  float after[2][ssd_tile], xu[2][ssd_tile];
  float dD[2][4][ssd_tile], through[2][ssd_backward_threads / warp_size];
};
template <class V>
inline constexpr int ssd_gradient_bytes = int(sizeof(ssd_gradient_memory<V>)) +
                                          1024;  // to align it

#if defined(MLMAMBA_WARPGROUPS)

/// Pairs of tokens, as the warps see them that have the token that reads as their row (`Reads`) or,
/// in the transpose, the one that is read. dots: dy x^T, cb: C B^T. Out come the fragments of
/// xv[i][j] = D[i,j] (dy[i].x[j]) dt[j] and of cb[i][j] = D[i,j] (C[i].B[j]), 0 for i < j and from
/// other sequences, and this lane's part of the sums of cb (dy[i].x[j]) dt[j] over its two rows.
template <class V, bool Reads, bool Starts>
__device__ __forceinline__ void ssd_gradient_pairs(unsigned (&xv)[4][4], unsigned (&decayed)[4][4],
                                                   float (&path_sum)[2], const float (&dots)[8][4],
                                                   const float (&cb)[8][4],
                                                   const ssd_tokens& tokens,
                                                   const float (&decay)[2], const float (&dt)[2],
                                                   int quarter) {
  const int lane = lane_index(), row = lane >> 2, pair = 2 * (lane & 3);
  const int t = 16 * quarter + row;
  path_sum[0] = path_sum[1] = 0.0f;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
#pragma unroll
    for (int i = 0; i < 4; ++i) xv[k][i] = decayed[k][i] = 0;
    if (Reads ? k > quarter : k < quarter) continue;
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int from = 16 * k + 8 * j + pair;
      const float2 other_decay = *reinterpret_cast<const float2*>(tokens.decay + from);
      const float2 other_dt = *reinterpret_cast<const float2*>(tokens.dt + from);
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int me = t + 8 * e;
        float x[2], w[2];
#pragma unroll
        for (int o = 0; o < 2; ++o) {
          const int other = from + o;
          const float theirs = o == 0 ? other_decay.x : other_decay.y;
          bool counts = Reads ? other <= me : other >= me;
          if constexpr (Starts) counts = counts && tokens.sequence[other] == tokens.sequence[me];
          const float power = power_of_2(Reads ? decay[e] - theirs : theirs - decay[e]);
          const float step = !Reads ? dt[e] : o == 0 ? other_dt.x : other_dt.y;
          const float dot = counts ? dots[2 * k + j][2 * e + o] * step : 0.0f;
          w[o] = counts ? cb[2 * k + j][2 * e + o] * power : 0.0f;
          x[o] = counts ? dot * power : 0.0f;
          path_sum[e] = multiply_add(w[o], dot, path_sum[e]);
        }
        xv[k][2 * j + e] = pack<V>(x[0], x[1]);
        decayed[k][2 * j + e] = pack<V>(w[0], w[1]);
      }
    }
  }
}

/// The sum over the 8 rows of a fragment: lane (row, pair) gets numbers 2 row and 2 row + 1.
template <int K = 8>
__device__ void ssd_row_sums(float (&v)[16]) {
  const bool upper = lane_index() & (2 * K);
#pragma unroll
  for (int i = 0; i < K; ++i) {
    const float keep = upper ? v[i + K] : v[i], give = upper ? v[i] : v[i + K];
    v[i] = keep + __shfl_xor_sync(all_lanes, give, 2 * K);
  }
  if constexpr (K > 2) ssd_row_sums<K / 2>(v);
}

/// The gradients by dt, A and D of the head whose sums are at `at`. By one warp; raw_dt: of tokens
/// 2 lane and 2 lane + 1, with the bias.
template <class E>
__device__ void ssd_head_gradients(const ssd_backward_tiles_plan<E>& plan,
                                   const ssd_gradient_memory<typename E::value>& s,
                                   const ssd_tokens& tokens, int at, const float (&raw_dt)[2],
                                   index_t b, index_t c, index_t h) {
  const auto& op = plan.op;
  const int lane = lane_index();
  ssd_path_sums sums;
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    const int i = 2 * lane + e;
    sums.ends[e] = s.row[at][i] + s.before[at][i] - s.column[at][i];
    sums.leaves[e] = tokens.dt[i] * s.after[at][i];
  }
  ssd_step_gradients(
      plan, tokens, sums, s.through[at], [&](int e) { return s.xu[at][2 * lane + e]; },
      [&](int e) -> const float& { return raw_dt[e]; }, b, c, h);
  if (!op.dD) return;
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    const int p = lane + e * warp_size;
    const auto& dD = s.dD[at];
    if (p < op.x.size[3]) plan.dD(b, c, h, p) = (dD[0][p] + dD[1][p]) + (dD[2][p] + dD[3][p]);
  }
}

#endif

}  // namespace mlmamba::backend::kernels
