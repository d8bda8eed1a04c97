// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Do products with prepared weights run at the speed of memory with few rows, and at that of the
// byte unit with many? `of read`: the time of reading the weights over ours. `of gemm`: the time of
// ops::gemm in float over ours. `of unit`: operations per second over those of dot products in
// registers (bytes for 8 and 4 bits, else multiply-adds), all in the same run. `of oneDNN`: the
// time of its product over ours, for 8 and 4 bits that of unsigned bytes with signed ones, which x
// is before (ours rounds x from float, too).
#include "ops/onednn.hpp"

namespace {

using namespace mlmamba;

/// The last rows and columns against the reference.
verify::difference check_corner(context<backend::cpu>& ctx, const ops::packed_gemm<cpu_f32>& op,
                                in<cpu_f32, 2> w, weight_format f) {
  run(ctx, op);
  const index_t m = std::min<index_t>(op.y.size[0], 3), n = std::min<index_t>(op.y.size[1], 40);
  const index_t m0 = op.y.size[0] - m, n0 = op.y.size[1] - n;
  const packed_rows part(w.slice(0, n0, n), f);
  tensor<float, 2> want({m, n}), got({m, n});
  context<backend::reference> plain;
  using R = reference_f32;
  run(plain, ops::packed_gemm<R>{.x = op.x.slice(0, m0, m), .w = &part, .y = want});
  run(plain, ops::copy<backend::reference, float, float, 2>{
                 .x = in<R, 2>(op.y).slice(0, m0, m).slice(1, n0, n), .y = got});
  return verify::compare_arrays({{"y", verify::detail::read(got)}},
                                {{"y", verify::detail::read(want)}},
                                verify::tolerance<cpu_f32>(double(op.x.size[1])));
}

/// Arguments: M, N, K, threads.
template <weight_scheme scheme, index_t group>
void packed_gemm(benchmark::State& state) {
  const index_t m = state.range(0), n = state.range(1), k = state.range(2);
  context<backend::cpu> ctx(cpu_options{int(state.range(3))});
  tensor<float, 2> x({m, k}), w({n, k}), y({m, n}), z({m, n});
  bench::fill_normal(x, 1);
  bench::fill_normal(w, 2);
  const weight_format format{scheme, group};
  const packed_rows p(w.view(), format);
  const ops::packed_gemm<cpu_f32> op{.x = x, .w = &p, .y = y};
  const auto check = bench::once(state, 4, [&] { return check_corner(ctx, op, w, format); });
  bench::read_probe probe;
  const index_t strips = (n + packed_rows::strip - 1) / packed_rows::strip;
  auto read = [&] {
    probe(ctx, p.data(), strips * p.strip_bytes());
    if (p.groups())
      probe(ctx, reinterpret_cast<const std::byte*>(p.scales()),
            strips * packed_rows::strip * p.groups() * 2);
  };
  tensor<std::uint8_t, 2> xb({format.quantised() ? m : 0, k});
  tensor<std::int8_t, 2> wb({format.quantised() ? n : 0, k});
  for (index_t i = 0; i < xb.count(); ++i) xb.data()[i] = std::uint8_t(i * 7919 >> 5);
  for (index_t i = 0; i < wb.count(); ++i) wb.data()[i] = std::int8_t(i * 7919 >> 4);
  bench::onednn rival = format.quantised()
                            ? bench::onednn(xb.data(), wb.data(), m, n, k, state.range(3))
                            : bench::onednn(x.data(), w.data(), m, n, k, state.range(3));
  auto gemm = [&] { run(ctx, ops::gemm<cpu_f32>{.x = x, .w = w, .y = z}); };
  bench::times rate;
  for (int i = 0; i < 5; ++i)
    rate.add(format.quantised() ? bench::byte_probe(ctx) : bench::compute_probe<float>(ctx));
  bench::time(state, ctx, op, check, bench::against("read", read), bench::against("gemm", gemm),
              bench::against("oneDNN", [&] { rival.packed(); }));
  for (int i = 0; i < 5; ++i)
    rate.add(format.quantised() ? bench::byte_probe(ctx) : bench::compute_probe<float>(ctx));
  if (rate.median() > 0)
    state.counters["of unit"] = double(state.counters["GFLOP/s"]) * 1e9 / rate.median();
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"M", "N", "K", "threads"})->Unit(benchmark::kMillisecond)->UseManualTime();
  for (int threads : {1, 2}) {
    b->Args({512, 3352, 768, threads});    // in_proj of a 130m model, 512 tokens
    b->Args({512, 10576, 2560, threads});  // of a 2.7b model
    b->Args({1, 42304, 2560, threads});    // one token, from memory
    for (int texts : {3, 7, 8, 16}) b->Args({texts, 42304, 2560, threads});  // so many at once
  }
}

constexpr auto f32 = weight_scheme::f32, int8 = weight_scheme::int8, int4 = weight_scheme::int4;
BENCHMARK_TEMPLATE(packed_gemm, f32, 0)->Apply(shapes);
BENCHMARK_TEMPLATE(packed_gemm, mlmamba::weight_scheme::bf16, 0)->Apply(shapes);
BENCHMARK_TEMPLATE(packed_gemm, int8, 0)->Apply(shapes);
BENCHMARK_TEMPLATE(packed_gemm, int8, 64)->Apply(shapes);
BENCHMARK_TEMPLATE(packed_gemm, int4, 64)->Apply(shapes);
BENCHMARK_TEMPLATE(packed_gemm, int4, 32)->Apply(shapes);

}  // namespace

int main(int argc, char** argv) { return bench::main_beside_openmp(argc, argv); }
