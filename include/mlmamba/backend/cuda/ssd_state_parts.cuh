// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A chunk of 64 tokens on Hopper's tensor cores: decayed scores, and the state of a head (64 rows
// p, N <= 128) in the registers of four warps. Warp w has rows 16 w + lane / 4 and 8 below it, as
// products leave them (warpgroup.cuh).
#pragma once

#include "mlmamba/backend/cuda/ssd_tokens.cuh"
#include "mlmamba/backend/cuda/warpgroup.cuh"

namespace mlmamba::backend::kernels {

#if defined(MLMAMBA_WARPGROUPS)

/// What token t takes from token u <= t of its chunk, dt[u] 2^(a[t] - a[u]) C[t] B[u], as fragments
/// of a left operand; 0 from later ones and, with `Starts`, from other sequences. cb: C B^T;
/// quarter: which 16 tokens the warp has.
template <class V, bool Starts>
__device__ __forceinline__ void ssd_scores(unsigned (&scores)[4][4], const float (&cb)[8][4],
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

__device__ __forceinline__ void clear_state(float (&S)[16][4]) {
#pragma unroll
  for (int j = 0; j < 16; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e) S[j][e] = 0.0f;
}

/// S of the chunk's end from that of its beginning; is under way when this returns. Returns the
/// chunk's decay.
template <class V>
__device__ __forceinline__ float add_chunk(float (&S)[16][4], const ssd_tokens& tokens, const V* xs,
                                           const V* Bs, int quarter) {
  const int pair = 2 * (lane_index() & 3);
  const float carried = tokens.carry[ssd_tile - 1];
#pragma unroll
  for (int j = 0; j < 16; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e) S[j][e] *= carried;
  if (carried == 0.0f) clear_state(S);  // drops even infinities
  unsigned left[4][4];
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const float2 near = *reinterpret_cast<const float2*>(tokens.weight + 16 * k + pair);
    const float2 far = *reinterpret_cast<const float2*>(tokens.weight + 16 * k + pair + 8);
    load_left_transposed<8>(left[k], xs, 16 * k, 2 * quarter);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float2 weight = e < 2 ? near : far;
      left[k][e] = pack<V>(weight.x * low_of<V>(left[k][e]), weight.y * high_of<V>(left[k][e]));
    }
  }
  begin_products();
#pragma unroll
  for (int k = 0; k < 4; ++k) multiply_add_right<V>(S, left[k], operand_at(Bs, 16 * k * ssd_tile));
  commit_products();
  return carried;
}

/// To shared memory, as an operand.
template <class V>
__device__ __forceinline__ void store_state(const float (&S)[16][4], V* to, int quarter) {
  const unsigned place = stored_at(to, 16 * quarter);
#pragma unroll
  for (int j = 0; j < 16; j += 2)
    store_matrices(place + j / 8 * (operand_tile * 2), j % 8, pack<V>(S[j][0], S[j][1]),
                   pack<V>(S[j][2], S[j][3]), pack<V>(S[j + 1][0], S[j + 1][1]),
                   pack<V>(S[j + 1][2], S[j + 1][3]));
}

/// Where a head's states are in memory.
template <class E>
struct ssd_state_place {
  const ssd_plan<E>& plan;
  index_t b, h;
  int p0, columns, states, quarter;

  /// f(element, element of memory), inside the state only.
  template <class At, class F>
  __device__ __forceinline__ void each(float (&S)[16][4], At* at, index_t stride, F&& f) const {
    const int lane = lane_index(), pair = 2 * (lane & 3), t = 16 * quarter + (lane >> 2);
    at += t * stride + pair;
#pragma unroll
    for (int i = 0; i < 2; ++i, at += 8 * stride) {
      if (t + 8 * i >= columns) break;
#pragma unroll
      for (int j = 0; j < 16; ++j)
        if (8 * j + pair < states)  // N is even
          f(S[j][2 * i], at[8 * j]), f(S[j][2 * i + 1], at[8 * j + 1]);
    }
  }
  template <class View>
  __device__ __forceinline__ void read(float (&S)[16][4], const View& from) const {
    each(S, &from(b, h, p0, 0), from.stride[2], [](float& v, const auto& m) { v = float(m); });
  }
  template <class View>
  __device__ __forceinline__ void write(float (&S)[16][4], const View& to) const {
    each(S, &to(b, h, p0, 0), to.stride[2],
         [](float& v, auto& m) { m = std::remove_reference_t<decltype(m)>(v); });
  }

  /// By how much a part decays a state. Each 64 rows p have their own, though they are equal: a
  /// block waits for the blocks of its rows alone.
  __device__ float& decay(index_t e) const {
    const index_t tiles = (plan.op.x.size[3] + ssd_tile - 1) / ssd_tile;
    return plan.decay(b, e, h * tiles + p0 / ssd_tile);
  }
  /// Ends that only these kernels read, in the order in which threads have them.
  __device__ float4* part(index_t e) const {
    return reinterpret_cast<float4*>(&plan.ends(b, e, h, p0, 0)) + threadIdx.x % 128;
  }
  __device__ __forceinline__ void write_part(const float (&S)[16][4], index_t e) const {
    float4* const to = part(e);
#pragma unroll
    for (int j = 0; j < 16; ++j) to[128 * j] = make_float4(S[j][0], S[j][1], S[j][2], S[j][3]);
  }
  /// S from its parts e < count, or as part e; half a part is on its way while the other is added.
  __device__ __forceinline__ void join(float (&S)[16][4], index_t first, index_t count) const {
    const auto read_half = [&](float4(&v)[8], index_t e, int half) {
      const float4* const from = part(e) + half * 8 * 128;
#pragma unroll
      for (int j = 0; j < 8; ++j) v[j] = __ldcg(from + 128 * j);
    };
    const auto add_half = [&](const float4(&v)[8], float decay, int half) {
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const float left[4] = {v[j].x, v[j].y, v[j].z, v[j].w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float& state = S[8 * half + j][i];
          state = decay == 0.0f ? left[i] : multiply_add(decay, state, left[i]);
        }
      }
    };
    float4 lower[8], upper[8];
    read_half(lower, first, 0);
    for (index_t e = first; e < first + count; ++e) {
      const float decay = e == first ? 0.0f : __ldcg(&this->decay(e));
      read_half(upper, e, 1);
      add_half(lower, decay, 0);
      if (e + 1 < first + count) read_half(lower, e + 1, 0);
      add_half(upper, decay, 1);
    }
  }
  /// S that enters a segment.
  __device__ __forceinline__ void enter(float (&S)[16][4], index_t segment) const {
    if (plan.chunks == 1) {
      if (plan.op.initial_states) read(S, plan.op.initial_states);
    } else if (segment > 0) {
      join(S, 0, segment);
    } else {
      clear_state(S);  // has become the end
      if (plan.op.initial_states) join(S, plan.ends.size[1] - 1, 1);
    }
  }
};

#endif

}  // namespace mlmamba::backend::kernels
