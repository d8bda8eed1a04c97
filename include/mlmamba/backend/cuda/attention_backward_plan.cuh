// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What the two passes of the backward of attention on tensor cores have in common.
#pragma once

#include "mlmamba/backend/cuda/attention_tiles.cuh"

namespace mlmamba::backend::kernels {

/// What both passes are given. The first leaves base and delta of each query for the second:
///   p[i,j] = 2^(log2(e) scale q[i] . k[j] - base[i]);  delta[i] = -dy[i] . y[i]
/// base is infinite, so that p is 0, for a query that sees no key and where there is no query.
template <class E>
struct attention_backward_tiles_plan {
  static constexpr const char* name = ops::attention_backward<E>::name;
  static constexpr index_t most_rows = 128;  // of a block
  ops::attention_backward<E> op;
  index_t padded;       // T, up to the next multiple of most_rows
  float *base, *delta;  // (B, H, padded)

  __device__ float scale_of_2() const { return float(op.scale) * 1.4426950408889634f; }
  __device__ index_t numbers_at(index_t b, index_t h) const {
    return (b * op.q.size[2] + h) * padded;
  }
};

/// The first pass: base and delta of `Rows` queries from `first` on, to shared memory and for the
/// second pass. Eight neighbours have a query.
template <int Rows, int Threads, class E>
__device__ void start_queries(const attention_backward_tiles_plan<E>& plan, float* base,
                              float* delta, index_t b, index_t h, index_t first) {
  const auto& op = plan.op;
  const int pieces = int(op.q.size[3] / 8), piece = int(threadIdx.x) % 8;
#pragma unroll 2
  for (int r = int(threadIdx.x) / 8; r < Rows; r += Threads / 8) {
    const index_t i = first + r;
    const bool there = i < op.q.size[1];
    float sum = 0;
    for (int c = piece; there && c < pieces; c += 8) {
      float dy[8], y[8];
      read_piece(dy, &op.dy(b, i, h, 8 * c)), read_piece(y, &op.y(b, i, h, 8 * c));
#pragma unroll
      for (int e = 0; e < 8; ++e) sum = multiply_add(dy[e], y[e], sum);
    }
    sum = warp_sum<8>(sum);
    if (piece != 0) continue;
    const float log_sum = there ? float(op.log_sum_exp(b, h, i)) : -INFINITY;
    base[r] = log_sum == -INFINITY ? INFINITY : log_sum * 1.4426950408889634f;
    delta[r] = -sum;
    plan.base[plan.numbers_at(b, h) + i] = base[r];
    plan.delta[plan.numbers_at(b, h) + i] = -sum;
  }
}

/// Can rows be read as pieces of 16 bytes, and are heads narrow enough for tiles?
template <class E>
bool fits_attention_tiles(const ops::attention_backward<E>& op) {
  const auto fit = [](const auto&... v) { return (is_rows_of_pieces(v) && ...); };
  return op.q.size[3] <= 128 && fit(op.q, op.k, op.v, op.y, op.dy, op.dq, op.dk, op.dv);
}

/// A pass whose blocks have T::rows keys (or queries) of a head.
template <class T, class E>
void launch_attention_backward(context<cuda>& ctx, void (*kernel)(attention_backward_tiles_plan<E>),
                               const attention_backward_tiles_plan<E>& plan) {
  const auto& op = plan.op;
  const index_t length = (T::by_key ? op.k : op.q).size[1];
  const unsigned blocks =
      blocks_for(op.q.size[0] * op.q.size[2] * ((length + T::rows - 1) / T::rows), 1);
  if (blocks == 0) return;
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, T::bytes),
             op.name);
  kernel<<<blocks, T::threads, T::bytes, ctx.stream>>>(plan);
  launched(op.name);
}

}  // namespace mlmamba::backend::kernels
