// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Selective scan on the CPU, forward and backward.
#include <benchmark/benchmark.h>

#include "mlmamba/mlmamba.hpp"
#include "ops/selective_scan_cases.hpp"

namespace {

using namespace mlmamba;
using namespace mlmamba::verify;

/// Arguments: batch, length, channels, states, threads. Reports updates of one state per second.
template <class E, bool backward>
void scan(benchmark::State& state) {
  const selective_scan_options o{.batch = state.range(0),
                                 .length = state.range(1),
                                 .channels = state.range(2),
                                 .states = state.range(3),
                                 .groups = 1,
                                 .D = true,
                                 .z = true,
                                 .dt_bias = true};
  context_of<E> ctx(cpu_options{int(state.range(4))});
  scan_case<E> c(o);
  randomise(c, c, 1);
  for (auto _ : state) {
    if (backward) {
      c.backward(ctx);
    } else {
      c.forward(ctx);
    }
  }
  state.counters["states/s"] =
      benchmark::Counter(double(o.batch * o.length * o.channels * o.states),
                         benchmark::Counter::kIsIterationInvariantRate);
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"B", "L", "D", "N", "threads"})->Unit(benchmark::kMillisecond)->UseRealTime();
  for (int threads : {1, 2}) {
    b->Args({1, 2048, 1536, 16, threads});  // a 130m model's layer
    b->Args({16, 300, 256, 16, threads});   // a small model in training
  }
}

BENCHMARK_TEMPLATE(scan, cpu_f32, false)->Apply(shapes);
BENCHMARK_TEMPLATE(scan, cpu_f32, true)->Apply(shapes);
BENCHMARK_TEMPLATE(scan, cpu_bf16, false)->Apply(shapes);

}  // namespace

BENCHMARK_MAIN();
