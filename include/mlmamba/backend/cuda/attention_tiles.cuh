// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Softmax attention in bf16 or f16 on tensor cores: 16 or 32 queries a warp, keys in blocks of 64;
// scores never leave registers.
#pragma once

#include "mlmamba/backend/cuda/mma.cuh"
#include "mlmamba/ops/attention.hpp"

namespace mlmamba::backend::kernels {

/// Sizes for heads of up to `Width` elements, a multiple of 16. A row in shared memory has an odd
/// number of 16-byte pieces: then the 8 rows of a fragment lie in different banks.
template <int Width>
struct attention_tile {
  // 32 queries a warp where registers allow it: each fragment of K and V then serves two products.
  static constexpr int tiles = Width <= 80 ? 2 : 1;
  static constexpr int warps = 4, queries = 16 * tiles * warps, keys = 64;
  static constexpr int pieces = Width / 8, row = pieces + 1, depth = Width / 16;
  static constexpr int elements = keys * row * 8;      // of K or V
  static constexpr unsigned bytes = 4 * elements * 2;  // of both, twice; Q before them
  static_assert(queries <= 4 * keys);
};

/// `Rows` rows of a head from `first` in the background; zeros where there is nothing.
template <class T, int Rows, class E, class V = typename E::value>
__device__ void load_rows(V* to, const in<E, 4>& from, index_t b, index_t h, index_t first) {
  const int there = int(from.size[3] / 8);
  const V* base = from.data + b * from.stride[0] + h * from.stride[2];
  for (int e = int(threadIdx.x); e < Rows * T::pieces; e += warp_size * T::warps) {
    const int r = e / T::pieces, c = e % T::pieces;
    const bool inside = first + r < from.size[1] && c < there;
    copy_piece(to + (r * T::row + c) * 8,
               inside ? base + (first + r) * from.stride[1] + c * 8 : from.data, inside);
  }
}

template <class W, class E>
__global__ void __launch_bounds__(128) attention_tiles_kernel(const ops::attention<E> op) {
  using T = attention_tile<W::value>;
  using V = typename E::value;
  extern __shared__ __align__(16) unsigned char shared[];
  V* const ks = reinterpret_cast<V*>(shared);  // K, K, V, V
  V* const vs = ks + 2 * T::elements;

  const index_t length = op.q.size[1], heads = op.q.size[2], sources = op.k.size[1];
  index_t b = blockIdx.x;
  const index_t tile = take_index(b, (length + T::queries - 1) / T::queries);
  const index_t h = take_index(b, heads);
  const int lane = lane_index(), warp = warp_index();
  const index_t first = tile * T::queries, shift = sources - length;
  const auto visible = [&](index_t query) {  // keys [0, n) count
    const index_t n = op.causal ? query + shift + 1 : sources;
    return n < 0 ? 0 : n < sources ? n : sources;
  };
  // The queries of a lane: two of each tile.
  index_t row[T::tiles][2], seen[T::tiles][2];
  index_t least = sources;
#pragma unroll
  for (int u = 0; u < T::tiles; ++u)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      row[u][r] = first + 16 * (warp * T::tiles + u) + lane / 4 + 8 * r;
      seen[u][r] = visible(row[u][r]);
      if (seen[u][r] < least) least = seen[u][r];
    }
  const index_t wanted = visible(first + T::queries - 1);

  unsigned q[T::tiles][T::depth][4];
  load_rows<T, T::queries, E>(ks, op.q, b, h, first);
  commit_copies();
  wait_copies<0>();
  __syncthreads();
#pragma unroll
  for (int u = 0; u < T::tiles; ++u)
#pragma unroll
    for (int d = 0; d < T::depth; ++d)
      load_left<T::row>(q[u][d], ks, 16 * (warp * T::tiles + u), 2 * d);
  __syncthreads();

  float y[T::tiles][2 * T::depth][4] = {}, sum[T::tiles][2] = {}, largest[T::tiles][2];
#pragma unroll
  for (int u = 0; u < T::tiles; ++u) largest[u][0] = largest[u][1] = -INFINITY;
  const float scale = float(op.scale) * 1.4426950408889634f;  // exponentials are of base 2
  const auto fetch = [&](index_t j0, int slot) {
    if (j0 < wanted) {
      load_rows<T, T::keys, E>(ks + slot * T::elements, op.k, b, h, j0);
      load_rows<T, T::keys, E>(vs + slot * T::elements, op.v, b, h, j0);
    }
    commit_copies();
  };
  fetch(0, 0);
  int slot = 0;
  for (index_t j0 = 0; j0 < wanted; j0 += T::keys, slot ^= 1) {
    fetch(j0 + T::keys, slot ^ 1);
    wait_copies<1>();
    __syncthreads();
    const V *k = ks + slot * T::elements, *v = vs + slot * T::elements;

    float s[T::tiles][8][4] = {};
#pragma unroll
    for (int d = 0; d < T::depth; ++d)
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        unsigned f[4];
        load_right_transposed<T::row>(f, k, 16 * j, 2 * d);
#pragma unroll
        for (int u = 0; u < T::tiles; ++u) {
          multiply_tile<V>(s[u][2 * j], q[u][d], f[0], f[1]);
          multiply_tile<V>(s[u][2 * j + 1], q[u][d], f[2], f[3]);
        }
      }

    const bool masked = j0 + T::keys > least;
#pragma unroll
    for (int u = 0; u < T::tiles; ++u) {
#pragma unroll
      for (int j = 0; j < 8; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const bool counts = !masked || j0 + 8 * j + 2 * (lane % 4) + (i & 1) < seen[u][i / 2];
          s[u][j][i] = counts ? s[u][j][i] * scale : -INFINITY;
        }
#pragma unroll
      for (int r = 0; r < 2; ++r) {  // four lanes share a query
        float most = largest[u][r];
#pragma unroll
        for (int j = 0; j < 8; ++j) most = fmaxf(most, fmaxf(s[u][j][2 * r], s[u][j][2 * r + 1]));
        most = fmaxf(most, __shfl_xor_sync(all_lanes, most, 1));
        most = fmaxf(most, __shfl_xor_sync(all_lanes, most, 2));
        const float base = most == -INFINITY ? 0.0f : most;
        const float rescale = power_of_2(largest[u][r] - base);
        largest[u][r] = most;
        sum[u][r] *= rescale;
#pragma unroll
        for (int j = 0; j < 8; ++j)
#pragma unroll
          for (int i = 2 * r; i < 2 * r + 2; ++i) {
            s[u][j][i] = power_of_2(s[u][j][i] - base);
            sum[u][r] += s[u][j][i];
          }
#pragma unroll
        for (int c = 0; c < 2 * T::depth; ++c)
          y[u][c][2 * r] *= rescale, y[u][c][2 * r + 1] *= rescale;
      }
    }

#pragma unroll
    for (int j = 0; j < 4; ++j) {
      unsigned p[T::tiles][4];
#pragma unroll
      for (int u = 0; u < T::tiles; ++u)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float(&two)[4] = s[u][2 * j + i / 2];
          p[u][i] = pack<V>(two[2 * (i % 2)], two[2 * (i % 2) + 1]);
        }
#pragma unroll
      for (int d = 0; d < T::depth; ++d) {
        unsigned f[4];
        load_right<T::row>(f, v, 16 * j, 2 * d);
#pragma unroll
        for (int u = 0; u < T::tiles; ++u) {
          multiply_tile<V>(y[u][2 * d], p[u], f[0], f[1]);
          multiply_tile<V>(y[u][2 * d + 1], p[u], f[2], f[3]);
        }
      }
    }
    __syncthreads();  // everybody has read the slot that the next turn fills
  }
  wait_copies<0>();

#pragma unroll
  for (int u = 0; u < T::tiles; ++u)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float all = sum[u][r] + __shfl_xor_sync(all_lanes, sum[u][r], 1);
      all += __shfl_xor_sync(all_lanes, all, 2);
      const index_t i = row[u][r];
      const bool sees_any = seen[u][r] > 0;
      if (i >= length) continue;
      const float by = sees_any ? 1 / all : 0.0f;
      V* to = op.y.data + b * op.y.stride[0] + i * op.y.stride[1] + h * op.y.stride[2];
#pragma unroll
      for (int c = 0; c < 2 * T::depth; ++c) {
        const int at = 8 * c + 2 * (lane % 4);
        if (at < int(op.q.size[3]))
          *reinterpret_cast<unsigned*>(to + at) =
              pack<V>(y[u][c][2 * r] * by, y[u][c][2 * r + 1] * by);
      }
      if (op.log_sum_exp && lane % 4 == 0)
        op.log_sum_exp(b, h, i) =
            sees_any ? largest[u][r] * 0.6931471805599453f + logf(all) : -INFINITY;
    }
}

/// Can rows of v (B, T, H, d) be read as pieces of 16 bytes, 8 elements?
template <class T>
bool is_rows_of_pieces(const view<T, 4, memory::device>& v) {
  bool yes = reinterpret_cast<std::uintptr_t>(v.data) % 16 == 0 && v.size[3] % 8 == 0;
  for (int a = 0; a < 3; ++a) yes = yes && (v.size[a] <= 1 || v.stride[a] % 8 == 0);
  return yes;
}
/// Are they, and are heads narrow enough for tiles?
template <class E>
bool fits_attention_tiles(const ops::attention<E>& op) {
  return op.q.size[3] <= 128 && is_rows_of_pieces(op.q) && is_rows_of_pieces(op.k) &&
         is_rows_of_pieces(op.v) && is_rows_of_pieces(op.y);
}

/// For operands that fit.
template <class E>
void attention_by_tiles(context<cuda>& ctx, const ops::attention<E>& op) {
  const index_t width = op.q.size[3];
  const auto launch = [&](auto w) {
    using T = attention_tile<w.value>;
    const index_t tiles = (op.q.size[1] + T::queries - 1) / T::queries;
    const unsigned blocks = blocks_for(op.q.size[0] * op.q.size[2] * tiles, 1);
    if (blocks == 0) return;
    const auto kernel = attention_tiles_kernel<decltype(w), E>;
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, T::bytes),
               op.name);
    kernel<<<blocks, warp_size * T::warps, T::bytes, ctx.stream>>>(op);
    launched(op.name);
  };
  if (width <= 32) {
    launch(constant<32>{});
  } else if (width <= 64) {
    launch(constant<64>{});
  } else if (width <= 80) {
    launch(constant<80>{});
  } else {
    launch(constant<128>{});
  }
}

}  // namespace mlmamba::backend::kernels
