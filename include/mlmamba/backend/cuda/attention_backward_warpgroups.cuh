// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Backward of softmax attention on Hopper's tensor cores (heads of 40 to 128): the two passes of
// attention_backward_tiles.cuh with products by four warps.
#pragma once

#include "mlmamba/backend/cuda/attention_backward_pairs.cuh"

namespace mlmamba::backend::kernels {

/// 16 rows and 64 columns of sums as left operands.
template <class V>
__device__ __forceinline__ void pack_weights(unsigned (&w)[4][4], const float (&v)[8][4]) {
#pragma unroll
  for (int j = 0; j < 8; ++j)
#pragma unroll
    for (int r = 0; r < 2; ++r) w[j / 2][2 * (j % 2) + r] = pack<V>(v[j][2 * r], v[j][2 * r + 1]);
}

/// The same mathematics as attention_backward_tiles_kernel.
template <class T, class E>
__global__ void __launch_bounds__(T::threads, T::blocks)
    attention_backward_warpgroups_kernel(const attention_backward_tiles_plan<E> plan) {
#if defined(MLMAMBA_WARPGROUPS)
  using V = typename E::value;
  constexpr bool by_key = T::by_key;
  extern __shared__ __align__(128) unsigned char raw[];
  V* const own = reinterpret_cast<V*>(raw + (1024 - shared_address(raw) % 1024) % 1024);
  V* const stages = own + T::groups * T::elements;
  float* const numbers = reinterpret_cast<float*>(stages + T::stages * T::elements);
  const auto& op = plan.op;
  const in<E, 4>&own_s = by_key ? op.k : op.q, &own_g = by_key ? op.v : op.dy;
  const in<E, 4>&other_s = by_key ? op.q : op.k, &other_g = by_key ? op.dy : op.v;

  const int length = int(own_s.size[1]), others = int(other_s.size[1]);
  index_t b = blockIdx.x;
  const int tile = int(take_index(b, (length + T::rows - 1) / T::rows));
  const index_t h = take_index(b, op.q.size[2]);
  const int warp = __shfl_sync(all_lanes, warp_index(), 0);  // known to be one for the warp
  const int lane = lane_index(), mine = warp / 4;
  const int first = tile * T::rows, shift = int(op.k.size[1]) - int(op.q.size[1]);
  // Others of a row: keys [0, limit) of a query; queries [limit, T) of a key.
  const auto limit_of = [&](int r) {
    const int n = by_key ? (op.causal ? r - shift : 0) : op.causal ? r + shift + 1 : others;
    return n < 0 ? 0 : n < others ? n : others;
  };
  const int row = 16 * warp + lane / 4;  // and row + 8
  const int limit[2] = {limit_of(first + row), limit_of(first + row + 8)};
  const int bound = limit_of(first + 16 * warp + (by_key ? 15 : 0));  // the warp's narrowest
  const int begin = by_key ? limit_of(first) / 64 * 64 : 0;
  const int end = by_key ? others : limit_of(first + T::rows - 1);

  pair_copies<T, V> copies(other_g, other_s, b, h, begin);
  const auto fetch = [&](int j0, int stage) {
    if (j0 < end) {
      copies.copy(stages + stage * T::elements, others - j0);
      const int e = int(threadIdx.x);
      if (by_key && e < 32)
        copy_piece(numbers + 128 * stage + 4 * e,
                   (e < 16 ? plan.base : plan.delta) + plan.numbers_at(b, h) + j0 + e % 16 * 4,
                   true);
    }
    commit_copies();
  };
  {
    pair_copies<T, V> from(own_g, own_s, b, h, first);
#pragma unroll 1
    for (int m = 0; m < T::groups; ++m) from.copy(own + m * T::elements, length - first - 64 * m);
  }
#pragma unroll
  for (int i = 0; i + 1 < T::stages; ++i) fetch(begin + 64 * i, i);  // its own rows with the first
  float base[2], delta[2];                                           // of queries that are rows
  if constexpr (!by_key) {
    start_queries<T::rows, T::threads>(plan, numbers, numbers + T::rows, b, h, first);
    __syncthreads();
#pragma unroll
    for (int r = 0; r < 2; ++r)
      base[r] = numbers[row + 8 * r], delta[r] = numbers[T::rows + row + 8 * r];
  }

  float sum_s[2 * T::depth][4] = {}, sum_g[by_key ? 2 * T::depth : 1][4] = {};
  const float scale = plan.scale_of_2();
  const V* const left = own + mine * T::elements;
  int stage = 0;
  for (int j0 = begin; j0 < end; j0 += 64) {
    const V* const right = stages + stage * T::elements;
    const float* const of_columns = numbers + 128 * stage + 2 * (lane % 4);
    wait_copies<T::stages - 2>();
    show_to_products();
    __syncthreads();  // these others are there; everybody is done with those before
    fetch(j0 + 64 * (T::stages - 1), stage == 0 ? T::stages - 1 : stage - 1);
    stage = stage + 1 < T::stages ? stage + 1 : 0;

    float s[8][4], g[8][4];
#pragma unroll
    for (int j = 0; j < 8; ++j) {  // g begins with -delta
      float2 from;
      if constexpr (by_key) from = *reinterpret_cast<const float2*>(of_columns + 64 + 8 * j);
#pragma unroll
      for (int i = 0; i < 4; ++i) g[j][i] = !by_key ? delta[i / 2] : i % 2 ? from.y : from.x;
    }
    take_products(g);  // before products begin: else the compiler makes the second ones wait
    begin_products();
#pragma unroll
    for (int d = 0; d < T::depth; ++d)
      multiply_shared<V>(s, operand_at(left, T::s_columns(d)), operand_at(right, T::s_columns(d)),
                         d > 0);
    commit_products();
#pragma unroll
    for (int d = 0; d < T::depth; ++d)
      multiply_shared<V>(g, operand_at(left, T::g_columns(d)), operand_at(right, T::g_columns(d)),
                         true);
    commit_products();
    float2 to[by_key ? 8 : 1];  // base of the columns
    const auto read_base = [&](int j) {
      if constexpr (by_key) to[j] = *reinterpret_cast<const float2*>(of_columns + 8 * j);
    };
    if constexpr (T::early) {
#pragma unroll
      for (int j = 0; j < 8; ++j) read_base(j);
    }
    wait_products<1>();
    take_products(s);

#pragma unroll
    for (int j = 0; j < 8; ++j) {
      if constexpr (!T::early) read_base(j);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float from = !by_key ? base[i / 2]
                           : i % 2 ? to[by_key ? j : 0].y
                                   : to[by_key ? j : 0].x;
        s[j][i] = power_of_2(multiply_add(s[j][i], scale, -from));
      }
    }
    const auto hide = [&](float(&v)[8][4]) {  // what a row does not see
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int from = limit[i / 2] - j0 - 2 * (lane % 4) - i % 2;
#pragma unroll
        for (int j = 0; j < 8; ++j)
          if (by_key ? 8 * j < from : 8 * j >= from) v[j][i] = 0;
      }
    };
    const bool hides = by_key ? bound > j0 : bound < j0 + 64;
    if (hides) hide(s);
    unsigned w[4][4], x[4][4];
    if constexpr (by_key) {
      pack_weights<V>(w, s);
      begin_products();
#pragma unroll
      for (int j = 0; j < 4; ++j)
        multiply_add_right<V>(sum_g, w[j], operand_at<T::g_next>(right, 16 * j * 64));
      commit_products();
      wait_products<1>();
    } else {
      wait_products<0>();
    }
    take_products(g);
#pragma unroll
    for (int j = 0; j < 8; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) g[j][i] *= s[j][i];
    if (hides) hide(g);
    pack_weights<V>(x, g);
    begin_products();
#pragma unroll
    for (int j = 0; j < 4; ++j)
      multiply_add_right<V>(sum_s, x[j],
                            operand_at<T::s_next>(right, T::s_columns(0) + 16 * j * 64));
    commit_products();
    wait_products<0>();  // other warpgroups work meanwhile
    take_products(sum_s);
    if constexpr (by_key) take_products(sum_g);
  }
  wait_copies<0>();

  const int width = int(op.q.size[3]);
  const auto write = [&](const out<E, 4>& v, const float(&sums)[2 * T::depth][4], float by) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int i = first + row + 8 * r;
      if (i >= length) continue;
      V* const to = &v(b, i, h, 0);
#pragma unroll
      for (int c = 0; c < 2 * T::depth; ++c) {
        const int at = 8 * c + 2 * (lane % 4);
        if (at < width)
          *reinterpret_cast<unsigned*>(to + at) =
              pack<V>(sums[c][2 * r] * by, sums[c][2 * r + 1] * by);
      }
    }
  };
  write(by_key ? op.dk : op.dq, sum_s, float(op.scale));
  if constexpr (by_key) write(op.dv, sum_g, 1.0f);
#endif
}

/// For operands that fit_attention_tiles. False: not for it, and nothing was enqueued.
template <class E>
bool attention_backward_by_warpgroups(context<cuda>& ctx,
                                      const attention_backward_tiles_plan<E>& plan) {
  const index_t width = plan.op.q.size[3];
  constexpr index_t most = 1 << 30;  // indices in rows are int
  if (width < 40 || plan.op.q.size[1] > most || plan.op.k.size[1] > most || !has_warpgroups())
    return false;
  const auto launch = [&](auto query, auto key) {
    launch_attention_backward<decltype(query)>(
        ctx, attention_backward_warpgroups_kernel<decltype(query), E>, plan);
    launch_attention_backward<decltype(key)>(
        ctx, attention_backward_warpgroups_kernel<decltype(key), E>, plan);
  };
  if (width <= 64) {
    launch(attention_backward_group<64, false, 1, 4, 2>{},
           attention_backward_group<64, true, 1, 3, 2>{});
  } else if (width <= 80) {
    launch(attention_backward_group<80, false, 1, 3, 2>{},
           attention_backward_group<80, true, 1, 2, 3>{});
  } else {
    launch(attention_backward_group<128, false, 1, 2, 2>{},
           attention_backward_group<128, true, 1, 2, 2>{});
  }
  return true;
}

}  // namespace mlmamba::backend::kernels
