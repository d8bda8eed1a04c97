// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Does the causal convolution run at the speed of memory, forward and backward? `of copy` is the
// time of a copy of the same bytes over its own.
#include "harness.hpp"
#include "ops/causal_conv1d_cases.hpp"

namespace {

using namespace mlmamba;

/// Arguments: batch, length, channels, threads, cold.
template <class E>
struct conv : verify::conv_case<E> {
  context_of<E> ctx;

  explicit conv(const benchmark::State& s)
      : verify::conv_case<E>(
            {.batch = s.range(0), .length = s.range(1), .channels = s.range(2), .final = false}),
        ctx(cpu_options{int(s.range(3))}) {
    bench::fill_normal(this->x, 1);
    bench::fill_normal(this->dy, 2);
    bench::fill_normal(this->weight, 3);
    bench::fill_normal(this->bias, 4);
  }
  double tolerance() const { return verify::tolerance<E>(this->terms()); }
};

template <class E>
void causal_conv1d(benchmark::State& state) {
  conv<E> c(state);
  const ops::causal_conv1d<E> op{.x = c.x, .weight = c.weight, .bias = c.bias, .y = c.y};
  const auto check = bench::once(
      state, 4, [&] { return bench::against_reference(c.ctx, op, c.tolerance(), c.y); });
  bench::time(state, c.ctx, op, check, bench::cache(state.range(4)));
}
template <class E>
void causal_conv1d_backward(benchmark::State& state) {
  conv<E> c(state);
  const ops::causal_conv1d_backward<E> op{.x = c.x,
                                          .weight = c.weight,
                                          .bias = c.bias,
                                          .dy = c.dy,
                                          .dx = c.dx,
                                          .dweight = c.dweight,
                                          .dbias = c.dbias};
  const auto check = bench::once(state, 4, [&] {
    return bench::against_reference(c.ctx, op, c.tolerance(), c.dx, c.dweight, c.dbias);
  });
  bench::time(state, c.ctx, op, check, bench::cache(state.range(4)));
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"B", "L", "D", "threads", "cold"})->Unit(benchmark::kMicrosecond)->UseManualTime();
  for (int threads : {1, 2}) {
    for (int cold : {0, 1}) b->Args({1, 2048, 5376, threads, cold});  // mamba2-2.7b
    b->Args({16, 300, 640, threads, 0});                              // a small model in training
  }
}

BENCHMARK_TEMPLATE(causal_conv1d, cpu_f32)->Apply(shapes);
BENCHMARK_TEMPLATE(causal_conv1d, cpu_bf16)->Apply(shapes);
BENCHMARK_TEMPLATE(causal_conv1d_backward, cpu_f32)->Apply(shapes);
BENCHMARK_TEMPLATE(causal_conv1d_backward, cpu_bf16)->Apply(shapes);

}  // namespace

BENCHMARK_MAIN();
