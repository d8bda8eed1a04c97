// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Backward of one chunk of SSD on a GPU, as products of matrices.
#pragma once

#include "mlmamba/backend/cuda/ssd.cuh"
#include "mlmamba/backend/cuda/tile.cuh"

namespace mlmamba::backend::kernels {

/// The backward in four launches, with up to 32 tokens in a chunk:
///   1. each chunk: what it leaves to the state after it (states) and to the adjoint before it
///   2. over chunks, forward and back: the states that enter, the adjoints that leave
///   3. each chunk: all gradients; dB and dC of each head
///   4. dB and dC: sums over the heads of a group
/// Gradients that accumulate are summed over chunks last (column_sums.cuh).
template <class E>
struct ssd_backward_plan {
  static constexpr const char* name = ops::ssd_backward<E>::name;
  template <int R>
  using wide = view<typename E::accum, R, memory::device>;
  ops::ssd_backward<E> op;
  index_t chunk, chunks;
  wide<5> states, adjoints;  // (B, chunks, H, P, N)
  wide<3> decay;             // (B, chunks, H): of a state by the whole chunk
  wide<4> dB, dC;            // (B, L, H, N)
  wide<3> dA, ddt_bias;      // (B, chunks, H)
  wide<4> dD;                // (B, chunks, H, P), if wanted
};

/// A block's chunk of one head: operands at its tokens, 0 outside.
template <class E>
struct ssd_chunk_view {
  using A = typename E::accum;
  const ssd_backward_plan<E>& plan;
  index_t b, c, h, g, begin, width, states;
  int count;  // tokens

  __device__ explicit ssd_chunk_view(const ssd_backward_plan<E>& p)
      : plan(p), width(p.op.x.size[3]), states(p.op.B.size[3]) {
    const auto& op = plan.op;
    b = blockIdx.x;
    h = take_index(b, op.x.size[2]), c = take_index(b, plan.chunks);
    g = h / (op.x.size[2] / op.B.size[2]);
    begin = c * plan.chunk;
    const index_t rest = op.x.size[1] - begin;
    count = int(rest < plan.chunk ? rest : plan.chunk);
  }
  __device__ A x(index_t t, index_t p) const {
    return t < count && p < width ? A(plan.op.x(b, begin + t, h, p)) : A(0);
  }
  /// The gradient before the gate.
  __device__ A dv(index_t t, index_t p) const {
    if (t >= count || p >= width) return A(0);
    const A dy = A(plan.op.dy(b, begin + t, h, p));
    if (!plan.op.z) return dy;
    return dy * apply_activation(activation::silu, A(plan.op.z(b, begin + t, h, p)));
  }
  __device__ A B(index_t t, index_t n) const {
    return t < count && n < states ? A(plan.op.B(b, begin + t, g, n)) : A(0);
  }
  __device__ A C(index_t t, index_t n) const {
    return t < count && n < states ? A(plan.op.C(b, begin + t, g, n)) : A(0);
  }
  __device__ A state(index_t p, index_t n) const {
    return p < width && n < states ? plan.states(b, c, h, p, n) : A(0);
  }
  __device__ A adjoint(index_t p, index_t n) const {
    return p < width && n < states ? plan.adjoints(b, c, h, p, n) : A(0);
  }
};

/// Steps and decays of a chunk, in shared memory. Decays are products of those of tokens: no
/// differences of sums, so that a small step after a huge one keeps its digits.
template <class A>
struct ssd_chunk {
  static constexpr int tokens = tile_rows;
  A dt[tokens], slope[tokens];           // dt' and its derivative by dt
  A keep[tokens];                        // exp(dt' A), 0 where a sequence starts
  A from_start[tokens], to_end[tokens];  // decay before the chunk to here, from here to its end

  template <class E>
  __device__ void load(const ssd_chunk_view<E>& v) {
    const auto& op = v.plan.op;
    const int i = int(threadIdx.x);
    if (i < tokens) {
      A step = 0, derivative = 0, decay = 1;  // after the last token: nothing, and no decay
      if (i < v.count) {
        const index_t t = v.begin + i;
        const A raw = A(op.dt(v.b, t, v.h)) + (op.dt_bias ? op.dt_bias(v.h) : A(0));
        const A soft = op.dt_softplus ? math::softplus(raw) : raw;
        const bool clamped = soft < A(op.dt_min) || soft > A(op.dt_max);
        step = ssd_dt(op, v.b, t, v.h);
        if (!clamped) derivative = op.dt_softplus ? math::softplus_derivative(raw) : A(1);
        decay = ssd_starts(op, v.b, t) ? A(0) : math::exp(step * op.A(v.h));
      }
      dt[i] = step, slope[i] = derivative, keep[i] = decay;
    }
    __syncthreads();
    if (i == 0) {
      A product = 1;
      for (int k = 0; k < tokens; ++k) from_start[k] = product *= keep[k];
    } else if (i == warp_size) {
      A product = 1;
      for (int k = tokens - 1; k >= 0; --k) {
        to_end[k] = product;
        product *= keep[k];
      }
    }
    __syncthreads();
  }
};

/// decay[i][j]: from after token j to after token i >= j; 0 above the diagonal.
template <class A>
using ssd_matrix = A[tile_rows][tile_rows + 1];

/// Pairs of tokens i >= j, with D = decay, u = G B, and sums over the chunk only:
///   u[j]  = to_end[j] G B[j]   + sum_i D[i,j] (C[i].B[j]) dv[i]
///   v[i]  = from_start[i] S C[i] + sum_j D[i,j] (C[i].B[j]) dt[j] x[j]
///   dB[j] = dt[j] (to_end[j] G^T x[j] + sum_i D[i,j] (dv[i].x[j]) C[i])
///   dC[i] = from_start[i] S^T dv[i]  + sum_j D[i,j] (dv[i].x[j]) dt[j] B[j]
/// where S enters the chunk and G is the adjoint of what leaves it. The gradient by log decay[j] is
/// the sum over all paths that cross j: nothing is subtracted.
template <class E>
__global__ void __launch_bounds__(block_threads, 3)
    ssd_chunk_kernel(const ssd_backward_plan<E> plan) {
  using A = typename E::accum;
  using V = typename E::value;
  constexpr int tokens = ssd_chunk<A>::tokens;
  __shared__ tile_operands<A> operands;
  __shared__ ssd_chunk<A> chunk;
  __shared__ ssd_matrix<A> decay, cb, xv;  // C[i].B[j]; D[i,j] (dv[i].x[j])
  __shared__ A xu[tokens], to_after[tokens], from_before[tokens], shared[warp_size];
  const auto& op = plan.op;
  const ssd_chunk_view<E> v(plan);
  const int thread = int(threadIdx.x), count = v.count;
  chunk.load(v);
  if (thread < tokens) {
    A product = 1;
    for (int i = 0; i < tokens; ++i) {
      if (i > thread) product *= chunk.keep[i];
      decay[i][thread] = i < thread ? A(0) : product;
    }
    xu[thread] = to_after[thread] = from_before[thread] = A(0);
  }
  __syncthreads();

  {
    tile<A, 2> products;
    products.add(
        operands, v.states, along::depth, [&](int i, index_t n) { return v.C(i, n); }, along::depth,
        [&](index_t n, int j) { return v.B(j, n); });
    products.for_each([&](int i, int j, A value) { cb[i][j] = value; });
  }
  {
    tile<A, 2> products;
    products.add(
        operands, v.width, along::depth, [&](int i, index_t p) { return v.dv(i, p); }, along::depth,
        [&](index_t p, int j) { return v.x(j, p); });
    products.for_each(
        [&](int i, int j, A value) { xv[i][j] = i < j ? A(0) : decay[i][j] * value; });
  }
  __syncthreads();

  for (index_t p0 = 0; p0 < v.width; p0 += tile<A, 2>::columns) {
    tile<A, 2> u;
    u.add(
        operands, v.states, along::depth,
        [&](int j, index_t n) { return chunk.to_end[j] * v.B(j, n); }, along::depth,
        [&](index_t n, int p) { return v.adjoint(p0 + p, n); });
    u.add_row_sums(to_after, [&](int j, int p) { return v.x(j, p0 + p); });
    u.add(
        operands, count, along::other, [&](int j, index_t i) { return decay[i][j] * cb[i][j]; },
        along::other, [&](index_t i, int p) { return v.dv(i, p0 + p); });
    u.add_row_sums(xu, [&](int j, int p) { return v.x(j, p0 + p); });
    u.for_each([&](int j, int c, A value) {
      const index_t p = p0 + c;
      if (j >= count || p >= v.width) return;
      A dx = chunk.dt[j] * value;
      if (op.D) dx = multiply_add(op.D(v.h, p), v.dv(j, p), dx);
      op.dx(v.b, v.begin + j, v.h, p) = V(dx);
    });
    if (!op.z) continue;
    tile<A, 2> y;
    y.add(
        operands, v.states, along::depth, [&](int i, index_t n) { return v.C(i, n); }, along::depth,
        [&](index_t n, int p) { return v.state(p0 + p, n); });
    y.scale_rows(chunk.from_start);
    y.add(
        operands, count, along::depth,
        [&](int i, index_t j) { return decay[i][j] * cb[i][j] * chunk.dt[j]; }, along::other,
        [&](index_t j, int p) { return v.x(j, p0 + p); });
    y.for_each([&](int i, int c, A value) {
      const index_t p = p0 + c, t = v.begin + i;
      if (i >= count || p >= v.width) return;
      if (op.D) value = multiply_add(op.D(v.h, p), v.x(i, p), value);
      const A slope = activation_derivative(activation::silu, A(op.z(v.b, t, v.h, p)));
      op.dz(v.b, t, v.h, p) = V(A(op.dy(v.b, t, v.h, p)) * value * slope);
    });
  }

  for (index_t n0 = 0; n0 < v.states; n0 += tile<A, 4>::columns) {
    tile<A, 4> dB;
    dB.add(
        operands, v.width, along::depth,
        [&](int j, index_t p) { return chunk.to_end[j] * v.x(j, p); }, along::other,
        [&](index_t p, int n) { return v.adjoint(p, n0 + n); });
    dB.add(
        operands, count, along::other, [&](int j, index_t i) { return xv[i][j]; }, along::other,
        [&](index_t i, int n) { return v.C(i, n0 + n); });
    dB.for_each([&](int j, int n, A value) {
      if (j < count && n0 + n < v.states)
        plan.dB(v.b, v.begin + j, v.h, n0 + n) = chunk.dt[j] * value;
    });
    tile<A, 4> dC;
    dC.add(
        operands, v.width, along::depth, [&](int i, index_t p) { return v.dv(i, p); }, along::other,
        [&](index_t p, int n) { return v.state(p, n0 + n); });
    dC.scale_rows(chunk.from_start);
    dC.add_row_sums(from_before, [&](int i, int n) { return v.C(i, n0 + n); });
    dC.add(
        operands, count, along::depth, [&](int i, index_t j) { return xv[i][j] * chunk.dt[j]; },
        along::other, [&](index_t j, int n) { return v.B(j, n0 + n); });
    dC.for_each([&](int i, int n, A value) {
      if (i < count && n0 + n < v.states) plan.dC(v.b, v.begin + i, v.h, n0 + n) = value;
    });
  }

  // Paths through the whole chunk.
  A through = 0;
  const A whole = chunk.from_start[tokens - 1];
  if (whole != A(0)) {
    for (index_t e = thread; e < v.width * v.states; e += block_threads) {
      index_t p = e;
      const index_t n = take_index(p, v.states);
      through = multiply_add(v.state(p, n), v.adjoint(p, n), through);
    }
    through = whole * block_sum(through, shared);
  }
  __syncthreads();  // the sums of rows are there

  if (thread < warp_size) {  // one warp: a lane has a row i, then a column j
    A run = 0;
    for (int j = 0; j < tokens; ++j) {
      const A pair = cb[thread][j] * xv[thread][j] * chunk.dt[j];
      decay[thread][j] = run;  // now: the paths from before j to this i
      run += pair;
    }
    __syncwarp();
    A log_slope = through;
    for (int i = tokens - 1; i >= thread; --i) log_slope += decay[i][thread] + from_before[i];
    for (int j = 0; j < thread; ++j) log_slope = multiply_add(chunk.dt[j], to_after[j], log_slope);
    A dA = 0, ddt = 0;
    if (thread < count) {
      dA = chunk.dt[thread] * log_slope;
      ddt = (xu[thread] + op.A(v.h) * log_slope) * chunk.slope[thread];
      op.ddt(v.b, v.begin + thread, v.h) = V(ddt);
    }
    dA = warp_sum(dA), ddt = warp_sum(ddt);
    if (thread == 0) {
      plan.dA(v.b, v.c, v.h) = dA;
      plan.ddt_bias(v.b, v.c, v.h) = ddt;
    }
  }
  if (!op.dD) return;
  for (index_t p = thread; p < v.width; p += block_threads) {
    A sum = 0;
    for (int t = 0; t < count; ++t) sum = multiply_add(v.dv(t, p), v.x(t, p), sum);
    plan.dD(v.b, v.c, v.h, p) = sum;
  }
}

}  // namespace mlmamba::backend::kernels
