// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What do threads cost? A parallel_for whose tasks do nothing, and the share that as many of them
// as a step of decoding has would take of that step (mamba2-130m, float, batch 1).
#include "harness.hpp"
#include "mlmamba/models/preset.hpp"

namespace {

using namespace mlmamba;

/// Arguments: threads, idle microseconds of the caller before each call. Workers look for work for
/// a while before they sleep.
void fork_join(benchmark::State& state) {
  context<backend::cpu> ctx(cpu_options{int(state.range(0))});
  for (auto _ : state) {
    for (const double until = bench::seconds() + 1e-6 * double(state.range(1));
         bench::seconds() < until;)
      ;
    const double from = bench::seconds();
    ctx.parallel_for(state.range(0), [](index_t) {});
    state.SetIterationTime(bench::seconds() - from);
  }
}

/// Argument: threads. `fork-join of step`: as many calls as a step makes, one after the other,
/// whose tasks all take the same time, that of an op of the step; what the calls take beyond it,
/// over the time of the step. So workers are as awake as they are in a step.
void step_forks(benchmark::State& state) {
  using E = cpu_f32;
  context_of<E> ctx(cpu_options{int(state.range(0))});
  static const mamba_lm<E> m = [] {
    mamba_lm<E> made(preset::mamba2_130m);
    nn::initialise(made, {7, 0, 0});
    return made;
  }();
  auto memory = m.make_state(1);
  tensor<std::int32_t, 1> ids({1});
  const auto step = [&] {
    auto frame = ctx.scratch.make_frame();
    const auto logits = m.step(ctx, in_index<E, 1>(std::as_const(ids).view()), memory);
    run(ctx, ops::argmax<E, E::accum>{.x = logits, .index = ids});
  };
  for (int warm = 0; warm < 2; ++warm) step();
  bench::times own, beyond;
  const index_t before = ctx.threads.forks();
  step();
  const index_t forks = ctx.threads.forks() - before;
  for (auto _ : state) {
    const double t = bench::seconds_of(ctx, step);
    state.SetIterationTime(t);
    own.add(t);
    const double work = t / double(forks);
    for (index_t i = 0; i < forks; ++i)
      beyond.add(bench::seconds_of(ctx,
                                   [&] {
                                     ctx.parallel_for(state.range(0), [&](index_t) {
                                       for (const double until = bench::seconds() + work;
                                            bench::seconds() < until;)
                                         ;
                                     });
                                   }) -
                 work);
  }
  state.counters["forks"] = double(forks);
  state.counters["us each"] = 1e6 * beyond.median();
  state.counters["fork-join of step"] = double(forks) * beyond.median() / own.median();
}

BENCHMARK(fork_join)
    ->ArgNames({"threads", "idle_us"})
    ->ArgsProduct({{1, 2}, {0, 50, 5000}})
    ->Iterations(200)  // most of the time is idle, and does not count
    ->Unit(benchmark::kMicrosecond)
    ->UseManualTime();
BENCHMARK(step_forks)
    ->Name("mamba2_130m_step_forks/cpu_f32")
    ->ArgName("threads")
    ->Arg(2)
    ->Unit(benchmark::kMillisecond)
    ->UseManualTime();

}  // namespace

BENCHMARK_MAIN();
