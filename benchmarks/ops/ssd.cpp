// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// SSD on the CPU: forward against the sequential algorithm in the same run, backward, one token.
// GFLOP/s count the useful work of the recurrence (ops::ssd::flops), whatever the algorithm does.
#include <benchmark/benchmark.h>

#include <chrono>

#include "mlmamba/mlmamba.hpp"
#include "ops/ssd_cases.hpp"

namespace {

using namespace mlmamba;
using namespace mlmamba::verify;

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Arguments: batch, length, heads, channels, states, threads.
ssd_options options_of(const benchmark::State& s) {
  return {.batch = s.range(0),
          .length = s.range(1),
          .heads = s.range(2),
          .channels = s.range(3),
          .states = s.range(4),
          .groups = 1,
          .D = skip::per_head,
          .dt_bias = true};
}
template <class E>
double useful(const ssd_options& o) {
  const double x = double(o.batch * o.length * o.heads * o.channels);
  return (5.0 * double(o.states) + 4.0) * x;
}

template <class E>
void forward(benchmark::State& state) {
  const ssd_options o = options_of(state);
  context_of<E> ctx(cpu_options{int(state.range(5))});
  ssd_case<E> c(o);
  randomise(c, c, 1);
  double chunked = 0, sequential = 0;
  for (auto _ : state) {  // in turns, so that a noisy machine is noisy for both
    const double t0 = seconds();
    c.o.algorithm = ops::scan_algorithm::chunked;
    c.forward(ctx);
    const double t1 = seconds();
    c.o.algorithm = ops::scan_algorithm::sequential;
    c.forward(ctx);
    const double t2 = seconds();
    state.SetIterationTime(t1 - t0);
    chunked += t1 - t0, sequential += t2 - t1;
  }
  state.counters["sequential/chunked"] = sequential / chunked;
  state.counters["GFLOP/s"] =
      benchmark::Counter(useful<E>(o) * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

template <class E>
void backward(benchmark::State& state) {
  const ssd_options o = options_of(state);
  context_of<E> ctx(cpu_options{int(state.range(5))});
  ssd_case<E> c(o);
  randomise(c, c, 1);
  for (auto _ : state) c.backward(ctx);
  state.counters["tokens/s"] =
      benchmark::Counter(double(o.batch * o.length), benchmark::Counter::kIsIterationInvariantRate);
}

template <class E>
void step(benchmark::State& state) {
  const ssd_options o = options_of(state);
  context_of<E> ctx(cpu_options{int(state.range(5))});
  ssd_options one = o;
  one.length = 1, one.final = true;
  ssd_case<E> c(one);
  randomise(c, c, 1);
  const auto s = c.cut(c.zxbcdt);
  const ops::ssd_step<E> op{.state = c.last,
                            .x = s.x.select(1, 0),
                            .dt = s.dt.select(1, 0),
                            .A = c.rate,
                            .B = s.B.select(1, 0),
                            .C = s.C.select(1, 0),
                            .D = c.broadcast(c.D),
                            .dt_bias = c.dt_bias,
                            .y = c.y.view().select(1, 0),
                            .dt_softplus = true};
  for (auto _ : state) run(ctx, op);
  state.counters["GB/s"] =
      benchmark::Counter(op.bytes() * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"B", "L", "H", "P", "N", "threads"})->Unit(benchmark::kMillisecond);
  for (int threads : {1, 2}) {
    b->Args({1, 2048, 24, 64, 128, threads});  // a 130m model's layer
    b->Args({16, 300, 8, 64, 64, threads});    // small models in training
    b->Args({32, 150, 8, 32, 32, threads});
  }
}

BENCHMARK_TEMPLATE(forward, cpu_f32)->Apply(shapes)->UseManualTime();
BENCHMARK_TEMPLATE(forward, cpu_bf16)->Apply(shapes)->UseManualTime();
BENCHMARK_TEMPLATE(backward, cpu_f32)->Apply(shapes)->UseRealTime();
BENCHMARK_TEMPLATE(step, cpu_f32)
    ->ArgNames({"B", "L", "H", "P", "N", "threads"})
    ->Args({1, 1, 80, 64, 128, 1})
    ->Args({1, 1, 80, 64, 128, 2})
    ->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
