// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A Mamba-2 block for one token. A small one is one launch (mamba2_block_step_small.cuh). Few rows
// are three: norm, projection and convolution; the state; gated norm and projection. So are up to
// 16 rows of bf16, on tensor cores (mamba2_block_step_tiles.cuh). More are six, with the products
// of cuBLASLt.
#pragma once

#include <algorithm>

#include "mlmamba/backend/cuda/causal_conv1d.cuh"
#include "mlmamba/backend/cuda/gated_norm.cuh"
#include "mlmamba/backend/cuda/gemm.cuh"
#include "mlmamba/backend/cuda/mamba2_block_step_small.cuh"
#include "mlmamba/backend/cuda/mamba2_block_step_tiles.cuh"
#include "mlmamba/backend/cuda/norm.cuh"
#include "mlmamba/backend/cuda/weight_stream.cuh"

namespace mlmamba::backend {

namespace kernels {

inline constexpr index_t block_step_rows = 4;  // of residual, at most

template <class E, class W>
struct block_step_plan {
  ops::mamba2_block_step<E, W> op;
  out<E, 2> z, xBC, dt, y;  // (B, d), (B, channels), (B, H), (B, d)
};

/// to = V(v rstd weight) for a group of v, which `read(i, out)` gives in pieces of `per`; rstd is
/// that of the group. All threads of the block.
template <class V, int Per, class Read>
__device__ void normalise_group(V* to, int from, int group, const float* weight, float epsilon,
                                float* parts, Read&& read) {
  constexpr int held = 3, threads = stream_threads;  // pieces of a thread that stay in registers
  float v[held][Per], w[held][Per], sum = 0;
  const int pieces = group / Per;
#pragma unroll
  for (int k = 0; k < held; ++k) {
    const int at = int(threadIdx.x) + k * threads;
    if (at < pieces) read(from + at * Per, v[k]), read_piece(w[k], weight + from + at * Per);
  }
#pragma unroll
  for (int k = 0; k < held; ++k) {
    if (int(threadIdx.x) + k * threads >= pieces) break;
#pragma unroll
    for (int i = 0; i < Per; ++i) sum = fmaf(v[k][i], v[k][i], sum);
  }
  for (int at = int(threadIdx.x) + held * threads; at < pieces; at += threads) {
    float more[Per];
    read(from + at * Per, more);
#pragma unroll
    for (int i = 0; i < Per; ++i) sum = fmaf(more[i], more[i], sum);
  }
  const float rstd = rsqrtf(block_sum(sum, parts) / float(group) + epsilon);
  const auto put = [&](int at, const float(&x)[Per], const float(&w)[Per]) {
    float y[Per];
#pragma unroll
    for (int i = 0; i < Per; ++i) y[i] = x[i] * rstd * w[i];
    write_piece(to + from + at * Per, y);
  };
#pragma unroll
  for (int k = 0; k < held; ++k) {
    const int at = int(threadIdx.x) + k * threads;
    if (at < pieces) put(at, v[k], w[k]);
  }
  for (int at = int(threadIdx.x) + held * threads; at < pieces; at += threads) {
    float more[Per], weights[Per];
    read(from + at * Per, more), read_piece(weights, weight + from + at * Per);
    put(at, more, weights);
  }
}

template <class Rows, class E, class W>
__global__ void __launch_bounds__(stream_threads)
    block_step_in_kernel(const block_step_plan<E, W> plan) {
  using V = typename E::value;
  constexpr int M = Rows::value, per = 4, taps = 4;
  extern __shared__ __align__(16) unsigned char bytes[];
  __shared__ float parts[warp_size];
  V* const u = reinterpret_cast<V*>(bytes);
  const auto& op = plan.op;
  const int width = int(op.residual.size[1]), d = int(plan.z.size[1]),
            channels = int(plan.xBC.size[1]), last = int(op.conv_weight.size[1]) - 1;
  float weight[taps], bias;  // of the row's channel, for the usual width
  V window[M][taps - 1];
  const auto usual = [&](int n) { return n >= d && n < d + channels && last == taps - 1; };
  rows_times_shared<M>(
      op.in_proj, u,
      [&](int n) {
        prefetch_all(op.norm_weight.data, width);
        if (!usual(n)) return;
        const int c = n - d;
#pragma unroll
        for (int w = 0; w < taps; ++w) weight[w] = op.conv_weight(c, w);
        bias = op.conv_bias ? op.conv_bias(c) : 0.0f;
      },
      [&] {
        wait_for_launch_before();
        for (int m = 0; m < M; ++m)
          normalise_group<V, per>(
              u + m * width, 0, width, op.norm_weight.data, float(op.epsilon), parts,
              [&](int i, float(&v)[per]) { read_piece(v, &op.residual(m, i)); });
      },
      [&](int n) {
        if (!usual(n)) return;
#pragma unroll
        for (int m = 0; m < M; ++m)
#pragma unroll
          for (int w = 0; w + 1 < taps; ++w) window[m][w] = op.window(m, n - d, w);
      },
      [&](int n, const float(&sums)[M]) {
#pragma unroll
        for (int m = 0; m < M; ++m) {
          const V x = V(sums[m]);
          const int c = n - d;
          if (n < d) {
            plan.z(m, n) = x;
          } else if (n >= d + channels) {
            plan.dt(m, c - channels) = x;
          } else {  // as causal_conv1d_step
            float sum;
            if (usual(n)) {
              sum = block_step_convolution(op.window, m, c, weight, bias, window[m], x);
            } else {
              sum = op.conv_bias ? op.conv_bias(c) : 0.0f;
              for (int w = 0; w < last; ++w) {
                sum = fmaf(op.conv_weight(c, w), float(op.window(m, c, w)), sum);
                op.window(m, c, w) = w + 1 < last ? op.window(m, c, w + 1) : x;
              }
              sum = fmaf(op.conv_weight(c, last), float(x), sum);
            }
            plan.xBC(m, c) = V(silu_as<V>(sum));
          }
        }
      });
}

template <class Rows, class E, class W>
__global__ void __launch_bounds__(stream_threads)
    block_step_out_kernel(const block_step_plan<E, W> plan) {
  using V = typename E::value;
  constexpr int M = Rows::value, per = 16 / int(sizeof(V));
  extern __shared__ __align__(16) unsigned char bytes[];
  __shared__ float parts[warp_size];
  V* const v = reinterpret_cast<V*>(bytes);
  const auto& op = plan.op;
  const int d = int(plan.z.size[1]), group = d / int(op.groups);
  float residual[M];
  rows_times_shared<M>(
      op.out_proj, v, [&](int) { prefetch_all(op.gate_weight.data, d); },
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
#pragma unroll
        for (int m = 0; m < M; ++m) residual[m] = op.residual(m, n);
      },
      [&](int n, const float(&sums)[M]) {
#pragma unroll
        for (int m = 0; m < M; ++m) op.residual(m, n) = residual[m] + sums[m];
      });
}

/// Few rows of whole 16 bytes are done in three launches.
template <class E, class W>
bool block_step_in_three(const ops::mamba2_block_step<E, W>& op) {
  using V = typename E::value;
  const index_t per = 16 / index_t(sizeof(V)), b = op.residual.size[0];
  const index_t widest = std::max(op.residual.size[1], op.scanned());
  return b <= block_step_rows && op.residual.size[1] % per == 0 &&
         (op.scanned() / op.groups) % per == 0 && in_pieces(op.residual, 4) &&
         b * widest * index_t(sizeof(V)) <= 47 * 1024 && in_pieces(op.in_proj) &&
         in_pieces(op.out_proj) && in_pieces(op.norm_weight, 4) && in_pieces(op.gate_weight, 4);
}

/// More rows: products of the library, and the rates and the sum inside of other launches.
template <class E, class W>
void run_block_step_parts(context<cuda>& ctx, const ops::mamba2_block_step<E, W>& op) {
  using A = typename E::accum;
  const index_t b = op.residual.size[0], d = op.scanned(), channels = op.channels();
  auto frame = ctx.scratch.make_frame();
  const auto make = [&](index_t n) -> out<E, 2> { return ctx.template make<E, 2>({{b, n}}); };
  const out<E, 2> u = make(op.residual.size[1]), p = make(op.in_proj.size[0]), v = make(channels),
                  y = make(d), normed = make(d);
  run(ctx, ops::rms_norm<E, A>{
               .x = op.residual, .weight = op.norm_weight, .y = u, .epsilon = op.epsilon});
  run(ctx, ops::gemm<E, typename E::value, W>{.x = u, .w = op.in_proj, .y = p});
  run(ctx, ops::causal_conv1d_step<E>{.x = p.slice(1, d, channels),
                                      .state = op.window,
                                      .weight = op.conv_weight,
                                      .bias = op.conv_bias,
                                      .y = v});
  launch_ssd_step<constant<1>>(ctx,
                               block_step_state(op, v, p.slice(1, d + channels, op.heads()), y));
  run(ctx, ops::gated_rms_norm<E>{.x = y,
                                  .z = p.slice(1, 0, d),
                                  .weight = op.gate_weight,
                                  .y = normed,
                                  .group_size = d / op.groups,
                                  .epsilon = op.gate_epsilon});
  run(ctx, ops::gemm<E, A, W>{.x = normed, .w = op.out_proj, .y = op.residual, .accumulate = true});
}

}  // namespace kernels

/// For weights of the type of values.
template <class E, class W>
bool prefers(const context<cuda>& ctx, const ops::mamba2_block_step<E, W>& op) {
  using V = typename E::value;
  if constexpr (std::is_same_v<V, W> && (std::is_same_v<V, float> || is_16_bit<V>)) {
    return !ctx.independent_rows && op.residual.size[0] >= 1;
  } else {
    return false;
  }
}

template <class E, class W>
requires std::same_as<typename E::value, W>
void execute(context<cuda>& ctx, const ops::mamba2_block_step<E, W>& op) {
  using V = typename E::value;
  using namespace kernels;
  if (!prefers(ctx, op))
    fail<shape_error>(op.name, ": residual is ", to_string(op.residual), " and in_proj ",
                      to_string(op.in_proj), "; what prefers() takes is wanted");
  if constexpr (is_16_bit<V>)
    if (block_step_is_small(op)) return run_block_step_small(ctx, op);
  if constexpr (std::is_same_v<V, bf16>)
    if (block_step_in_tiles(ctx, op)) return run_block_step_tiles(ctx, op);
  if (!block_step_in_three(op)) return run_block_step_parts(ctx, op);
  const index_t b = op.residual.size[0], d = op.scanned(), channels = op.channels(), h = op.heads();
  auto frame = ctx.scratch.make_frame();
  const auto make = [&](index_t n) { return ctx.scratch.template make<V>(shape<2>{{b, n}}); };
  const block_step_plan<E, W> plan{op, make(d), make(channels), make(h), make(d)};
  const auto launch = [&](auto kernel, index_t rows, index_t bytes) {
    cuda_check(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes)),
        op.name);
    const index_t blocks = (rows + stream_warps - 1) / stream_warps;
    launch_early(ctx, op.name, kernel, unsigned(std::min<index_t>(blocks, ctx.multiprocessors)),
                 stream_threads, std::size_t(bytes), plan);
  };
  const auto launch_all = [&](auto rows) {
    using Rows = decltype(rows);
    const index_t bytes_of_element = b * index_t(sizeof(V));
    launch(block_step_in_kernel<Rows, E, W>, op.in_proj.size[0],
           op.residual.size[1] * bytes_of_element + stream_bytes);
    launch_ssd_step<constant<1>>(ctx, block_step_state<E, W>(op, plan.xBC, plan.dt, plan.y));
    launch(block_step_out_kernel<Rows, E, W>, op.out_proj.size[0],
           d * bytes_of_element + stream_bytes);
  };
  switch (b) {
    case 1:
      return launch_all(constant<1>{});
    case 2:
      return launch_all(constant<2>{});
    case 3:
      return launch_all(constant<3>{});
    default:
      return launch_all(constant<4>{});
  }
}

}  // namespace mlmamba::backend
