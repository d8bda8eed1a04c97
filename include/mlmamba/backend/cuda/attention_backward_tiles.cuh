// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Backward of softmax attention in bf16 or f16 on tensor cores: a pass over queries for dq, one
// over keys for dk and dv. Both compute scores anew, which never leave registers.
#pragma once

#include "mlmamba/backend/cuda/attention_backward_plan.cuh"

namespace mlmamba::backend::kernels {

/// Sizes of a pass: a warp has 16 `Tiles` rows (queries, or keys if `ByKey`) of a head of up to
/// `Width` elements and meets `Others` rows of the other kind at a time, `Columns` of them at once.
/// `Held`: its rows stay in registers, else they are read from shared memory as often as needed.
template <int Width, bool ByKey, int Tiles, int Others, int Columns, bool Held, int Blocks>
struct attention_backward_tile {
  static constexpr bool by_key = ByKey, held = Held;
  static constexpr int tiles = Tiles, others = Others, columns = Columns, blocks = Blocks;
  static constexpr int warps = 4, threads = warps * warp_size, rows = 16 * tiles * warps;
  static constexpr int pieces = Width / 8, row = pieces + 1, depth = Width / 16;
  static constexpr int elements = others * row * 8, own_elements = rows * row * 8;
  static constexpr int in_stages =
      4 * elements > 2 * own_elements ? 4 * elements : 2 * own_elements;
  static constexpr int matrix_bytes = 2 * (held ? in_stages : 4 * elements + 2 * own_elements);
  static constexpr int numbers = by_key ? 4 * others : 2 * rows;
  static constexpr int bytes = matrix_bytes + 4 * numbers;
};

/// s += own other^T: the rows of a warp by T::columns others from `row` on.
template <class T, class V, int N, int Held>
__device__ __forceinline__ void add_scores(float (&s)[T::tiles][N][4],
                                           const unsigned (&held)[T::tiles][Held][4], const V* own,
                                           const V* other, int row) {
#pragma unroll
  for (int d = 0; d < T::depth; ++d) {
    unsigned left[T::tiles][4];
#pragma unroll
    for (int u = 0; u < T::tiles; ++u) {
      if constexpr (T::held) {
#pragma unroll
        for (int i = 0; i < 4; ++i) left[u][i] = held[u][d][i];
      } else {
        load_left<T::row>(left[u], own, 16 * (warp_index() * T::tiles + u), 2 * d);
      }
    }
#pragma unroll
    for (int j = 0; j < N; j += 2) {
      unsigned f[4];
      load_right_transposed<T::row>(f, other, row + 8 * j, 2 * d);
#pragma unroll
      for (int u = 0; u < T::tiles; ++u) {
        multiply_tile<V>(s[u][j], left[u], f[0], f[1]);
        multiply_tile<V>(s[u][j + 1], left[u], f[2], f[3]);
      }
    }
  }
}
/// sums += w other: w has 16 columns, others `row` to `row` + 15.
template <class T, class V>
__device__ __forceinline__ void add_weighted(float (&sums)[T::tiles][2 * T::depth][4],
                                             const unsigned (&w)[T::tiles][4], const V* other,
                                             int row) {
#pragma unroll
  for (int d = 0; d < T::depth; ++d) {
    unsigned f[4];
    load_right<T::row>(f, other, row, 2 * d);
#pragma unroll
    for (int u = 0; u < T::tiles; ++u) {
      multiply_tile<V>(sums[u][2 * d], w[u], f[0], f[1]);
      multiply_tile<V>(sums[u][2 * d + 1], w[u], f[2], f[3]);
    }
  }
}

/// A block has T::rows queries i (or keys j) of a head. With `by_key` all matrices are transposed:
///   s = k q^T, g = v dy^T;  p = 2^(..s - base), ds = p (g + delta);  dv += p dy, dk += ds q
/// else
///   s = q k^T, g = dy v^T;  p, ds likewise;  dq += ds k
template <class T, class E>
__global__ void __launch_bounds__(T::threads, T::blocks)
    attention_backward_tiles_kernel(const attention_backward_tiles_plan<E> plan) {
  using V = typename E::value;
  constexpr bool by_key = T::by_key;
  constexpr int N = T::columns / 8;
  extern __shared__ __align__(16) unsigned char shared[];
  V* const stages = reinterpret_cast<V*>(shared);
  V* const own = T::held ? stages : stages + 4 * T::elements;
  float* const numbers = reinterpret_cast<float*>(shared + T::matrix_bytes);
  const auto& op = plan.op;
  const in<E, 4>&own_s = by_key ? op.k : op.q, &own_g = by_key ? op.v : op.dy;
  const in<E, 4>&other_s = by_key ? op.q : op.k, &other_g = by_key ? op.dy : op.v;

  const index_t length = own_s.size[1], others = other_s.size[1];
  index_t b = blockIdx.x;
  const index_t tile = take_index(b, (length + T::rows - 1) / T::rows);
  const index_t h = take_index(b, op.q.size[2]);
  const int lane = lane_index(), warp = warp_index();
  const index_t first = tile * T::rows, shift = op.k.size[1] - op.q.size[1];
  // Others of a row: keys [0, limit) of a query; queries [limit, T) of a key.
  const auto limit_of = [&](index_t r) {
    const index_t n = by_key ? (op.causal ? r - shift : 0) : op.causal ? r + shift + 1 : others;
    return n < 0 ? 0 : n < others ? n : others;
  };
  index_t limit[T::tiles][2];
#pragma unroll
  for (int u = 0; u < T::tiles; ++u)
#pragma unroll
    for (int r = 0; r < 2; ++r)
      limit[u][r] = limit_of(first + 16 * (warp * T::tiles + u) + lane / 4 + 8 * r);
  const index_t bound = by_key ? limit[T::tiles - 1][1] : limit[0][0];  // the narrowest
  const index_t begin = by_key ? limit_of(first) / T::others * T::others : 0;
  const index_t end = by_key ? others : limit_of(first + T::rows - 1);

  unsigned left_s[T::tiles][T::held ? T::depth : 1][4], left_g[T::tiles][T::held ? T::depth : 1][4];
  load_rows<T, T::rows, E>(own, own_s, b, h, first);
  load_rows<T, T::rows, E>(own + T::own_elements, own_g, b, h, first);
  commit_copies();
  if constexpr (!by_key)
    start_queries<T::rows, T::threads>(plan, numbers, numbers + T::rows, b, h, first);
  if constexpr (T::held) {
    wait_copies<0>();
    __syncthreads();
#pragma unroll
    for (int u = 0; u < T::tiles; ++u)
#pragma unroll
      for (int d = 0; d < T::depth; ++d) {
        const int row = 16 * (warp * T::tiles + u);
        load_left<T::row>(left_s[u][d], own, row, 2 * d);
        load_left<T::row>(left_g[u][d], own + T::own_elements, row, 2 * d);
      }
    __syncthreads();
  }
  const auto fetch = [&](index_t j0, int slot) {
    if (j0 < end) {
      V* const to = stages + 2 * slot * T::elements;
      load_rows<T, T::others, E>(to, other_s, b, h, j0);
      load_rows<T, T::others, E>(to + T::elements, other_g, b, h, j0);
      const int e = 4 * int(threadIdx.x);
      if (by_key && e < 2 * T::others)
        copy_piece(
            numbers + 2 * slot * T::others + e,
            (e < T::others ? plan.base : plan.delta) + plan.numbers_at(b, h) + j0 + e % T::others,
            true);
    }
    commit_copies();
  };
  fetch(begin, 0);

  float sum_s[T::tiles][2 * T::depth][4] = {};
  float sum_g[by_key ? T::tiles : 1][2 * T::depth][4] = {};
  const float scale = plan.scale_of_2();
  float base[T::tiles][2], delta[T::tiles][2];  // of queries that are rows
  if constexpr (!by_key) {
    __syncthreads();
#pragma unroll
    for (int u = 0; u < T::tiles; ++u)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int row = 16 * (warp * T::tiles + u) + lane / 4 + 8 * r;
        base[u][r] = numbers[row], delta[u][r] = numbers[T::rows + row];
      }
  }
  int slot = 0;
  for (index_t j0 = begin; j0 < end; j0 += T::others, slot ^= 1) {
    fetch(j0 + T::others, slot ^ 1);
    wait_copies<1>();
    __syncthreads();
    const V *of_s = stages + 2 * slot * T::elements, *of_g = of_s + T::elements;
#pragma unroll 1
    for (int part = 0; part < T::others; part += T::columns) {
      float s[T::tiles][N][4] = {}, g[T::tiles][N][4] = {};
      add_scores<T>(s, left_s, own, of_s, part);
      add_scores<T>(g, left_g, own + T::own_elements, of_g, part);
#pragma unroll
      for (int j = 0; j < N; ++j) {
        const int column = part + 8 * j + 2 * (lane % 4);
        float2 column_base, column_delta;
        if constexpr (by_key) {
          const float* const at = numbers + 2 * slot * T::others + column;
          column_base = *reinterpret_cast<const float2*>(at);
          column_delta = *reinterpret_cast<const float2*>(at + T::others);
        }
#pragma unroll
        for (int u = 0; u < T::tiles; ++u)
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const float to = !by_key ? base[u][i / 2] : i % 2 ? column_base.y : column_base.x;
            const float from = !by_key ? delta[u][i / 2] : i % 2 ? column_delta.y : column_delta.x;
            const float p = power_of_2(multiply_add(s[u][j][i], scale, -to));
            g[u][j][i] = p * (g[u][j][i] + from);
            s[u][j][i] = p;
          }
      }
      const int here = int(bound - j0) - part;
      if (by_key ? here > 0 : here < T::columns) {
#pragma unroll
        for (int u = 0; u < T::tiles; ++u)
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const int from = int(limit[u][i / 2] - j0) - part - 2 * (lane % 4) - i % 2;
#pragma unroll
            for (int j = 0; j < N; ++j)
              if (by_key ? 8 * j < from : 8 * j >= from) s[u][j][i] = g[u][j][i] = 0;
          }
      }
#pragma unroll
      for (int k = 0; k < N / 2; ++k) {
        unsigned w[T::tiles][4];
        const auto take = [&](const float(&from)[T::tiles][N][4]) {
#pragma unroll
          for (int u = 0; u < T::tiles; ++u)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
              const float(&two)[4] = from[u][2 * k + i / 2];
              w[u][i] = pack<V>(two[2 * (i % 2)], two[2 * (i % 2) + 1]);
            }
        };
        take(g);
        add_weighted<T>(sum_s, w, of_s, part + 16 * k);
        if constexpr (by_key) {
          take(s);
          add_weighted<T>(sum_g, w, of_g, part + 16 * k);
        }
      }
    }
    __syncthreads();  // everybody has read the slot that the next turn fills
  }
  wait_copies<0>();

  const int width = int(op.q.size[3]);
  const auto write = [&](const out<E, 4>& v, const float(&sums)[T::tiles][2 * T::depth][4],
                         float by) {
#pragma unroll
    for (int u = 0; u < T::tiles; ++u)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const index_t i = first + 16 * (warp * T::tiles + u) + lane / 4 + 8 * r;
        if (i >= length) continue;
        V* const to = &v(b, i, h, 0);
#pragma unroll
        for (int c = 0; c < 2 * T::depth; ++c) {
          const int at = 8 * c + 2 * (lane % 4);
          if (at < width)
            *reinterpret_cast<unsigned*>(to + at) =
                pack<V>(sums[u][c][2 * r] * by, sums[u][c][2 * r + 1] * by);
        }
      }
  };
  write(by_key ? op.dk : op.dq, sum_s, float(op.scale));
  if constexpr (by_key) write(op.dv, sum_g, 1.0f);
}

/// For operands that fit.
template <class E>
void attention_backward_by_tiles(context<cuda>& ctx, const attention_backward_tiles_plan<E>& plan) {
  const auto launch = [&](auto query, auto key) {
    launch_attention_backward<decltype(query)>(
        ctx, attention_backward_tiles_kernel<decltype(query), E>, plan);
    launch_attention_backward<decltype(key)>(ctx, attention_backward_tiles_kernel<decltype(key), E>,
                                             plan);
  };
  const index_t width = plan.op.q.size[3];
  if (width <= 32) {
    launch(attention_backward_tile<32, false, 1, 64, 32, true, 3>{},
           attention_backward_tile<32, true, 1, 64, 32, true, 3>{});
  } else if (width <= 64) {
    launch(attention_backward_tile<64, false, 2, 64, 64, false, 2>{},
           attention_backward_tile<64, true, 2, 64, 32, false, 2>{});
  } else if (width <= 80) {
    launch(attention_backward_tile<80, false, 2, 64, 32, false, 2>{},
           attention_backward_tile<80, true, 2, 64, 32, false, 1>{});
  } else {
    launch(attention_backward_tile<128, false, 1, 64, 32, true, 2>{},
           attention_backward_tile<128, true, 1, 32, 32, false, 2>{});
  }
}

}  // namespace mlmamba::backend::kernels
