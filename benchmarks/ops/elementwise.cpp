// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Do elementwise ops, reductions and AdamW run at the speed of memory? `of copy` is the time of a
// copy of the same bytes over theirs; `of one thread` says what threads bring.
#include "harness.hpp"

namespace {

using namespace mlmamba;

/// Arguments: rows, width, activation, threads.
template <class E>
void gated(benchmark::State& state) {
  context_of<E> ctx(cpu_options{int(state.range(3))}), one(cpu_options{1});
  tensor_of<E, 2> gate({state.range(0), state.range(1)}), up(gate.shape()), y(gate.shape());
  bench::fill_normal(gate, 1);
  bench::fill_normal(up, 2);
  const ops::gated<E> op{.gate = gate, .up = up, .y = y, .activation = activation(state.range(2))};
  state.SetLabel(to_string(op.activation));
  const auto check = bench::against_reference(ctx, op, verify::tolerance<E>(4), y);
  bench::time(state, ctx, op, check, bench::against("one thread", [&] { run(one, op); }));
}

/// Arguments: rows, width, threads.
template <class E>
void add(benchmark::State& state) {
  context_of<E> ctx(cpu_options{int(state.range(2))}), one(cpu_options{1});
  tensor_of<E, 2> a({state.range(0), state.range(1)}), b(a.shape()), y(a.shape());
  bench::fill_normal(a, 1);
  bench::fill_normal(b, 2);
  const ops::add<E> op{.a = a, .b = b, .y = y};
  const auto check = bench::against_reference(ctx, op, verify::tolerance<E>(2), y);
  bench::time(state, ctx, op, check, bench::against("one thread", [&] { run(one, op); }));
}

/// Arguments: rows, width, threads.
template <class E>
void sum_rows(benchmark::State& state) {
  context_of<E> ctx(cpu_options{int(state.range(2))}), one(cpu_options{1});
  tensor_of<E, 2> x({state.range(0), state.range(1)});
  tensor<typename E::accum, 1> y({state.range(1)});
  bench::fill_normal(x, 1);
  const ops::sum_rows<E> op{.x = x, .y = y};
  const auto check =
      bench::against_reference(ctx, op, verify::tolerance<E>(double(state.range(0))), y);
  bench::time(state, ctx, op, check, bench::against("one thread", [&] { run(one, op); }));
}

/// Arguments: weights, threads.
template <class E>
void adamw(benchmark::State& state) {
  context_of<E> ctx(cpu_options{int(state.range(1))}), one(cpu_options{1});
  tensor_of<E, 1> weight({state.range(0)});
  tensor<float, 1> master(weight.shape()), grad(weight.shape()), m(weight.shape()),
      v(weight.shape());
  bench::fill_normal(master, 1);
  bench::fill_normal(grad, 2);
  const ops::adamw<E> op{.weight = weight, .master = master, .grad = grad, .m = m, .v = v};
  const auto check =
      bench::against_reference(ctx, op, verify::tolerance<E>(8), weight, master, m, v);
  bench::time(state, ctx, op, check, bench::against("one thread", [&] { run(one, op); }));
}

void gated_shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"T", "D", "activation", "threads"})->Unit(benchmark::kMicrosecond)->UseManualTime();
  for (int threads : {1, 2})
    for (int act = 1; act <= 5; ++act) b->Args({2048, 5120, act, threads});
  b->Args({1, 5120, 1, 2});
}
void row_shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"T", "D", "threads"})->Unit(benchmark::kMicrosecond)->UseManualTime();
  for (int threads : {1, 2}) b->Args({2048, 5120, threads});
  b->Args({1, 5120, 2});
}

BENCHMARK_TEMPLATE(gated, cpu_f32)->Apply(gated_shapes);
BENCHMARK_TEMPLATE(gated, cpu_bf16)->Apply(gated_shapes);
BENCHMARK_TEMPLATE(add, cpu_f32)->Apply(row_shapes);
BENCHMARK_TEMPLATE(add, cpu_bf16)->Apply(row_shapes);
BENCHMARK_TEMPLATE(sum_rows, cpu_f32)->Apply(row_shapes);
BENCHMARK_TEMPLATE(sum_rows, cpu_bf16)->Apply(row_shapes);
BENCHMARK_TEMPLATE(adamw, cpu_bf16)
    ->ArgNames({"N", "threads"})
    ->Args({1 << 23, 1})
    ->Args({1 << 23, 2})
    ->Unit(benchmark::kMicrosecond)
    ->UseManualTime();

}  // namespace

BENCHMARK_MAIN();
