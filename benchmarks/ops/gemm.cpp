// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// How far is the matrix product from oneDNN and from Eigen, and does a product with one row run at
// the speed of memory? `of oneDNN` and `of Eigen` are their time over ours, `of read` the time of
// reading w over ours, all in the same run.
#include "harness.hpp"
#include "ops/onednn.hpp"

#if defined(MLMAMBA_BENCH_EIGEN)
#include <Eigen/Core>
#endif

namespace {

using namespace mlmamba;

/// The last rows and columns of a product against the reference: all of it would take minutes.
template <class E, class W>
verify::difference check_corner(context_of<E>& ctx, const ops::gemm<E, typename E::value, W>& op) {
  run(ctx, op);
  using V = typename E::value;
  const index_t m = std::min<index_t>(op.y.size[0], 3), n = std::min<index_t>(op.y.size[1], 40);
  const index_t m0 = op.y.size[0] - m, n0 = op.y.size[1] - n;
  tensor<double, 2> x({m, op.x.size[1]}), w({n, op.x.size[1]}), want({m, n});
  tensor<V, 2> got({m, n});
  context<backend::reference> plain;
  using B = backend::reference;
  constexpr int r = 2;
  run(plain, ops::copy<B, double, V, r>{.x = op.x.slice(0, m0, m), .y = x});
  run(plain, ops::copy<B, double, W, r>{.x = op.w.slice(0, n0, n), .y = w});
  run(plain, ops::copy<B, V, V, r>{.x = op.y.slice(0, m0, m).slice(1, n0, n), .y = got});
  run(plain, ops::gemm<exact>{.x = x, .w = w, .y = want});
  return verify::compare_arrays({{"y", verify::detail::read(got)}},
                                {{"y", verify::detail::read(want)}},
                                verify::tolerance<E>(double(op.x.size[1])));
}

/// Arguments: M, N, K, threads.
template <class E>
void gemm(benchmark::State& state) {
  using V = typename E::value;
  const index_t m = state.range(0), n = state.range(1), k = state.range(2);
  context_of<E> ctx(cpu_options{int(state.range(3))});
  tensor<V, 2> x({m, k}), w({n, k}), y({m, n});
  bench::fill_normal(x, 1);
  bench::fill_normal(w, 2);
  const ops::gemm<E> op{.x = x, .w = w, .y = y};
  const auto check = bench::once(state, 4, [&] { return check_corner<E, V>(ctx, op); });
  // Reading w is the least that a product with few rows can do.
  bench::read_probe probe;
  auto read = [&] { probe(ctx, reinterpret_cast<const std::byte*>(w.data()), index_t(w.bytes())); };
  bench::onednn rival(x.data(), w.data(), m, n, k, state.range(3));
  auto plain = [&] { rival.plain(); };
  auto packed = [&] { rival.packed(); };
#if defined(MLMAMBA_BENCH_EIGEN)
  if constexpr (std::is_same_v<V, float>) {
    using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    matrix out(m, n);
    Eigen::setNbThreads(int(state.range(3)));
    auto eigen = [&] {
      out.noalias() = Eigen::Map<const matrix>(x.data(), m, k) *
                      Eigen::Map<const matrix>(w.data(), n, k).transpose();
    };
    bench::time(state, ctx, op, check, bench::against("read", read),
                bench::against("oneDNN", plain), bench::against("oneDNN packed", packed),
                bench::against("Eigen", eigen));
    return;
  }
#endif
  bench::time(state, ctx, op, check, bench::against("read", read), bench::against("oneDNN", plain),
              bench::against("oneDNN packed", packed));
}

/// Float x bf16 weights as stored, as programs have them with `--weights bf16`. `of float`: the
/// time with w in float over ours. The same arguments.
void gemm_f32_by_bf16(benchmark::State& state) {
  using E = cpu_f32;
  const index_t m = state.range(0), n = state.range(1), k = state.range(2);
  context_of<E> ctx(cpu_options{int(state.range(3))});
  tensor<float, 2> x({m, k}), wide({n, k}), y({m, n});
  tensor<bf16, 2> w({n, k});
  bench::fill_normal(x, 1);
  bench::fill_normal(w, 2);
  bench::fill_normal(wide, 2);
  const ops::gemm<E, float, bf16> op{.x = x, .w = w, .y = y};
  const auto check = bench::once(state, 4, [&] { return check_corner<E, bf16>(ctx, op); });
  bench::read_probe probe;
  bench::time(
      state, ctx, op, check,
      bench::against(
          "read",
          [&] { probe(ctx, reinterpret_cast<const std::byte*>(w.data()), index_t(w.bytes())); }),
      bench::against("float", [&] { run(ctx, ops::gemm<E>{.x = x, .w = wide, .y = y}); }));
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"M", "N", "K", "threads"})->Unit(benchmark::kMillisecond)->UseManualTime();
  for (int threads : {1, 2}) {
    b->Args({512, 10576, 2560, threads});  // in_proj of a 2.7b model, 512 tokens
    b->Args({729, 4304, 1152, threads});   // feed-forward of SigLIP so400m, one picture
    b->Args({512, 2560, 5120, threads});   // out_proj
    b->Args({1, 10576, 2560, threads});    // one token
    b->Args({8, 10576, 2560, threads});    // eight texts at once
  }
}

BENCHMARK_TEMPLATE(gemm, cpu_f32)->Apply(shapes);
BENCHMARK_TEMPLATE(gemm, cpu_bf16)->Apply(shapes);
BENCHMARK(gemm_f32_by_bf16)->Apply(shapes);

}  // namespace

int main(int argc, char** argv) { return bench::main_beside_openmp(argc, argv); }
