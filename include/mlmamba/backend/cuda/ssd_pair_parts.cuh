// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What ssd_pair_kernel is made of: kinds of work, shared memory, decayed scores.
#pragma once

#include "mlmamba/backend/cuda/ssd_tokens.cuh"
#include "mlmamba/backend/cuda/warpgroup.cuh"

namespace mlmamba::backend::kernels {

inline constexpr int ssd_pair = 2;  ///< heads of a block, four warps each
inline constexpr int ssd_pair_threads = ssd_pair * 128;

/// What a launch by pairs of heads does.
struct ssd_y {};     ///< y, from the states that enter segments
struct ssd_ends {};  ///< the states that leave segments, from zero
struct ssd_both {};  ///< ends, then y: a segment waits for the ends of those before it

/// Arrays [turns] are the chunk at work and the next ones; what only y needs is left out with
/// `Ends`, whose chunks take less time than their way from memory: there are two ahead.
template <class V, bool Ends, bool Gated>
struct ssd_pair_memory {
  static constexpr int turns = Ends ? 3 : 2;
  static constexpr int wide = Ends ? 8 : 2 * operand_tile, square = Ends ? 8 : operand_tile;
  alignas(1024) V B[turns][2 * operand_tile], x[turns][ssd_pair][operand_tile];
  alignas(1024) V C[turns][wide], S[ssd_pair][wide], y[ssd_pair][square];
  alignas(16) ssd_tokens tokens[3][ssd_pair];
  alignas(1024) V z[Gated ? 2 : 1][ssd_pair][Gated ? operand_tile : 8];
  float D[ssd_pair][ssd_tile], weight[ssd_pair][ssd_tile];
};

#if defined(MLMAMBA_WARPGROUPS)

/// What token t takes from token u <= t of its chunk, dt[u] 2^(a[t] - a[u]) C[t] B[u], as fragments
/// of a left operand; 0 from later ones and, with `Starts`, from other sequences. cb: C B^T;
/// quarter: which 16 tokens the warp has.
template <class V, bool Starts>
__device__ __forceinline__ void ssd_pair_scores(unsigned (&scores)[4][4], const float (&cb)[8][4],
                                                const ssd_tokens& tokens, int quarter) {
  const int lane = lane_index(), row = lane >> 2, pair = 2 * (lane & 3);
  const int t = 16 * quarter + row;
  const float decay[2] = {tokens.decay[t], tokens.decay[t + 8]};
#pragma unroll
  for (int k = 0; k < 4; ++k) {
#pragma unroll
    for (int i = 0; i < 4; ++i) scores[k][i] = 0;
    if (k > quarter) continue;  // later tokens
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int from = 16 * k + 8 * j + pair;
      const float2 from_decay = *reinterpret_cast<const float2*>(tokens.decay + from);
      const float2 dt = *reinterpret_cast<const float2*>(tokens.dt + from);
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        float first = dt.x * power_of_2(decay[e] - from_decay.x) * cb[2 * k + j][2 * e];
        float second = dt.y * power_of_2(decay[e] - from_decay.y) * cb[2 * k + j][2 * e + 1];
        if (Starts) {
          const int here = tokens.sequence[t + 8 * e];
          if (tokens.sequence[from] != here) first = 0.0f;
          if (tokens.sequence[from + 1] != here) second = 0.0f;
        }
        scores[k][2 * j + e] = pack<V>(first, second);
      }
    }
    if (k < quarter) continue;
#pragma unroll
    for (int j = 0; j < 2; ++j)
#pragma unroll
      for (int e = 0; e < 2; ++e) {  // also later ones among the 16
        const int later = 8 * j + pair - (row + 8 * e);
        if (later > 0) scores[k][2 * j + e] = 0;
        if (later == 0) scores[k][2 * j + e] &= 0xffffu;
      }
  }
}

#endif

}  // namespace mlmamba::backend::kernels
