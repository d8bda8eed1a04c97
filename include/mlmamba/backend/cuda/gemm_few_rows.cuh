// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Products of a few rows, as decoding has them: w is read once, at the speed of memory.
#pragma once

#include "mlmamba/backend/cuda/pieces.cuh"
#include "mlmamba/ops/gemm.hpp"

namespace mlmamba::backend::kernels {

inline constexpr index_t most_few_rows = 4;

/// 16 bytes of f32, bf16 or f16, as floats.
template <class T>
struct sixteen_bytes {
  static constexpr int count = 16 / sizeof(T);
  float v[count];

  __device__ explicit sixteen_bytes(const uint4& q) {
    const unsigned word[4] = {q.x, q.y, q.z, q.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (sizeof(T) == 4) {
        v[i] = __uint_as_float(word[i]);
      } else {
        v[2 * i] = low_of<T>(word[i]);
        v[2 * i + 1] = high_of<T>(word[i]);
      }
    }
  }
};

/// A warp makes column n of y for all M rows: each lane sums every 32nd piece of 16 bytes in
/// ascending order, then the lanes are added. So a row's bits are the same for each M.
template <class E, class Y, class T, int M>
__global__ void __launch_bounds__(block_threads)
    gemm_few_rows_kernel(const ops::gemm<E, Y, T, T> op) {
  constexpr int per = sixteen_bytes<T>::count, ahead = 4;
  const index_t n = thread_index() / warp_size;
  if (n >= op.w.size[0]) return;
  const int pieces = int(op.x.size[1] / per), lane = lane_index();
  const auto* w = reinterpret_cast<const uint4*>(op.w.data + n * op.w.stride[0]);
  const uint4* x[M];
#pragma unroll
  for (int m = 0; m < M; ++m) x[m] = reinterpret_cast<const uint4*>(op.x.data + m * op.x.stride[0]);
  float sum[M] = {};
  const auto add = [&](const uint4& q, int at) {
    const sixteen_bytes<T> a(q);
#pragma unroll
    for (int m = 0; m < M; ++m) {
      const sixteen_bytes<T> b(__ldg(x[m] + at));
#pragma unroll
      for (int i = 0; i < per; ++i) sum[m] = fmaf(a.v[i], b.v[i], sum[m]);
    }
  };
  if (lane < ahead * 4 && 8 * lane < pieces)  // only a hint: the launch before may write w
    asm volatile("prefetch.global.L2 [%0];\n" ::"l"(w + 8 * lane));
  wait_for_launch_before();
  for (int at = lane; at - lane < pieces; at += ahead * warp_size) {
    uint4 q[ahead];
#pragma unroll
    for (int i = 0; i < ahead; ++i)
      q[i] = at + i * warp_size < pieces ? __ldcs(w + at + i * warp_size) : uint4{};
#pragma unroll
    for (int i = 0; i < ahead; ++i)
      if (at + i * warp_size < pieces) add(q[i], at + i * warp_size);
  }
#pragma unroll
  for (int m = 0; m < M; ++m) {
    float v = warp_sum(sum[m]);
    if (lane != m) continue;
    if (op.accumulate) v += float(op.y(m, n));
    if (op.bias) v += op.bias(n);
    if (op.pre_activation) op.pre_activation(m, n) = Y(v);
    op.y(m, n) = Y(apply_activation(op.activation, v));
  }
}

/// False: these sizes or strides are not for it, and nothing was enqueued.
template <class E, class Y, class T>
bool gemm_of_few_rows(context<cuda>& ctx, const ops::gemm<E, Y, T, T>& op) {
  constexpr index_t per = sixteen_bytes<T>::count;
  const index_t m = op.x.size[0], k = op.x.size[1];
  const auto aligned = [&](const view<const T, 2, memory::device>& v) {
    return v.stride[1] == 1 && (v.size[0] == 1 || v.stride[0] % per == 0) &&
           reinterpret_cast<std::uintptr_t>(v.data) % 16 == 0;
  };
  if (m > most_few_rows || k % per != 0 || k > 1 << 24 || !aligned(op.x) || !aligned(op.w))
    return false;
  const unsigned blocks = blocks_for(op.w.size[0], block_threads / warp_size);
  const auto launch = [&](auto rows) {
    launch_early(ctx, op.name, gemm_few_rows_kernel<E, Y, T, rows.value>, blocks, block_threads, 0,
                 op);
  };
  switch (m) {
    case 1:
      launch(constant<1>{});
      break;
    case 2:
      launch(constant<2>{});
      break;
    case 3:
      launch(constant<3>{});
      break;
    default:
      launch(constant<4>{});
      break;
  }
  return true;
}

}  // namespace mlmamba::backend::kernels
