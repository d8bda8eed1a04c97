// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// SSD forward on tensor cores: operands in bf16 or f16, float sums; a block walks over a segment of
// the sequence with one head's state in registers.
#pragma once

#include "mlmamba/backend/cuda/ssd_tokens.cuh"

namespace mlmamba::backend::kernels {

inline constexpr int ssd_block_threads = 256;

/// Shared memory of a block; what only y needs is left out when only states are computed.
template <class V, int N16, bool Ends>
struct ssd_tile_memory {
  static constexpr int tile = ssd_tile * 16 * N16;
  alignas(128) V x[2][ssd_tile * ssd_tile];
  alignas(128) V B[tile];
  alignas(128) V C[2][Ends ? 8 : tile];
  alignas(128) float scores[Ends ? 4 : ssd_scores_size];
  alignas(128) V S[Ends ? 8 : tile];
  alignas(16) V y[Ends ? 1 : 8][Ends ? 8 : 16 * (ssd_tile / 2 + 8)];
  alignas(16) ssd_tokens tokens[2];
  float D[Ends ? 1 : ssd_tile];
};

/// A block has one head, 64 rows p of its state and one segment of the sequence, in chunks of 64
/// tokens. With a[t] the logarithm of the decay since the chunk began and S the state before it,
///
///   y[t] = exp(a[t]) S C[t] + sum over s <= t of (C[t] . B[s]) exp(a[t] - a[s]) dt'[s] x[s]
///   S    = exp(a[end]) S + sum over s of exp(a[end] - a[s]) dt'[s] x[s] B[s]^T
///
/// S stays in registers in float; its rounded copy and the weighted scores are operands.
template <class N16_, class Ends_, class E>
__global__ void __launch_bounds__(ssd_block_threads, 2) ssd_tile_kernel(const ssd_plan<E> plan) {
  using V = typename E::value;
  constexpr int N16 = N16_::value, Pieces = 2 * N16, XPieces = ssd_tile / 8;
  constexpr int staged_row = ssd_tile / 2 + 8;  // of y: 16 bytes more, for the banks
  constexpr bool ends = Ends_::value != 0;
  extern __shared__ __align__(128) unsigned char raw[];
  auto& s = *reinterpret_cast<ssd_tile_memory<V, N16, ends>*>(raw);

  const ops::ssd<E>& op = plan.op;
  const index_t length = op.x.size[1], heads = op.x.size[2];
  const int width = int(op.x.size[3]), states = int(op.B.size[3]);
  const index_t segments = ends ? plan.chunks - 1 : plan.chunks;
  index_t b = blockIdx.x;
  const index_t p_tile = take_index(b, (width + ssd_tile - 1) / ssd_tile), h = take_index(b, heads),
                segment = take_index(b, segments);
  const index_t groups = op.B.size[2], g = h / (heads / groups);
  const int p0 = int(p_tile) * ssd_tile, columns = width - p0 < ssd_tile ? width - p0 : ssd_tile;
  const index_t begin = segment * plan.chunk,
                end = begin + plan.chunk < length ? begin + plan.chunk : length;
  const int chunks = int((end - begin + ssd_tile - 1) / ssd_tile);
  const int warp = warp_index(), lane = lane_index(), row = lane >> 2, pair = 2 * (lane & 3);
  const int quarter = warp & 3, half = warp >> 2;  // 16 tokens or rows p; half of the columns
  const int state_p = 16 * quarter, state_n = 8 * N16 * half;

  const index_t all_chunks = (length + ssd_tile - 1) / ssd_tile, chunk0 = begin / ssd_tile;
  const float* known = plan.tokens + ((b * all_chunks + chunk0) * heads + h) * ssd_tokens_size(op);
  const index_t known_step = heads * ssd_tokens_size(op);
  const auto rows_of = [&](int c) {
    const index_t left = end - begin - index_t(c) * ssd_tile;
    return left < 0 ? 0 : left < ssd_tile ? int(left) : ssd_tile;
  };
  const auto copy_x = [&](int c) {
    const index_t t = begin + index_t(c) * ssd_tile;
    const int rows = rows_of(c);
    if (rows > 0) {
      copy_tile<ssd_block_threads, XPieces>(s.x[c & 1], &op.x(b, t, h, p0), op.x.stride[1], rows,
                                            columns);
      if constexpr (!ends)
        copy_tile<ssd_block_threads, Pieces>(s.C[c & 1], &op.C(b, t, g, 0), op.C.stride[1], rows,
                                             states);
      if (int(threadIdx.x) < ssd_tokens_size(op) / 4)
        copy_piece(s.tokens[c & 1].decay + 4 * threadIdx.x,
                   known + c * known_step + 4 * threadIdx.x, true);
    }
    commit_copies();
  };
  const float* scores_at =
      plan.scores + ((b * all_chunks + chunk0) * groups + g) * ssd_scores_size + 4 * threadIdx.x;
  const auto copy_scores = [&](int c) {
    if (!ends && rows_of(c) > 0) {
#pragma unroll
      for (int e = 0; e < int(ssd_scores_size); e += 4 * ssd_block_threads)
        copy_piece(s.scores + 4 * threadIdx.x + e, scores_at + c * groups * ssd_scores_size + e,
                   true);
    }
    commit_copies();
  };
  const auto copy_B = [&](int c) {
    const index_t t = begin + index_t(c) * ssd_tile;
    const int rows = rows_of(c);
    if (rows > 0)
      copy_tile<ssd_block_threads, Pieces>(s.B, &op.B(b, t, g, 0), op.B.stride[1], rows, states);
    commit_copies();
  };
  copy_x(0);
  copy_scores(0);
  copy_B(0);

  float S[N16][4];
  // f(element, element of memory), inside the state only; `at` is of this head's p0.
  const auto each_state = [&](auto* at, index_t stride, auto&& f) {
    at += (state_p + row) * stride + state_n + pair;
#pragma unroll
    for (int i = 0; i < 2; ++i, at += 8 * stride) {
      if (state_p + row + 8 * i >= columns) break;
#pragma unroll
      for (int j = 0; j < N16; ++j)
        if (state_n + 8 * j + pair < states)  // N is even
          f(S[j][2 * i], at[8 * j]), f(S[j][2 * i + 1], at[8 * j + 1]);
    }
  };
  const auto read = [](float& v, const auto& m) { v = float(m); };
  const auto write = [](float& v, auto& m) { m = std::remove_reference_t<decltype(m)>(v); };
#pragma unroll
  for (int j = 0; j < N16; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e) S[j][e] = 0.0f;
  if constexpr (!ends) {
    if (plan.chunks > 1) {
      each_state(&plan.ends(b, segment, h, p0, 0), plan.ends.stride[3], read);
    } else if (op.initial_states) {
      each_state(&op.initial_states(b, h, p0, 0), op.initial_states.stride[2], read);
    }
  }
  const auto share_state = [&] {
#pragma unroll
    for (int j = 0; j < N16; ++j)
#pragma unroll
      for (int e = 0; e < 2; ++e)
        *reinterpret_cast<unsigned*>(
            s.S + piece_at<Pieces>(state_p + row + 8 * e, state_n / 8 + j) + pair) =
            pack<V>(S[j][2 * e], S[j][2 * e + 1]);
  };
  if constexpr (!ends) {
    share_state();
    if (threadIdx.x < ssd_tile)
      s.D[threadIdx.x] = op.D && int(threadIdx.x) < columns ? op.D(h, p0 + int(threadIdx.x)) : 0.0f;
  }

  float total = 1;  // the decay over the segment
  for (int c = 0; c < chunks; ++c) {
    const index_t t0 = begin + index_t(c) * ssd_tile;
    const ssd_tokens& tokens = s.tokens[c & 1];
    const V* xs = s.x[c & 1];
    if constexpr (!ends) {
      const int t = 16 * quarter + row;
      wait_copies<1>();
      __syncthreads();  // x, C, S and the tokens of this chunk are there
      copy_x(c + 1);
      const float* from = s.scores + quarter * 1024 + lane * 4;
      float y[4][4] = {};
#pragma unroll
      for (int k = 0; k < Pieces; k += 2) {
        unsigned left[4], right[4];
        load_left<Pieces>(left, s.C[c & 1], 16 * quarter, k);
#pragma unroll
        for (int j = 0; j < 4; j += 2) {
          load_right_transposed<Pieces>(right, s.S, 32 * half + 8 * j, k);
          multiply_tile<V>(y[j], left, right[0], right[1]);
          multiply_tile<V>(y[j + 1], left, right[2], right[3]);
        }
      }
      const float decay[2] = {tokens.decay[t], tokens.decay[t + 8]};
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float factor = tokens.carry[t + 8 * (e / 2)];
#pragma unroll
        for (int j = 0; j < 4; ++j) y[j][e] = factor == 0.0f ? 0.0f : factor * y[j][e];
      }
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        if (k > quarter) continue;  // later tokens
        unsigned left[4], right[4];
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const int at = 16 * k + 8 * j + pair;
          const float4 scores = *reinterpret_cast<const float4*>(from + (2 * k + j) * 128);
          const float2 from_decay = *reinterpret_cast<const float2*>(tokens.decay + at);
          const float2 dt = *reinterpret_cast<const float2*>(tokens.dt + at);
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            float first = dt.x * power_of_2(decay[e] - from_decay.x);
            float second = dt.y * power_of_2(decay[e] - from_decay.y);
            if (op.seq_idx) {
              const int here = tokens.sequence[t + 8 * e];
              if (tokens.sequence[at] != here) first = 0.0f;
              if (tokens.sequence[at + 1] != here) second = 0.0f;
            }
            first *= e == 0 ? scores.x : scores.z, second *= e == 0 ? scores.y : scores.w;
            left[2 * j + e] =
                pack<V>(at <= t + 8 * e ? first : 0.0f, at < t + 8 * e ? second : 0.0f);
          }
        }
#pragma unroll
        for (int j = 0; j < 4; j += 2) {
          load_right<XPieces>(right, xs, 16 * k, 4 * half + j);
          multiply_tile<V>(y[j], left, right[0], right[1]);
          multiply_tile<V>(y[j + 1], left, right[2], right[3]);
        }
      }

      V* staged = s.y[warp];
#pragma unroll
      for (int j = 0; j < 4; ++j)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int p = 32 * half + 8 * j + pair, at = 16 * quarter + row + 8 * e;
          float v[2] = {y[j][2 * e], y[j][2 * e + 1]};
          const unsigned x =
              *reinterpret_cast<const unsigned*>(xs + piece_at<XPieces>(at, 4 * half + j) + pair);
          const float2 D = *reinterpret_cast<const float2*>(s.D + p);
          v[0] = multiply_add(D.x, low_of<V>(x), v[0]);
          v[1] = multiply_add(D.y, high_of<V>(x), v[1]);
          if (op.z && p < columns && t0 + at < end) {
            const unsigned z = *reinterpret_cast<const unsigned*>(&op.z(b, t0 + at, h, p0 + p));
            v[0] *= silu_as<V>(low_of<V>(z));
            v[1] *= silu_as<V>(high_of<V>(z));
          }
          *reinterpret_cast<unsigned*>(staged + (row + 8 * e) * staged_row + 8 * j + pair) =
              pack<V>(v[0], v[1]);
        }
      __syncwarp();
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int r = 8 * i + lane / 4, p = 32 * half + 8 * (lane % 4);
        const index_t at = t0 + 16 * quarter + r;
        if (at < end && p < columns)
          *reinterpret_cast<uint4*>(&op.y(b, at, h, p0 + p)) =
              *reinterpret_cast<const uint4*>(staged + r * staged_row + p - 32 * half);
      }
    }
    if constexpr (ends) {
      wait_copies<0>();
      __syncthreads();  // x, B and the tokens of this chunk are there
      copy_x(c + 1);
    } else {
      wait_copies<1>();  // all but what the next chunk reads
      __syncthreads();   // B is there; the scores and S may be overwritten
    }
    copy_scores(c + 1);

    const float carried = tokens.carry[ssd_tile - 1];
    total *= carried;
#pragma unroll
    for (int j = 0; j < N16; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) S[j][e] = carried == 0.0f ? 0.0f : carried * S[j][e];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const float2 near = *reinterpret_cast<const float2*>(tokens.weight + 16 * k + pair);
      const float2 far = *reinterpret_cast<const float2*>(tokens.weight + 16 * k + pair + 8);
      unsigned left[4], right[4];
      load_left_transposed<XPieces>(left, xs, 16 * k, state_p / 8);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float2 weight = e < 2 ? near : far;
        left[e] = pack<V>(weight.x * low_of<V>(left[e]), weight.y * high_of<V>(left[e]));
      }
#pragma unroll
      for (int j = 0; j < N16; j += 2) {
        load_right<Pieces>(right, s.B, 16 * k, state_n / 8 + j);
        multiply_tile<V>(S[j], left, right[0], right[1]);
        multiply_tile<V>(S[j + 1], left, right[2], right[3]);
      }
    }
    if constexpr (!ends) share_state();
    __syncthreads();  // B may be overwritten
    copy_B(c + 1);
  }

  if constexpr (ends) {
    each_state(&plan.ends(b, segment, h, p0, 0), plan.ends.stride[3], write);
    if (p_tile == 0 && threadIdx.x == 0) plan.decay(b, segment, h) = total;
  } else if (op.final_states && segment + 1 == plan.chunks) {
    each_state(&op.final_states(b, h, p0, 0), op.final_states.stride[2], write);
  }
}

}  // namespace mlmamba::backend::kernels
