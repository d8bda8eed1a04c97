// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Matrix product on the CPU: packing and tiles of columns, spread over threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>

#include "mlmamba/backend/cpu/simd/dispatch.hpp"
#include "mlmamba/backend/cpu/workers.hpp"
#include "mlmamba/ops/gemm.hpp"

namespace mlmamba::backend {

namespace detail {

/// Rows (k contiguous) or columns contiguous, and the stride of the other axis.
template <class T>
void gemm_operand(const view<T, 2>& v, const void*& data, index_t& stride, bool& rows) {
  data = v.data;
  rows = v.stride[1] == 1 || v.size[1] <= 1;
  stride = rows ? v.stride[0] : v.stride[1];
}

/// Where reading w is the work: runs of its units (columns, of so many bytes). Behind its own a
/// task has begun to fetch the next ones, which may be another thread's: 4 KiB shall be little of
/// it.
template <class Context>
shrinking_runs stream_runs(Context& ctx, index_t units, index_t unit_bytes) {
  constexpr index_t least = 32768;
  const index_t each = std::max<index_t>(1, unit_bytes);
  return {units, ctx.threads.size(), (least + each - 1) / each};
}

/// Packs few rows of x for `stream` and `stream_packed`.
template <class Context>
void pack_for_stream(Context& ctx, const simd::gemm_path& path, simd::gemm_job& job) {
  job.height = path.stream_height(job.m);
  const index_t bytes = job.height * path.units(job.k) * path.stream_unit_bytes;
  job.packed = ctx.scratch.template make<std::byte, 1>(shape<1>{{bytes}}).data;
  path.pack_stream ? path.pack_stream(job) : path.pack_x(job, 0);
}

/// Few rows of x: w is the work, and is read once.
template <class Context>
void gemm_by_stream(Context& ctx, const simd::gemm_path& path, simd::gemm_job& job,
                    index_t w_bytes) {
  constexpr index_t unit = 32;  // columns: whole vectors or tiles
  pack_for_stream(ctx, path, job);
  const shrinking_runs runs = stream_runs(ctx, (job.n + unit - 1) / unit, unit * job.k * w_bytes);
  ctx.parallel_for(runs.count(), [&](index_t i) {
    const index_t from = runs.from(i) * unit, to = std::min(job.n, runs.from(i + 1) * unit);
    if (from < to) path.stream(job, from, to);
  });
}

/// All rows of x are packed, then tiles of (rows, columns) pack their columns of w block by block.
template <class Context>
void gemm_by_tiles(Context& ctx, const simd::gemm_path& path, const simd::gemm_job& whole,
                   index_t x_bytes, index_t y_bytes) {
  constexpr index_t most_rows = 1024;                // w is packed anew for so many rows of x
  constexpr index_t most_packed = index_t{1} << 26;  // 64 MiB of packed x
  const index_t row_bytes = std::max<index_t>(1, path.units(whole.k) * path.unit_bytes);
  const index_t chunk = std::min(most_rows, std::max(path.max_height, most_packed / row_bytes));
  const bool serial = double(whole.m) * double(whole.n) * double(whole.k) < 1e5;
  for (index_t from = 0; from < whole.m; from += chunk) {
    auto frame = ctx.scratch.make_frame();
    simd::gemm_job job = whole;
    job.m = std::min(chunk, whole.m - from);
    job.x = static_cast<const std::byte*>(whole.x) +
            from * (whole.x_rows ? whole.x_stride : 1) * x_bytes;
    job.y = static_cast<std::byte*>(whole.y) + from * whole.y_stride * y_bytes;
    if (whole.pre_activation)
      job.pre_activation =
          static_cast<std::byte*>(whole.pre_activation) + from * whole.pre_stride * y_bytes;
    job.height = path.height(job.m);
    const index_t panels = (job.m + job.height - 1) / job.height;

    // Tiles of 4 strips of columns; fewer columns or rows if that leaves too few tiles.
    index_t columns = 4 * path.width, rows = panels;
    auto tiles = [&] { return ((job.n + columns - 1) / columns) * ((panels + rows - 1) / rows); };
    while (tiles() < 16 && columns > path.width) columns /= 2;
    while (tiles() < 16 && rows > 8) rows = (rows + 1) / 2;
    const index_t across = (job.n + columns - 1) / columns;
    const index_t workers = serial ? 1 : std::min<index_t>(ctx.threads.size(), tiles());
    const index_t scratch = (path.packed_w_bytes(columns) +
                             path.sums_bytes(rows * job.height, job.height, columns) + 4095) /
                            4096 * 4096;
    auto bytes = [&](index_t n) {
      return ctx.scratch.template make<std::byte, 1>(shape<1>{{n}}).data;
    };
    job.packed = bytes(path.packed_bytes(job.m, job.k, job.height));
    std::byte* spare = bytes(workers * scratch);

    auto pack = [&](index_t p) { path.pack_x(job, p); };
    if (serial) {
      for (index_t p = 0; p < panels; ++p) pack(p);
    } else {
      ctx.parallel_for(panels, pack);
    }
    std::atomic<index_t> next{0};
    ctx.parallel_for(workers, [&](index_t worker) {
      for (index_t t; (t = next.fetch_add(1, std::memory_order_relaxed)) < tiles();) {
        const index_t p0 = t / across * rows, n0 = t % across * columns;
        path.columns(job, p0, std::min(panels, p0 + rows), n0, std::min(job.n, n0 + columns),
                     spare + worker * scratch);
      }
    });
  }
}

}  // namespace detail

template <class Isa, class E, class Y, class W, class X>
void execute(context<cpu_for<Isa>>& ctx, const ops::gemm<E, Y, W, X>& op) {
  const simd::gemm_path& path = simd::cpu_kernels<simd::gemm_path_of<X, W>>();
  simd::gemm_job job;
  detail::gemm_operand(op.x, job.x, job.x_stride, job.x_rows);
  detail::gemm_operand(op.w, job.w, job.w_stride, job.w_rows);
  job.m = op.x.size[0];
  job.n = op.w.size[0];
  job.k = op.x.size[1];
  if (job.m == 0 || job.n == 0) return;
  job.bias = op.bias.data;
  job.y = op.y.data;
  job.pre_activation = op.pre_activation.data;
  job.y_stride = op.y.stride[0];
  job.pre_stride = op.pre_activation.stride[0];
  job.activation = op.activation;
  job.accumulate = op.accumulate;
  job.results = &simd::cpu_kernels<simd::gemm_results_of<Y>>();
  auto frame = ctx.scratch.make_frame();
  if (path.stream && job.w_rows && job.m <= path.max_stream) {
    detail::gemm_by_stream(ctx, path, job, index_t(sizeof(W)));
  } else {
    detail::gemm_by_tiles(ctx, path, job, index_t(sizeof(X)), index_t(sizeof(Y)));
  }
}

}  // namespace mlmamba::backend
