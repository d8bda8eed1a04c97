// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// How near is reading a prompt to the speed of arithmetic, and which ops take the time? `of FMA` is
// the useful work of all ops per second over that of multiply-adds in registers in the same run (in
// bf16 the faster of dot products and of float); `ssd of layer` the scan's share of the layers'
// time.
#include "models/language.hpp"

namespace {

using namespace mlmamba;

/// Arguments: length, layers, threads.
template <class V>
void prefill(benchmark::State& state) {
  using E = bench::traced_cpu<V>;
  const index_t length = state.range(0);
  context_of<E> ctx(cpu_options{int(state.range(2))});
  const mamba_lm<E>& m = bench::model_of<E>(state.range(1));
  const auto ids = bench::some_tokens(1, length, m.config.vocab_size);
  const auto& check =
      bench::once(state, 3, [&] { return bench::prefill_equals_steps<E>(ctx, m, ids, 4); });
  if (!check.ok) {
    state.SkipWithError(("wrong: " + check.where).c_str());
    return;
  }
  auto read = [&] {
    auto frame = ctx.scratch.make_frame();
    auto memory = m.make_state(1);
    m.prefill(ctx, m.embed(ctx, ids.view()), memory);
  };
  bench::times own, rate;
  read();
  for (auto _ : state) {
    rate.add(bench::compute_probe<V>(ctx));
    const double t = bench::seconds_of(ctx, read);
    state.SetIterationTime(t);
    own.add(t);
    rate.add(bench::compute_probe<V>(ctx));
  }
  ctx.tracing = true;
  const double traced = bench::seconds_of(ctx, read);
  double flops = 0, layers = traced, scan = 0;
  for (const auto& [name, total] : ctx.totals) {
    flops += total.flops;
    if (name.starts_with("ssd")) scan += total.seconds;
    // The head reads one row of the last token.
    if (name.ends_with("x" + std::to_string(m.vocabulary()))) layers -= total.seconds;
  }
  state.counters["tokens/s"] = double(length) / own.median();
  state.counters["GFLOP/s"] = flops * 1e-9 / own.median();
  if (rate.median() > 0) state.counters["of FMA"] = flops / own.median() / rate.median();
  state.counters["ssd of layer"] = scan / layers;
  state.counters["arena MB"] = double(ctx.scratch.peak()) * 1e-6;
  bench::report_shares(state, ctx, traced);
}

void sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"L", "layers", "threads"})->Unit(benchmark::kMillisecond)->UseManualTime();
  for (int threads : {1, 2}) {
    for (int length : {128, 512, 2048}) b->Args({length, 24, threads});
    b->Args({2048, 4, threads});  // the same layers in a sixth of the time
  }
}

BENCHMARK_TEMPLATE(prefill, float)->Name("mamba2_130m_prefill/cpu_f32")->Apply(sizes);
BENCHMARK_TEMPLATE(prefill, bf16)->Name("mamba2_130m_prefill/cpu_bf16")->Apply(sizes);

}  // namespace

BENCHMARK_MAIN();
