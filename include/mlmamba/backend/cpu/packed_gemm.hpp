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

/// Few rows of x times a part of w: tasks that read some of its strips each.
struct packed_tasks {
  simd::quantised_job job;  // of f32 and bf16 only job.out
  simd::gemm_job second;    // of f32 and bf16 the rest of the rows, if there are many
  void (*tile)(const simd::quantised_job&, index_t m0, index_t rows, index_t s0,
               index_t s1) = nullptr;                                       // 8 and 4 bits
  void (*stream)(const simd::gemm_job&, index_t n0, index_t n1) = nullptr;  // or f32 and bf16
  shrinking_runs runs;

  void operator()(index_t i) const {
    constexpr index_t strip = packed_rows::strip;
    const index_t from = runs.from(i), to = runs.from(i + 1);
    if (from == to) return;
    const index_t end = std::min(job.out.n, to * strip);
    if (tile) {
      tile(job, 0, job.height, from, to);
    } else if (second.m == 0) {
      stream(job.out, from * strip, end);
    } else {
      // Strip by strip: the second rows find it in the caches.
      simd::gemm_job jobs[] = {job.out, second};
      for (index_t n = from * strip; n < end; n += strip)
        for (simd::gemm_job& some : jobs)
          some.w_soon = end, stream(some, n, std::min(n + strip, end));
    }
  }
};
template <class Context>
shrinking_runs runs_of_strips(Context& ctx, const packed_rows& w) {
  return stream_runs(ctx, (w.rows() + packed_rows::strip - 1) / packed_rows::strip,
                     w.strip_bytes());
}

/// Leaves tasks, or does it all if x has many rows.
template <class W, class Context, class E, class Y>
void packed_by_gemm(Context& ctx, const ops::packed_gemm<E, Y>& op, const packed_rows& w,
                    packed_tasks& tasks) {
  using X = typename E::value;
  const simd::gemm_path& path = simd::cpu_kernels<simd::gemm_path_of<X, W>>();
  simd::gemm_job& job = tasks.job.out;
  gemm_operand(op.x, job.x, job.x_stride, job.x_rows);
  job.k = op.x.size[1];
  job.w = w.data();
  job.w_packed = true;
  job.w_strip_bytes = w.strip_bytes();
  const index_t most = path.max_stream_packed;
  if (!path.stream_packed || job.m > most * path.max_passes) {
    gemm_by_tiles(ctx, path, job, index_t(sizeof(X)), index_t(sizeof(Y)));
    return;
  }
  if (job.m > most) {
    const index_t first = (job.m / 2 + 3) / 4 * 4;
    simd::gemm_job& rest = tasks.second = job;
    job.m = first, rest.m -= first;
    rest.x = op.x.data + first * op.x.stride[0];
    rest.y = static_cast<Y*>(job.y) + first * job.y_stride;
    pack_for_stream(ctx, path, rest);
  }
  pack_for_stream(ctx, path, job);
  tasks.stream = path.stream_packed;
  tasks.runs = runs_of_strips(ctx, w);
}

/// Many rows of x, in 8 bits already: tasks take a strip of w through many blocks of rows.
template <class Context>
void tall_by_bytes(Context& ctx, const simd::quantised_way& way, const simd::quantised_job& job,
                   index_t blocks) {
  constexpr index_t most = 512 * 1024;  // bytes of x, which shall stay in the second cache
  const index_t strips = (job.out.n + packed_rows::strip - 1) / packed_rows::strip;
  const index_t fit = std::max<index_t>(8, most / std::max<index_t>(1, job.height * job.padded_k));
  index_t across = (blocks + fit - 1) / fit;
  // Enough tasks for threads to end together, but not so short that w comes from memory each time.
  while (strips * across < 4 * ctx.threads.size() && blocks / across > 16) ++across;
  const index_t rows = (blocks + across - 1) / across * job.height;
  // 4 bits that few blocks read are not worth to be written as 8.
  const bool unpack = way.always_unpack || (job.nibbles && rows > 6 * job.height);
  const index_t unpacked = !unpack ? 0 : job.nibbles ? 2 * job.strip_bytes : job.strip_bytes;
  const index_t tasks = strips * ((job.out.m + rows - 1) / rows);
  auto task = [&](index_t t, std::byte* spare) {
    const index_t m0 = t / strips * rows, s = t % strips;
    simd::quantised_job own = job;
    if (unpack) {
      way.unpack(job, s, spare);
      own.w = spare, own.first_strip = s, own.strip_bytes = unpacked, own.nibbles = false;
    }
    const index_t here = std::min(rows, job.out.m - m0);
    if (const index_t next = t + ctx.threads.size(); next < tasks)  // this thread's, about
      own.set_ahead(job.w + next % strips * job.strip_bytes, job.strip_bytes,
                    (here + job.height - 1) / job.height);
    way.tile(own, m0, here, s, s + 1);
  };
  if (double(job.out.m) * double(strips) * double(job.strip_bytes) < 65536) {
    const auto spare = ctx.scratch.template make<std::byte, 1>({{unpacked}});
    for (index_t t = 0; t < tasks; ++t) task(t, spare.data);
  } else {
    for_each_with_scratch<std::byte>(ctx, tasks, unpacked, task);
  }
}

template <class Context, class E, class Y>
void packed_by_bytes(Context& ctx, const ops::packed_gemm<E, Y>& op, const packed_rows& w,
                     packed_tasks& tasks) {
  using X = typename E::value;
  const auto& rounding = simd::cpu_kernels<simd::rounding_entries<X>>();
  const auto& kernels = simd::cpu_kernels<simd::quantised_entries>();
  simd::quantised_job& job = tasks.job;
  const index_t m = job.out.m, groups = w.groups(), k = w.padded_k();
  const bool few = m <= kernels.few.height;
  const simd::quantised_way& way = few                       ? kernels.few
                                   : m > kernels.tiles_above ? kernels.tiles
                                                             : kernels.tall;
  const index_t height = few ? kernels.few_height(m) : std::min(m, way.height);
  const index_t blocks = (m + height - 1) / height;
  const index_t unit = way.unit(w.group());
  const auto r = ctx.scratch.template make<std::int8_t, 2>({{blocks * height, k}});
  const auto scale = ctx.scratch.template make<float, 2>({{blocks * height, groups}});
  const auto start = ctx.scratch.template make<std::int32_t, 2>({{blocks * height, groups}});
  job.r = r.data, job.x_scale = scale.data, job.x_start = start.data;
  job.w = w.data(), job.w_scale = w.scales();
  job.height = height, job.unit = unit, job.padded_k = k, job.group = w.group(),
  job.groups = groups;
  job.strip_bytes = w.strip_bytes();
  job.nibbles = w.format().scheme == weight_scheme::int4;
  if (few && m < height) {
    std::fill_n(r.data, height * k, std::int8_t{0});
    std::fill_n(scale.data, height * groups, 0.0f);
    std::fill_n(start.data, height * groups, 0);
  }
  // Blocks whole: rows of one share lines of r.
  auto round = [&](index_t block) {
    constexpr index_t some = simd::rounding_entries<X>::at_once;
    const index_t there = std::min(height, m - block * height);
    for (index_t row = 0; row < there; row += some)
      rounding.rows(op.x.data + (block * height + row) * op.x.stride[0], op.x.stride[0],
                    std::min(some, there - row), w.columns(), w.group(), groups, w.offset(), height,
                    unit, r.data + block * height * k + row * unit,
                    scale.data + block * height * groups + row,
                    start.data + block * height * groups + row);
  };
  if (m * k < 65536) {
    for (index_t i = 0; i < blocks; ++i) round(i);
  } else {
    ctx.parallel_for(blocks, round);
  }
  if (few) {
    tasks.tile = way.tile;
    tasks.runs = runs_of_strips(ctx, w);
    return;
  }
  tall_by_bytes(ctx, way, job, blocks);
}

/// Rows [n0, n0 + w.rows()) of the product.
template <class Context, class E, class Y>
void packed_part(Context& ctx, const ops::packed_gemm<E, Y>& op, const packed_rows& w, index_t n0,
                 packed_tasks& tasks) {
  simd::gemm_job& job = tasks.job.out;
  job.m = op.x.size[0], job.n = w.rows();
  if (op.bias) job.bias = op.bias.data + n0;
  job.y = op.y.data + n0, job.y_stride = op.y.stride[0];
  job.activation = op.activation;
  job.results = &simd::cpu_kernels<simd::gemm_results_of<Y>>();
  if (job.m == 0 || job.n == 0) return;
  if (w.format().quantised()) {
    packed_by_bytes(ctx, op, w, tasks);
  } else if (w.format().scheme == weight_scheme::bf16) {
    packed_by_gemm<bf16>(ctx, op, w, tasks);
  } else {
    packed_by_gemm<float>(ctx, op, w, tasks);
  }
}

}  // namespace detail

template <class Isa, class E, class Y>
void execute(context<cpu_for<Isa>>& ctx, const ops::packed_gemm<E, Y>& op) {
  static_assert(std::is_same_v<typename E::accum, float>, "packed_gemm: accum is float");
  auto frame = ctx.scratch.make_frame();
  index_t n0 = 0;
  // Two parts at once, as matrices have: the second, smaller, is begun first.
  for (index_t i = 0; i < op.parts; i += 2) {
    detail::packed_tasks some[2];
    for (index_t j = 0; j < std::min<index_t>(2, op.parts - i); n0 += op.w[i + j++].rows())
      detail::packed_part(ctx, op, op.w[i + j], n0, some[j]);
    const index_t second = some[1].runs.count();
    ctx.parallel_for(second + some[0].runs.count(),
                     [&](index_t t) { t < second ? some[1](t) : some[0](t - second); });
  }
}

}  // namespace mlmamba::backend
