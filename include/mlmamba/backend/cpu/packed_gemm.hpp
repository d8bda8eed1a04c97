// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Matrix product with prepared weights on the CPU: f32 and bf16 by the kernels of ops::gemm, 8 and
// 4 bits by dot products of bytes.
#pragma once

#include "mlmamba/backend/cpu/gemm.hpp"
#include "mlmamba/ops/packed_gemm.hpp"

namespace mlmamba::backend {

namespace detail {

template <class W, class Context, class E, class Y>
void packed_by_gemm(Context& ctx, const ops::packed_gemm<E, Y>& op, simd::gemm_job& job) {
  using X = typename E::value;
  const simd::gemm_path& path = simd::cpu_kernels<simd::gemm_path_of<X, W>>();
  gemm_operand(op.x, job.x, job.x_stride, job.x_rows);
  job.k = op.x.size[1];
  job.w = op.w->data();
  job.w_packed = true;
  job.w_strip_bytes = op.w->strip_bytes();
  if (path.stream_packed && job.m <= path.max_stream) {
    gemm_by_stream(ctx, path, job, index_t(sizeof(W)));
  } else {
    gemm_by_tiles(ctx, path, job, index_t(sizeof(X)), index_t(sizeof(Y)));
  }
}

template <class Context, class E, class Y>
void packed_by_bytes(Context& ctx, const ops::packed_gemm<E, Y>& op, const simd::gemm_job& out) {
  using X = typename E::value;
  const packed_rows& w = *op.w;
  const auto& rounding = simd::cpu_kernels<simd::rounding_entries<X>>();
  const auto& kernels = simd::cpu_kernels<simd::quantised_entries>();
  const index_t m = out.m, groups = w.groups(), k = w.padded_k();
  const index_t height = std::min(m, kernels.max_rows), blocks = (m + height - 1) / height;
  const auto r = ctx.scratch.template make<std::int8_t, 2>({{blocks * height, k}});
  const auto scale = ctx.scratch.template make<float, 2>({{blocks * height, groups}});
  const auto start = ctx.scratch.template make<std::int32_t, 2>({{blocks * height, groups}});
  simd::quantised_job job;
  job.r = r.data, job.x_scale = scale.data, job.x_start = start.data;
  job.w = w.data(), job.w_scale = w.scales();
  job.height = height, job.padded_k = k, job.group = w.group(), job.groups = groups;
  job.strip_bytes = w.strip_bytes();
  job.nibbles = w.format().scheme == weight_scheme::int4;
  job.out = out;
  auto round = [&](index_t i) {
    const index_t block = i / height * height, row = i % height;
    rounding.row(op.x.data + i * op.x.stride[0], w.columns(), w.group(), groups, w.offset(), height,
                 r.data + block * k + row * 4, scale.data + block * groups + row,
                 start.data + block * groups + row);
  };
  if (m * k < 65536) {
    for (index_t i = 0; i < m; ++i) round(i);
  } else {
    ctx.parallel_for(m, round);
  }
  // A task reads some strips, or takes one through up to 504 rows of x.
  const index_t strips = (w.rows() + packed_rows::strip - 1) / packed_rows::strip;
  const index_t bytes = std::max<index_t>(1, w.strip_bytes());
  const bool few = m <= kernels.max_rows;
  const index_t step =
      few ? std::max<index_t>(1, bytes_of_stream_task(ctx, strips * bytes) / bytes) : 1;
  const index_t rows = few ? m : 504;
  const index_t across = (strips + step - 1) / step, down = (m + rows - 1) / rows;
  auto task = [&](index_t t) {
    const index_t m0 = t / across * rows, s0 = t % across * step;
    kernels.tile(job, m0, std::min(rows, m - m0), s0, std::min(strips, s0 + step));
  };
  if (double(m) * double(strips) * double(bytes) < 65536) {
    for (index_t t = 0; t < across * down; ++t) task(t);
  } else {
    ctx.parallel_for(across * down, task);
  }
}

}  // namespace detail

template <class Isa, class E, class Y>
void execute(context<cpu_for<Isa>>& ctx, const ops::packed_gemm<E, Y>& op) {
  static_assert(std::is_same_v<typename E::accum, float>, "packed_gemm: accum is float");
  simd::gemm_job job;
  job.m = op.x.size[0];
  job.n = op.w->rows();
  if (job.m == 0 || job.n == 0) return;
  job.bias = op.bias.data;
  job.y = op.y.data;
  job.y_stride = op.y.stride[0];
  job.activation = op.activation;
  job.results = &simd::cpu_kernels<simd::gemm_results_of<Y>>();
  auto frame = ctx.scratch.make_frame();
  if (op.w->format().quantised()) {
    detail::packed_by_bytes(ctx, op, job);
  } else if (op.w->format().scheme == weight_scheme::bf16) {
    detail::packed_by_gemm<bf16>(ctx, op, job);
  } else {
    detail::packed_by_gemm<float>(ctx, op, job);
  }
}

}  // namespace mlmamba::backend
