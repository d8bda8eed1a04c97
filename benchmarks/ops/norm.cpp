// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Do norms run at the speed of memory, forward and backward? `of copy` is the time of a copy of the
// same bytes over theirs; `of one thread` says what threads bring. Operands are where the copy and
// the other iterations leave them, or in memory (cold:1).
#include "harness.hpp"

namespace {

using namespace mlmamba;

/// Rows of every norm, filled; X is the type of x, accum for a residual that is kept wide.
/// Arguments: rows, width, threads, cold.
template <class E, class X>
struct rows_of {
  using A = typename E::accum;
  context_of<E> ctx, one;
  tensor<X, 2> x, dx;
  tensor_of<E, 2> z, dz, y, dy;
  tensor<A, 1> weight, bias, dweight, dbias, mean, rstd;

  explicit rows_of(const benchmark::State& s)
      : ctx(cpu_options{int(s.range(2))}),
        one(cpu_options{1}),
        x({s.range(0), s.range(1)}),
        dx(x.shape()),
        z(x.shape()),
        dz(x.shape()),
        y(x.shape()),
        dy(x.shape()),
        weight({s.range(1)}),
        bias({s.range(1)}),
        dweight({s.range(1)}),
        dbias({s.range(1)}),
        mean({s.range(0)}),
        rstd({s.range(0)}) {
    bench::fill_normal(x, 1);
    bench::fill_normal(z, 2);
    bench::fill_normal(dy, 3);
    bench::fill_normal(weight, 4);
    bench::fill_normal(bias, 5);
  }
  double tolerance() const { return verify::tolerance<E>(double(std::max(x.size(0), x.size(1)))); }
  template <class Op, class... Outputs>
  void time(benchmark::State& state, const Op& op, Outputs&... outputs) {
    const auto check = bench::once(
        state, 3, [&] { return bench::against_reference(ctx, op, tolerance(), outputs...); });
    bench::time(state, ctx, op, check, bench::cache(state.range(3)),
                bench::against("one thread", [&] { run(one, op); }));
  }
};

/// (T, 1): one group.
template <class A>
view<A, 2> rstd_of(tensor<A, 1>& t) {
  return t.view().reshape(shape<2>{{t.size(0), 1}});
}

template <class E, class X = typename E::value>
void rms_norm(benchmark::State& state) {
  rows_of<E, X> c(state);
  const ops::rms_norm<E, X> op{.x = c.x, .weight = c.weight, .y = c.y, .rstd = c.rstd};
  c.time(state, op, c.y, c.rstd);
}
template <class E, class X = typename E::value>
void rms_norm_backward(benchmark::State& state) {
  rows_of<E, X> c(state);
  run(c.ctx, ops::rms_norm<E, X>{.x = c.x, .weight = c.weight, .y = c.y, .rstd = c.rstd});
  const ops::rms_norm_backward<E, X> op{
      .x = c.x, .weight = c.weight, .rstd = c.rstd, .dy = c.dy, .dx = c.dx, .dweight = c.dweight};
  c.time(state, op, c.dx, c.dweight);
}
template <class E>
void layer_norm(benchmark::State& state) {
  rows_of<E, typename E::value> c(state);
  const ops::layer_norm<E> op{
      .x = c.x, .weight = c.weight, .bias = c.bias, .y = c.y, .mean = c.mean, .rstd = c.rstd};
  c.time(state, op, c.y, c.mean, c.rstd);
}
template <class E>
void layer_norm_backward(benchmark::State& state) {
  rows_of<E, typename E::value> c(state);
  run(c.ctx,
      ops::layer_norm<E>{.x = c.x, .weight = c.weight, .y = c.y, .mean = c.mean, .rstd = c.rstd});
  const ops::layer_norm_backward<E> op{.x = c.x,
                                       .weight = c.weight,
                                       .mean = c.mean,
                                       .rstd = c.rstd,
                                       .dy = c.dy,
                                       .dx = c.dx,
                                       .dweight = c.dweight,
                                       .dbias = c.dbias};
  c.time(state, op, c.dx, c.dweight, c.dbias);
}
template <class E>
void gated_rms_norm(benchmark::State& state) {
  rows_of<E, typename E::value> c(state);
  const ops::gated_rms_norm<E> op{
      .x = c.x, .z = c.z, .weight = c.weight, .y = c.y, .rstd = rstd_of(c.rstd)};
  c.time(state, op, c.y, c.rstd);
}
template <class E>
void gated_rms_norm_backward(benchmark::State& state) {
  rows_of<E, typename E::value> c(state);
  run(c.ctx, ops::gated_rms_norm<E>{
                 .x = c.x, .z = c.z, .weight = c.weight, .y = c.y, .rstd = rstd_of(c.rstd)});
  const ops::gated_rms_norm_backward<E> op{.x = c.x,
                                           .z = c.z,
                                           .weight = c.weight,
                                           .rstd = rstd_of(c.rstd),
                                           .dy = c.dy,
                                           .dx = c.dx,
                                           .dz = c.dz,
                                           .dweight = c.dweight};
  c.time(state, op, c.dx, c.dz, c.dweight);
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"T", "D", "threads", "cold"})->Unit(benchmark::kMicrosecond)->UseManualTime();
  for (int threads : {1, 2})
    for (int cold : {0, 1}) b->Args({2048, 2560, threads, cold});
  b->Args({1, 2560, 2, 0});
}

BENCHMARK_TEMPLATE(rms_norm, cpu_f32)->Apply(shapes);
BENCHMARK_TEMPLATE(rms_norm, cpu_bf16)->Apply(shapes);
BENCHMARK_TEMPLATE(rms_norm, cpu_bf16, float)->Apply(shapes);
BENCHMARK_TEMPLATE(rms_norm_backward, cpu_f32)->Apply(shapes);
BENCHMARK_TEMPLATE(rms_norm_backward, cpu_bf16, float)->Apply(shapes);
BENCHMARK_TEMPLATE(layer_norm, cpu_f32)->Apply(shapes);
BENCHMARK_TEMPLATE(layer_norm, cpu_bf16)->Apply(shapes);
BENCHMARK_TEMPLATE(layer_norm_backward, cpu_f32)->Apply(shapes);
BENCHMARK_TEMPLATE(layer_norm_backward, cpu_bf16)->Apply(shapes);
BENCHMARK_TEMPLATE(gated_rms_norm, cpu_f32)->Apply(shapes);
BENCHMARK_TEMPLATE(gated_rms_norm, cpu_bf16)->Apply(shapes);
BENCHMARK_TEMPLATE(gated_rms_norm_backward, cpu_f32)->Apply(shapes);
BENCHMARK_TEMPLATE(gated_rms_norm_backward, cpu_bf16)->Apply(shapes);

}  // namespace

BENCHMARK_MAIN();
