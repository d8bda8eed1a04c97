// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// How much does attention cost beside the matrix products in it? `of products` is the time of the
// same products (two forward, five backward) by the library's gemm, over the op's.
#include "harness.hpp"
#include "ops/attention_cases.hpp"

namespace {

using namespace mlmamba;

/// Arguments: batch, tokens, heads, head size, threads. q, k, v are slices of one projection.
template <class E>
struct towers {
  context_of<E> ctx;
  verify::attention_case<E> c;
  tensor_of<E, 2> rows, columns, square;  // (T, d), (T, d), (T, T)

  explicit towers(const benchmark::State& s)
      : ctx(cpu_options{int(s.range(4))}),
        c({.batch = s.range(0),
           .queries = s.range(1),
           .keys = s.range(1),
           .heads = s.range(2),
           .width = s.range(3),
           .fused = true}),
        rows({s.range(1), s.range(3)}),
        columns(rows.shape()),
        square({s.range(1), s.range(1)}) {
    bench::fill_normal(c.qkv, 1);
    bench::fill_normal(c.dy, 2);
    bench::fill_normal(rows, 3);
    bench::fill_normal(columns, 4);
    bench::fill_normal(square, 5);
  }
  in<E, 4> part(const tensor_of<E, 3>& t, index_t which) const {
    const index_t n = c.o.heads * c.o.width;
    return in<E, 3>(t.view()).slice(2, which * n, n).split(2, c.o.width);
  }
  out<E, 4> part(tensor_of<E, 3>& t, index_t which) const {
    const index_t n = c.o.heads * c.o.width;
    return t.view().slice(2, which * n, n).split(2, c.o.width);
  }
  ops::attention<E> forward() {
    return {.q = part(c.qkv, 0),
            .k = part(c.qkv, 1),
            .v = part(c.qkv, 2),
            .y = c.y,
            .log_sum_exp = c.log_sum_exp,
            .scale = c.scale()};
  }
  ops::attention_backward<E> backward() {
    return {.q = part(c.qkv, 0),
            .k = part(c.qkv, 1),
            .v = part(c.qkv, 2),
            .y = c.y,
            .log_sum_exp = c.log_sum_exp,
            .dy = c.dy,
            .dq = part(c.dqkv, 0),
            .dk = part(c.dqkv, 1),
            .dv = part(c.dqkv, 2),
            .scale = c.scale()};
  }
  /// (T, d) x (T, d)^T and (T, T) x (T, d), for every head.
  void products(int narrow, int wide) {
    for (index_t head = 0; head < c.o.batch * c.o.heads; ++head) {
      for (int i = 0; i < narrow; ++i) run(ctx, ops::gemm<E>{.x = rows, .w = columns, .y = square});
      for (int i = 0; i < wide; ++i)
        run(ctx, ops::gemm<E>{.x = square, .w = in<E, 2>(columns.view()).transposed(), .y = rows});
    }
  }
};

template <class E>
void attention(benchmark::State& state) {
  towers<E> t(state);
  const auto op = t.forward();
  const auto check = bench::once(state, 5, [&] {
    return bench::against_reference(t.ctx, op, verify::tolerance<E>(t.c.terms()), t.c.y,
                                    t.c.log_sum_exp);
  });
  bench::time(state, t.ctx, op, check, bench::against("products", [&] { t.products(1, 1); }));
}
template <class E>
void attention_backward(benchmark::State& state) {
  towers<E> t(state);
  run(t.ctx, t.forward());
  const auto op = t.backward();
  const auto check = bench::once(state, 5, [&] {
    return bench::against_reference(t.ctx, op, verify::tolerance<E>(t.c.terms()), t.c.dqkv);
  });
  bench::time(state, t.ctx, op, check, bench::against("products", [&] { t.products(2, 3); }));
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"B", "T", "H", "d", "threads"})->Unit(benchmark::kMicrosecond)->UseManualTime();
  for (int threads : {1, 2}) {
    b->Args({32, 36, 6, 32, threads});
    b->Args({16, 64, 4, 64, threads});
    b->Args({16, 150, 3, 64, threads});
    b->Args({1, 729, 4, 72, threads});
  }
}

BENCHMARK_TEMPLATE(attention, cpu_f32)->Apply(shapes);
BENCHMARK_TEMPLATE(attention, cpu_bf16)->Apply(shapes);
BENCHMARK_TEMPLATE(attention_backward, cpu_f32)->Apply(shapes);
BENCHMARK_TEMPLATE(attention_backward, cpu_bf16)->Apply(shapes);

}  // namespace

BENCHMARK_MAIN();
