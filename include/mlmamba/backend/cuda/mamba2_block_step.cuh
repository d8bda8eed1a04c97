// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A Mamba-2 block for one token of few rows in three launches: norm, projection and convolution;
// the state; gated norm and projection. A small model's decoding is launches, not bytes.
#pragma once

#include <algorithm>

#include "mlmamba/backend/cuda/gemm_few_rows.cuh"
#include "mlmamba/backend/cuda/ssd_step.cuh"
#include "mlmamba/ops/mamba2_block_step.hpp"

namespace mlmamba::backend {

namespace kernels {

inline constexpr int block_step_threads = 128;
inline constexpr index_t block_step_rows = 2;  // of residual, at most

template <class E, class W>
struct block_step_plan {
  ops::mamba2_block_step<E, W> op;
  out<E, 2> z, xBC, dt, y;  // (B, d), (B, channels), (B, H), (B, d)
};

/// Rows of w times M vectors in shared memory, a warp per row: gemm_few_rows_kernel's sums.
/// `prepare` fills the vectors while the first row of each warp is on its way; `ready(n)` may read
/// ahead what `finish(n, m, sum)` needs, which one lane calls for each m.
template <int M, class T, class Prepare, class Ready, class Finish>
__device__ void rows_times_shared(const view<const T, 2, memory::device>& w, const T* shared,
                                  Prepare&& prepare, Ready&& ready, Finish&& finish) {
  constexpr int per = sixteen_bytes<T>::count, ahead = 4;
  const int pieces = int(w.size[1]) / per, lane = lane_index();
  const int rows = int(w.size[0]), warps = int(gridDim.x) * (block_step_threads / warp_size);
  int n = int(blockIdx.x) * (block_step_threads / warp_size) + warp_index();
  uint4 q[ahead];
  const auto fetch = [&](int row, int first) {
    const auto* from = reinterpret_cast<const uint4*>(w.data + row * w.stride[0]);
#pragma unroll
    for (int i = 0; i < ahead; ++i) {
      const int at = first + lane + i * warp_size;
      q[i] = at < pieces ? __ldcs(from + at) : uint4{};
    }
  };
  if (n < rows) fetch(n, 0);
  prepare();
  __syncthreads();
  const auto* x = reinterpret_cast<const uint4*>(shared);
  for (; n < rows; n += warps) {
    ready(n);
    float sum[M] = {};
    for (int first = 0; first < pieces; first += ahead * warp_size) {
      if (first > 0) fetch(n, first);
#pragma unroll
      for (int i = 0; i < ahead; ++i) {
        const int at = first + lane + i * warp_size;
        if (at >= pieces) break;
        const sixteen_bytes<T> a(q[i]);
#pragma unroll
        for (int m = 0; m < M; ++m) {
          const sixteen_bytes<T> b(x[m * pieces + at]);
#pragma unroll
          for (int k = 0; k < per; ++k) sum[m] = fmaf(a.v[k], b.v[k], sum[m]);
        }
      }
    }
    const int now = n;
    if (now + warps < rows) fetch(now + warps, 0);
#pragma unroll
    for (int m = 0; m < M; ++m) {
      const float v = warp_sum(sum[m]);
      if (lane == m) finish(now, m, v);
    }
  }
}

/// to = V(v rstd weight) for a group of v, which `read(i, out)` gives in pieces of `per`; rstd is
/// that of the group. All threads of the block.
template <class V, int Per, class Read>
__device__ void normalise_group(V* to, int from, int group, const float* weight, float epsilon,
                                float* parts, Read&& read) {
  constexpr int held = 6;  // pieces of a thread that stay in registers
  float v[held][Per], sum = 0;
  const int pieces = group / Per;
#pragma unroll
  for (int k = 0; k < held; ++k) {
    const int at = int(threadIdx.x) + k * block_step_threads;
    if (at >= pieces) break;
    read(from + at * Per, v[k]);
#pragma unroll
    for (int i = 0; i < Per; ++i) sum = fmaf(v[k][i], v[k][i], sum);
  }
  for (int at = int(threadIdx.x) + held * block_step_threads; at < pieces;
       at += block_step_threads) {
    float more[Per];
    read(from + at * Per, more);
#pragma unroll
    for (int i = 0; i < Per; ++i) sum = fmaf(more[i], more[i], sum);
  }
  const float rstd = rsqrtf(block_sum(sum, parts) / float(group) + epsilon);
  const auto put = [&](int at, const float(&x)[Per]) {
#pragma unroll
    for (int i = 0; i < Per; ++i)
      to[from + at * Per + i] = V(x[i] * rstd * weight[from + at * Per + i]);
  };
#pragma unroll
  for (int k = 0; k < held; ++k) {
    const int at = int(threadIdx.x) + k * block_step_threads;
    if (at >= pieces) break;
    put(at, v[k]);
  }
  for (int at = int(threadIdx.x) + held * block_step_threads; at < pieces;
       at += block_step_threads) {
    float more[Per];
    read(from + at * Per, more);
    put(at, more);
  }
}

template <class Rows, class E, class W>
__global__ void __launch_bounds__(block_step_threads)
    block_step_in_kernel(const block_step_plan<E, W> plan) {
  using V = typename E::value;
  constexpr int M = Rows::value, per = 4, taps = 4;
  extern __shared__ __align__(16) unsigned char bytes[];
  __shared__ float parts[warp_size];
  V* const u = reinterpret_cast<V*>(bytes);
  const auto& op = plan.op;
  const int width = int(op.residual.size[1]), d = int(plan.z.size[1]),
            channels = int(plan.xBC.size[1]), last = int(op.conv_weight.size[1]) - 1;
  float weight[taps] = {}, bias = 0;  // of the row's channel, for the usual width
  V window[taps - 1];
  rows_times_shared<M>(
      op.in_proj, u,
      [&] {
        wait_for_launch_before();
        for (int m = 0; m < M; ++m)
          normalise_group<V, per>(
              u + m * width, 0, width, op.norm_weight.data, float(op.epsilon), parts,
              [&](int i, float(&v)[per]) { read_piece(v, &op.residual(m, i)); });
      },
      [&](int n) {
        const int c = n - d, m = lane_index();
        if (c < 0 || c >= channels || last != taps - 1 || m >= M) return;
#pragma unroll
        for (int w = 0; w < taps; ++w) weight[w] = op.conv_weight(c, w);
#pragma unroll
        for (int w = 0; w + 1 < taps; ++w) window[w] = op.window(m, c, w);
        bias = op.conv_bias ? op.conv_bias(c) : 0.0f;
      },
      [&](int n, int m, float v) {
        if (n < d) {
          plan.z(m, n) = V(v);
        } else if (n < d + channels) {  // as causal_conv1d_step_kernel
          const int c = n - d;
          const V x = V(v);
          float sum;
          if (last == taps - 1) {
            sum = bias;
#pragma unroll
            for (int w = 0; w + 1 < taps; ++w) {
              sum = fmaf(weight[w], float(window[w]), sum);
              op.window(m, c, w) = w + 2 < taps ? window[w + 1 < taps - 1 ? w + 1 : w] : x;
            }
            sum = fmaf(weight[taps - 1], float(x), sum);
          } else {
            sum = op.conv_bias ? op.conv_bias(c) : 0.0f;
            for (int w = 0; w < last; ++w) {
              sum = fmaf(op.conv_weight(c, w), float(op.window(m, c, w)), sum);
              op.window(m, c, w) = w + 1 < last ? op.window(m, c, w + 1) : x;
            }
            sum = fmaf(op.conv_weight(c, last), float(x), sum);
          }
          plan.xBC(m, c) = V(apply_activation(activation::silu, sum));
        } else {
          plan.dt(m, n - d - channels) = V(v);
        }
      });
}

template <class Rows, class E, class W>
__global__ void __launch_bounds__(block_step_threads)
    block_step_out_kernel(const block_step_plan<E, W> plan) {
  using V = typename E::value;
  constexpr int M = Rows::value, per = 16 / int(sizeof(V));
  extern __shared__ __align__(16) unsigned char bytes[];
  __shared__ float parts[warp_size];
  V* const v = reinterpret_cast<V*>(bytes);
  const auto& op = plan.op;
  const int d = int(plan.z.size[1]), group = d / int(op.groups);
  float residual = 0;
  rows_times_shared<M>(
      op.out_proj, v,
      [&] {
        wait_for_launch_before();
        for (int m = 0; m < M; ++m)
          for (int from = 0; from < d; from += group)
            normalise_group<V, per>(v + m * d, from, group, op.gate_weight.data,
                                    float(op.gate_epsilon), parts, [&](int i, float(&x)[per]) {
                                      float z[per];
                                      read_piece(x, &plan.y(m, i)), read_piece(z, &plan.z(m, i));
#pragma unroll
                                      for (int k = 0; k < per; ++k) x[k] *= silu_as<V>(z[k]);
                                    });
      },
      [&](int n) {
        if (lane_index() < M) residual = op.residual(lane_index(), n);
      },
      [&](int n, int m, float sum) { op.residual(m, n) = residual + sum; });
}

}  // namespace kernels

/// For few rows, weights of the type of values, and rows of whole 16 bytes. Two rows of a wide
/// model are faster through the parts (2560 channels on an H100: 5.1 ms a step, not 4.5).
template <class E, class W>
bool prefers(const context<cuda>& ctx, const ops::mamba2_block_step<E, W>& op) {
  using V = typename E::value;
  if constexpr (std::is_same_v<V, W> && (std::is_same_v<V, float> || std::is_same_v<V, bf16>)) {
    const index_t per = 16 / index_t(sizeof(V)), b = op.residual.size[0];
    const index_t widest = std::max(op.residual.size[1], op.scanned());
    return !ctx.independent_rows && b >= 1 &&
           b <= (op.residual.size[1] <= 1024 ? kernels::block_step_rows : 1) &&
           op.residual.size[1] % per == 0 && (op.scanned() / op.groups) % per == 0 &&
           kernels::in_pieces(op.residual, 4) && b * widest * index_t(sizeof(V)) <= 47 * 1024 &&
           kernels::in_pieces(op.in_proj) && kernels::in_pieces(op.out_proj);
  } else {
    return false;
  }
}

template <class E, class W>
requires std::same_as<typename E::value, W>
void execute(context<cuda>& ctx, const ops::mamba2_block_step<E, W>& op) {
  using V = typename E::value;
  using namespace kernels;
  const index_t b = op.residual.size[0], d = op.scanned(), channels = op.channels(), h = op.heads(),
                p = op.state.size[2], gn = op.groups * op.state.size[3];
  if (!prefers(ctx, op))
    fail<shape_error>(op.name, ": residual is ", to_string(op.residual), " and in_proj ",
                      to_string(op.in_proj), "; what prefers() takes is wanted");
  auto frame = ctx.scratch.make_frame();
  const auto make = [&](index_t n) { return ctx.scratch.template make<V>(shape<2>{{b, n}}); };
  const block_step_plan<E, W> plan{op, make(d), make(channels), make(h), make(d)};
  const auto launch = [&](auto kernel, index_t rows, index_t width) {
    // Every block makes the vectors anew: where there are many rows, a warp has two of them.
    constexpr index_t warps = block_step_threads / warp_size;
    const index_t each = rows > 16 * warps * ctx.multiprocessors ? 2 : 1;
    launch_early(ctx, op.name, kernel, blocks_for(rows, warps * each), block_step_threads,
                 std::size_t(b * width) * sizeof(V), plan);
  };
  const auto for_rows = [&](auto&& f) { b == 1 ? f(constant<1>{}) : f(constant<2>{}); };
  for_rows([&](auto m) {
    launch(block_step_in_kernel<decltype(m), E, W>, op.in_proj.size[0], op.residual.size[1]);
  });
  const in<E, 2> v = plan.xBC;
  launch_ssd_step<constant<1>>(
      ctx, ops::ssd_step<E>{.state = op.state,
                            .x = v.slice(1, 0, d).split(1, p),
                            .dt = plan.dt,
                            .A = op.A_log,
                            .B = v.slice(1, d, gn).split(1, op.state.size[3]),
                            .C = v.slice(1, d + gn, gn).split(1, op.state.size[3]),
                            .D = op.D,
                            .dt_bias = op.dt_bias,
                            .y = plan.y.split(1, p),
                            .dt_softplus = true,
                            .dt_min = op.dt_min,
                            .dt_max = op.dt_max});
  for_rows(
      [&](auto m) { launch(block_step_out_kernel<decltype(m), E, W>, op.out_proj.size[0], d); });
}

}  // namespace mlmamba::backend
