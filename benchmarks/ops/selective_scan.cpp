// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// How far is the selective scan from memory, and what does its backward cost beside it? `of copy`
// is the time of a copy of the same bytes, `of forward` that of the forward, over its own;
// GFLOP/s / 9 are updates of one state.
#include "harness.hpp"
#include "ops/selective_scan_cases.hpp"

namespace {

using namespace mlmamba;

/// Arguments: batch, length, channels, states, threads.
template <class E>
struct scan : verify::scan_case<E> {
  context_of<E> ctx;

  explicit scan(const benchmark::State& state)
      : verify::scan_case<E>({.batch = state.range(0),
                              .length = state.range(1),
                              .channels = state.range(2),
                              .states = state.range(3),
                              .groups = 1,
                              .D = true,
                              .z = true,
                              .dt_bias = true}),
        ctx(cpu_options{int(state.range(4))}) {
    verify::randomise(*this, *this, 1);
  }
  double tolerance() const { return verify::tolerance<E>(this->terms()); }
};

template <class E>
void selective_scan(benchmark::State& state) {
  scan<E> c(state);
  const auto op = c.as_op();
  const auto check = bench::once(
      state, 5, [&] { return bench::against_reference(c.ctx, op, c.tolerance(), c.y); });
  bench::time(state, c.ctx, op, check);
}
template <class E>
void selective_scan_backward(benchmark::State& state) {
  scan<E> c(state);
  const auto op = c.as_backward_op();
  const auto forward = c.as_op();
  const auto check = bench::once(state, 5, [&] {
    return bench::against_reference(c.ctx, op, c.tolerance(), c.dfused, c.drate, c.dD, c.ddt_bias);
  });
  bench::time(state, c.ctx, op, check, bench::against("forward", [&] { run(c.ctx, forward); }));
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"B", "L", "D", "N", "threads"})->Unit(benchmark::kMicrosecond)->UseManualTime();
  for (int threads : {1, 2}) {
    b->Args({1, 2048, 1536, 16, threads});  // a 130m model's layer
    b->Args({16, 300, 256, 16, threads});   // a small model in training
  }
}

BENCHMARK_TEMPLATE(selective_scan, cpu_f32)->Apply(shapes);
BENCHMARK_TEMPLATE(selective_scan, cpu_bf16)->Apply(shapes);
BENCHMARK_TEMPLATE(selective_scan_backward, cpu_f32)->Apply(shapes);

}  // namespace

BENCHMARK_MAIN();
