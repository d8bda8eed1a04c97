// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Causal convolution on the CPU against a copy of the same bytes in the same run; backward.
#include <benchmark/benchmark.h>

#include <chrono>
#include <cstring>

#include "mlmamba/mlmamba.hpp"
#include "ops/causal_conv1d_cases.hpp"

namespace {

using namespace mlmamba;
using namespace mlmamba::verify;

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Arguments: batch, length, channels, threads.
conv_options options_of(const benchmark::State& s) {
  return {.batch = s.range(0), .length = s.range(1), .channels = s.range(2)};
}

template <class E>
void forward(benchmark::State& state) {
  const conv_options o = options_of(state);
  context_of<E> ctx(cpu_options{int(state.range(3))});
  conv_case<E> c(o);
  randomise(c, c, 1);
  double conv = 0, copy = 0;
  const index_t parts = 64, bytes = index_t(c.x.bytes()) / parts;
  for (auto _ : state) {  // in turns, so that a noisy machine is noisy for both
    const double t0 = seconds();
    c.forward(ctx);
    const double t1 = seconds();
    ctx.parallel_for(parts, [&](index_t i) {
      std::memcpy(reinterpret_cast<char*>(c.y.data()) + i * bytes,
                  reinterpret_cast<const char*>(c.x.data()) + i * bytes, std::size_t(bytes));
    });
    const double t2 = seconds();
    state.SetIterationTime(t1 - t0);
    conv += t1 - t0, copy += t2 - t1;
  }
  state.counters["of copy"] = copy / conv;
  state.counters["GB/s"] =
      benchmark::Counter(2e-9 * double(c.x.bytes()), benchmark::Counter::kIsIterationInvariantRate);
}

template <class E>
void backward(benchmark::State& state) {
  context_of<E> ctx(cpu_options{int(state.range(3))});
  conv_case<E> c(options_of(state));
  randomise(c, c, 1);
  for (auto _ : state) c.backward(ctx);
  state.counters["GB/s"] =
      benchmark::Counter(3e-9 * double(c.x.bytes()), benchmark::Counter::kIsIterationInvariantRate);
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"B", "L", "D", "threads"})->Unit(benchmark::kMillisecond);
  for (int threads : {1, 2}) {
    b->Args({1, 2048, 5376, threads});  // mamba2-2.7b
    b->Args({16, 300, 640, threads});   // a small model in training
  }
}

BENCHMARK_TEMPLATE(forward, cpu_f32)->Apply(shapes)->UseManualTime();
BENCHMARK_TEMPLATE(forward, cpu_bf16)->Apply(shapes)->UseManualTime();
BENCHMARK_TEMPLATE(backward, cpu_f32)->Apply(shapes)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
