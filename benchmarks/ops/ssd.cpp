// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// How much faster is SSD in chunks than token by token? `of steps` is the time of a loop over the
// tokens with the op that decodes, as runtimes without a scan have it, over that of the op; `of
// sequential` that of the library's own sequential algorithm (vectorised, its state in cache).
// GFLOP/s count the useful work of the recurrence (ops::ssd::flops), whatever the algorithm does.
// Backward, and one token beside a copy.
#include "harness.hpp"
#include "ops/ssd_cases.hpp"

namespace {

using namespace mlmamba;

/// Arguments: batch, length, heads, channels, states, threads, forgets. Steps and rates are as a
/// model has them before training: half-lives of 0.4 to 700 tokens. With `forgets` many are below
/// one token, as some of trained heads are: decays over a chunk leave the range of float.
template <class E>
struct scan : verify::ssd_case<E> {
  context_of<E> ctx;

  explicit scan(const benchmark::State& s, bool final = false)
      : verify::ssd_case<E>({.batch = s.range(0),
                             .length = s.range(1),
                             .heads = s.range(2),
                             .channels = s.range(3),
                             .states = s.range(4),
                             .groups = 1,
                             .D = verify::skip::per_head,
                             .dt_bias = true,
                             .final = final}),
        ctx(cpu_options{int(s.range(5))}) {
    verify::randomise(*this, *this, 1);
    if (s.range(6) != 0) return;
    random_stream r{2, 0, 0};
    const auto dt = this->cut(this->zxbcdt).dt;
    for (index_t b = 0; b < dt.size[0]; ++b)
      for (index_t t = 0; t < dt.size[1]; ++t)
        for (index_t h = 0; h < dt.size[2]; ++h)
          dt(b, t, h) = typename E::value(float(0.5 * r.normal()));
    for (index_t h = 0; h < this->o.heads; ++h) {
      this->rate(h) = float(-r.uniform(1, 16));
      this->dt_bias(h) =
          float(std::log(std::expm1(std::exp(r.uniform(std::log(1e-3), std::log(0.1))))));
    }
  }
  double tolerance() const { return verify::tolerance<E>(this->terms()); }
  ops::ssd<E> forward_by(ops::scan_algorithm a) {
    ops::ssd<E> op = this->as_op();
    op.algorithm = a;
    return op;
  }
};

template <class E>
void ssd(benchmark::State& state) {
  scan<E> c(state);
  const auto op = c.forward_by(ops::scan_algorithm::chunked);
  const auto sequential = c.forward_by(ops::scan_algorithm::sequential);
  tensor<typename E::accum, 4> steps_state(op.state_shape());
  const auto steps = [&] {
    std::fill_n(steps_state.data(), steps_state.count(), 0);
    verify::ssd_by_steps(c.ctx, op, steps_state);
  };
  const auto check = bench::once(
      state, 7, [&] { return bench::against_reference(c.ctx, op, c.tolerance(), c.y); });
  bench::time(state, c.ctx, op, check, bench::against("steps", steps),
              bench::against("sequential", [&] { run(c.ctx, sequential); }));
}

template <class E>
void ssd_backward(benchmark::State& state) {
  scan<E> c(state);
  const auto op = c.as_backward_op();
  const auto check = bench::once(state, 7, [&] {
    return bench::against_reference(c.ctx, op, c.tolerance(), c.dzxbcdt, c.drate, c.dD, c.ddt_bias);
  });
  const auto forward = c.forward_by(ops::scan_algorithm::automatic);
  bench::time(state, c.ctx, op, check, bench::against("forward", [&] { run(c.ctx, forward); }));
}

template <class E>
void ssd_step(benchmark::State& state) {
  scan<E> c(state, true);
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
  const auto check = bench::once(
      state, 7, [&] { return bench::against_reference(c.ctx, op, c.tolerance(), c.y, c.last); });
  bench::time(state, c.ctx, op, check, bench::cache::cold);
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"B", "L", "H", "P", "N", "threads", "forgets"})
      ->Unit(benchmark::kMicrosecond)
      ->UseManualTime();
  for (int threads : {1, 2}) {
    for (int forgets : {0, 1}) b->Args({1, 2048, 24, 64, 128, threads, forgets});  // a 130m layer
    b->Args({16, 300, 8, 64, 64, threads, 0});  // small models in training
    b->Args({32, 150, 8, 32, 32, threads, 0});
  }
}
void one_token(benchmark::internal::Benchmark* b) {
  b->ArgNames({"B", "L", "H", "P", "N", "threads", "forgets"})
      ->Unit(benchmark::kMicrosecond)
      ->UseManualTime();
  for (int threads : {1, 2}) {
    b->Args({1, 1, 24, 64, 128, threads, 0});
    b->Args({8, 1, 24, 64, 128, threads, 0});
    b->Args({1, 1, 80, 64, 128, threads, 0});
  }
}

BENCHMARK_TEMPLATE(ssd, cpu_f32)->Apply(shapes);
BENCHMARK_TEMPLATE(ssd, cpu_bf16)->Apply(shapes);
BENCHMARK_TEMPLATE(ssd_backward, cpu_f32)->Apply(shapes);
BENCHMARK_TEMPLATE(ssd_step, cpu_f32)->Apply(one_token);

}  // namespace

BENCHMARK_MAIN();
