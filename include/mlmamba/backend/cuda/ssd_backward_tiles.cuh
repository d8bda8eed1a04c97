// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Backward of SSD on tensor cores: bf16 or f16 operands, float sums, chunks of 64 tokens.
#pragma once

#include "mlmamba/backend/cuda/ssd_backward_steps.cuh"

namespace mlmamba::backend::kernels {

template <class V, int N16>
struct ssd_backward_memory {
  static constexpr int tile = ssd_tile * 16 * N16;
  alignas(128) V x[ssd_tile * ssd_tile], dy[ssd_tile * ssd_tile];
  alignas(128) V cb[ssd_tile * ssd_tile], xv[ssd_tile * ssd_tile];
  alignas(128) V B[tile], C[tile], S[tile], G[tile];
  alignas(16) ssd_tokens tokens;
  float D[ssd_tile];
  // Sums over half a row, or over a quarter of a column.
  float row[2][ssd_tile], column[4][ssd_tile];
  float from_before[2][ssd_tile], to_after[2][ssd_tile], xu[2][ssd_tile];
  float through[ssd_backward_threads / warp_size];
};

// Products of a warp, depth in steps of 16: 16 rows of a left operand by 8 N columns of a right
// one.

/// sums += left right^T: rows from `row`, columns are rows of `right` from `column`, depth along
/// both.
template <class V, int Pieces, int N>
__device__ __forceinline__ void add_by_transposed(float (&sums)[N][4], const V* left, int row,
                                                  const V* right, int column) {
#pragma unroll
  for (int k = 0; k < Pieces; k += 2) {
    unsigned l[4], r[4];
    load_left<Pieces>(l, left, row, k);
#pragma unroll
    for (int j = 0; j < N; j += 2) {
      load_right_transposed<Pieces>(r, right, column + 8 * j, k);
      multiply_tile<V>(sums[j], l, r[0], r[1]);
      multiply_tile<V>(sums[j + 1], l, r[2], r[3]);
    }
  }
}
/// sums += left right over 64 columns of `left`, columns from piece `piece` on.
template <class V, int RightPieces, int N>
__device__ __forceinline__ void add_by_rows(float (&sums)[N][4], const V* left, int row,
                                            const V* right, int piece) {
  constexpr int pieces = ssd_tile / 8;
#pragma unroll
  for (int k = 0; k < pieces; k += 2) {
    unsigned l[4], r[4];
    load_left<pieces>(l, left, row, k);
#pragma unroll
    for (int j = 0; j < N; j += 2) {
      load_right<RightPieces>(r, right, 8 * k, piece + j);
      multiply_tile<V>(sums[j], l, r[0], r[1]);
      multiply_tile<V>(sums[j + 1], l, r[2], r[3]);
    }
  }
}
/// sums += pairs^T right, of a matrix of pairs of tokens i >= j: rows are tokens j of the quarter.
template <class V, int RightPieces, int N>
__device__ __forceinline__ void add_by_later(float (&sums)[N][4], const V* pairs, int quarter,
                                             const V* right, int piece) {
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    if (k < quarter) continue;  // earlier tokens
    unsigned l[4], r[4];
    load_left_transposed<ssd_tile / 8>(l, pairs, 16 * k, 2 * quarter);
#pragma unroll
    for (int j = 0; j < N; j += 2) {
      load_right<RightPieces>(r, right, 16 * k, piece + j);
      multiply_tile<V>(sums[j], l, r[0], r[1]);
      multiply_tile<V>(sums[j + 1], l, r[2], r[3]);
    }
  }
}

/// All gradients of a chunk for some heads, one after the other (see ssd_chunk_kernel for the
/// mathematics). A warp has 16 tokens and half of the columns.
///   cb[i][j] = D[i,j] (C[i].B[j]);  xv[i][j] = D[i,j] (dy[i].x[j]) dt[j]
template <class N16_, class E>
__global__ void __launch_bounds__(ssd_backward_threads)
    ssd_chunk_tiles_kernel(const ssd_backward_tiles_plan<E> plan) {
  using V = typename E::value;
  constexpr int N16 = N16_::value, Pieces = 2 * N16, XPieces = ssd_tile / 8;
  extern __shared__ __align__(128) unsigned char raw[];
  auto& s = *reinterpret_cast<ssd_backward_memory<V, N16>*>(raw);
  const auto& op = plan.op;
  const index_t length = op.x.size[1], heads = op.x.size[2], groups = op.B.size[2];
  const int width = int(op.x.size[3]), states = int(op.B.size[3]);
  index_t b = blockIdx.x;
  const index_t set = take_index(b, plan.sets * groups), c = take_index(b, plan.chunks);
  const index_t g = set / plan.sets, group_heads = heads / groups;
  const index_t first = g * group_heads + (set % plan.sets) * plan.set_heads;
  const index_t group_end = (g + 1) * group_heads;
  const index_t last_head = first + plan.set_heads < group_end ? first + plan.set_heads : group_end;
  const index_t t0 = c * ssd_tile;
  const int rows = length - t0 < ssd_tile ? int(length - t0) : ssd_tile;
  const int warp = warp_index(), lane = lane_index(), row = lane >> 2, pair = 2 * (lane & 3);
  const int wr = warp & 3, half = warp >> 2, t = 16 * wr + row;

  copy_tile<ssd_backward_threads, Pieces>(s.B, &op.B(b, t0, g, 0), op.B.stride[1], rows, states);
  copy_tile<ssd_backward_threads, Pieces>(s.C, &op.C(b, t0, g, 0), op.C.stride[1], rows, states);
  float dB[N16][4] = {}, dC[N16][4] = {};
  for (index_t h = first; h < last_head; ++h) {
    __syncthreads();  // everybody is done with the head before
    copy_tile<ssd_backward_threads, XPieces>(s.x, &op.x(b, t0, h, 0), op.x.stride[1], rows, width);
    copy_tile<ssd_backward_threads, XPieces>(s.dy, &op.dy(b, t0, h, 0), op.dy.stride[1], rows,
                                             width);
    copy_tile<ssd_backward_threads, Pieces>(s.S, plan.states + plan.state_at(b, c, h), states,
                                            width, states);
    copy_tile<ssd_backward_threads, Pieces>(s.G, plan.adjoints + plan.state_at(b, c, h), states,
                                            width, states);
    if (int(threadIdx.x) < ssd_tokens_size(op) / 4)
      copy_piece(s.tokens.decay + 4 * threadIdx.x, plan.tokens_at(b, c, h) + 4 * threadIdx.x, true);
    commit_copies();
    if (threadIdx.x < ssd_tile)
      s.D[threadIdx.x] = op.D && int(threadIdx.x) < width ? op.D(h, int(threadIdx.x)) : 0.0f;
    float cb[4][4];
    const float* from =
        plan.scores + ((b * plan.chunks + c) * groups + g) * ssd_scores_size + wr * 1024 + lane * 4;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const bool there = (4 * half + j) / 2 <= wr;
      const float4 v = there ? *reinterpret_cast<const float4*>(from + (4 * half + j) * 128)
                             : make_float4(0, 0, 0, 0);
      cb[j][0] = v.x, cb[j][1] = v.y, cb[j][2] = v.z, cb[j][3] = v.w;
    }
    wait_copies<0>();
    __syncthreads();

    {  // pairs of tokens
      float xv[4][4] = {};
      add_by_transposed<V, XPieces>(xv, s.dy, 16 * wr, s.x, 32 * half);
      float row_sum[2] = {};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int at = 32 * half + 8 * j + pair;
        float column_sum[2] = {};
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int i = t + 8 * (e / 2), k = at + e % 2;
          const bool counts =
              k <= i && (!op.seq_idx || s.tokens.sequence[k] == s.tokens.sequence[i]);
          const float decay = counts ? power_of_2(s.tokens.decay[i] - s.tokens.decay[k]) : 0.0f;
          cb[j][e] = counts ? cb[j][e] * decay : 0.0f;
          const float dot = counts ? xv[j][e] * s.tokens.dt[k] : 0.0f;
          xv[j][e] = counts ? dot * decay : 0.0f;
          const float path = cb[j][e] * dot;
          row_sum[e / 2] += path, column_sum[e % 2] += path;
        }
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int place = piece_at<XPieces>(t + 8 * e, 4 * half + j) + pair;
          *reinterpret_cast<unsigned*>(s.cb + place) = pack<V>(cb[j][2 * e], cb[j][2 * e + 1]);
          *reinterpret_cast<unsigned*>(s.xv + place) = pack<V>(xv[j][2 * e], xv[j][2 * e + 1]);
#pragma unroll
          for (int o = 4; o < warp_size; o *= 2)
            column_sum[e] += __shfl_xor_sync(all_lanes, column_sum[e], o);
          if (row == 0) s.column[wr][at + e] = column_sum[e];
        }
      }
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        row_sum[e] = warp_sum<4>(row_sum[e]);
        if (pair == 0) s.row[half][t + 8 * e] = row_sum[e];
      }
    }
    {  // paths through the whole chunk
      float sum = 0;
      for (int e = int(threadIdx.x); e < ssd_tile * Pieces; e += ssd_backward_threads) {
        float a[8], v[8];
        read_piece(a, s.S + 8 * e), read_piece(v, s.G + 8 * e);
#pragma unroll
        for (int i = 0; i < 8; ++i) sum = multiply_add(a[i], v[i], sum);
      }
      sum = warp_sum(sum);
      if (lane == 0) s.through[warp] = sum;
    }
    __syncthreads();

    {  // dx: rows are tokens j = t, columns p
      float u[4][4] = {}, near[4][4] = {};
      add_by_transposed<V, Pieces>(u, s.B, 16 * wr, s.G, 32 * half);
      add_by_later<V, XPieces>(near, s.cb, wr, s.dy, 4 * half);
      float after[2] = {}, inside[2] = {};
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int i = t + 8 * e;
        const bool reaches = !op.seq_idx || s.tokens.sequence[i] == s.tokens.sequence[ssd_tile - 1];
        const float to_end =
            reaches ? power_of_2(s.tokens.decay[ssd_tile - 1] - s.tokens.decay[i]) : 0.0f;
        const float dt = s.tokens.dt[i];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const int p = 32 * half + 8 * j + pair;
          const int place = piece_at<XPieces>(i, 4 * half + j) + pair;
          const unsigned x = *reinterpret_cast<const unsigned*>(s.x + place);
          const unsigned dy = *reinterpret_cast<const unsigned*>(s.dy + place);
          const float far0 = to_end * u[j][2 * e], far1 = to_end * u[j][2 * e + 1];
          after[e] = multiply_add(low_of<V>(x), far0, multiply_add(high_of<V>(x), far1, after[e]));
          inside[e] = multiply_add(low_of<V>(x), near[j][2 * e],
                                   multiply_add(high_of<V>(x), near[j][2 * e + 1], inside[e]));
          const float dx0 = multiply_add(s.D[p], low_of<V>(dy), dt * (far0 + near[j][2 * e]));
          const float dx1 =
              multiply_add(s.D[p + 1], high_of<V>(dy), dt * (far1 + near[j][2 * e + 1]));
          if (i < rows && p < width)
            *reinterpret_cast<unsigned*>(&op.dx(b, t0 + i, h, p)) = pack<V>(dx0, dx1);
        }
        after[e] = warp_sum<4>(after[e]), inside[e] = warp_sum<4>(inside[e]);
        if (pair == 0) s.to_after[half][i] = after[e], s.xu[half][i] = after[e] + inside[e];
      }
    }
    {  // dC: rows are tokens i = t, columns n
      float v[N16][4] = {};
      add_by_rows<V, Pieces>(v, s.dy, 16 * wr, s.S, N16 * half);
      float before[2] = {};
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int i = t + 8 * e;
        const float carry = s.tokens.carry[i];
#pragma unroll
        for (int j = 0; j < N16; ++j) {
          const unsigned C =
              *reinterpret_cast<const unsigned*>(s.C + piece_at<Pieces>(i, N16 * half + j) + pair);
          const float v0 = carry * v[j][2 * e], v1 = carry * v[j][2 * e + 1];
          before[e] = multiply_add(low_of<V>(C), v0, multiply_add(high_of<V>(C), v1, before[e]));
          dC[j][2 * e] += v0, dC[j][2 * e + 1] += v1;
        }
        before[e] = warp_sum<4>(before[e]);
        if (pair == 0) s.from_before[half][i] = before[e];
      }
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        if (k > wr) continue;  // later tokens
        unsigned left[4], right[4];
        load_left<XPieces>(left, s.xv, 16 * wr, 2 * k);
#pragma unroll
        for (int j = 0; j < N16; j += 2) {
          load_right<Pieces>(right, s.B, 16 * k, N16 * half + j);
          multiply_tile<V>(dC[j], left, right[0], right[1]);
          multiply_tile<V>(dC[j + 1], left, right[2], right[3]);
        }
      }
    }
    {  // dB: rows are tokens j = t, columns n
      float v[N16][4] = {};
      add_by_rows<V, Pieces>(v, s.x, 16 * wr, s.G, N16 * half);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float weight = s.tokens.weight[t + 8 * (e / 2)];
#pragma unroll
        for (int j = 0; j < N16; ++j) dB[j][e] = multiply_add(weight, v[j][e], dB[j][e]);
      }
      add_by_later<V, Pieces>(dB, s.xv, wr, s.C, N16 * half);
    }
    if (op.dD && threadIdx.x >= 64 && threadIdx.x < 128) {
      const int p = int(threadIdx.x) - 64;
      float sum = 0;
      for (int i = 0; i < ssd_tile; ++i) {
        const int place = piece_at<XPieces>(i, p / 8) + p % 8;
        sum = multiply_add(float(s.dy[place]), float(s.x[place]), sum);
      }
      if (p < width) plan.dD(b, c, h, p) = sum;
    }
    __syncthreads();  // the sums of rows and columns are there
    if (warp == 0) {
      ssd_path_sums sums;
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int i = 2 * lane + e;
        sums.ends[e] = (s.row[0][i] + s.row[1][i]) + (s.from_before[0][i] + s.from_before[1][i]) -
                       ((s.column[0][i] + s.column[1][i]) + (s.column[2][i] + s.column[3][i]));
        sums.leaves[e] = s.tokens.dt[i] * (s.to_after[0][i] + s.to_after[1][i]);
      }
      const auto xu = [&](int e) { return s.xu[0][2 * lane + e] + s.xu[1][2 * lane + e]; };
      const auto raw_dt = [&](int e) {
        return float(op.dt(b, t0 + 2 * lane + e, h)) + (op.dt_bias ? op.dt_bias(h) : 0.0f);
      };
      ssd_step_gradients(plan, s.tokens, sums, s.through, xu, raw_dt, b, c, h);
    }
  }
#pragma unroll
  for (int j = 0; j < N16; ++j)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int i = t + 8 * e, n = 8 * (N16 * half + j) + pair;
      if (i >= rows || n >= states) continue;
      *reinterpret_cast<float2*>(&plan.dB(b, t0 + i, set, n)) =
          make_float2(dB[j][2 * e], dB[j][2 * e + 1]);
      *reinterpret_cast<float2*>(&plan.dC(b, t0 + i, set, n)) =
          make_float2(dC[j][2 * e], dC[j][2 * e + 1]);
    }
}

}  // namespace mlmamba::backend::kernels
