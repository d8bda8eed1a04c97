// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// How near is decoding to the speed of memory? `of read` is the time of a plain read of as many
// bytes as a step has to read (all weights and the state), with the same threads and in turns with
// the steps, over the time of a step.
#include "models/language.hpp"

namespace {

using namespace mlmamba;

/// Arguments: batch, layers (0: all), threads. A step includes the choice of the likeliest token of
/// each row, which the next step reads. The reads between put other data into the caches, as far as
/// these hold any of the weights.
template <class M>
struct decode {
  using E = typename M::engine_type;
  void operator()(benchmark::State& state, mamba_config config, weight_scheme scheme) const;
};
template <class M>
void decode<M>::operator()(benchmark::State& state, mamba_config config,
                           weight_scheme scheme) const {
  const index_t batch = state.range(0);
  if (state.range(1) > 0) config.n_layer = state.range(1);
  context_of<E> ctx(cpu_options{int(state.range(2))});
  const M& m = bench::model_of<M>(config, {scheme, 64});
  const auto& check =
      bench::once(state, 3,
                  [&] {
                    return bench::prefill_equals_steps(
                        ctx, m, bench::some_tokens(batch, 8, m.config.vocab_size), 4);
                  },
                  {config.mixer.d_model, int(scheme)});
  if (!check.ok) {
    state.SkipWithError(("wrong: " + check.where).c_str());
    return;
  }
  auto memory = m.make_state(batch);
  tensor<std::int32_t, 1> ids({batch});
  for (index_t b = 0; b < batch; ++b) ids(b) = std::int32_t(1000 * b);
  auto step = [&] {
    auto frame = ctx.scratch.make_frame();
    const auto logits = m.step(ctx, in_index<E, 1>(std::as_const(ids).view()), memory);
    run(ctx, ops::argmax<E, typename E::accum>{.x = logits, .index = ids});
  };
  const double weights = bench::weight_bytes(m), states = bench::state_bytes(memory);
  // Of a large model a part is read, so that both fit into memory.
  bench::read_probe read(std::min(weights + states, 4e9));
  const double more = (weights + states) / read.bytes();
  bench::times own, roof;
  for (int warm = 0; warm < 2; ++warm) step(), read.seconds(ctx);
  for (auto _ : state) {
    const double t = bench::seconds_of(ctx, step);
    state.SetIterationTime(t);
    own.add(t);
    roof.add(read.seconds(ctx));
  }
  state.counters["tokens/s"] = double(batch) / own.median();
  state.counters["weights MB"] = weights * 1e-6;
  state.counters["state MB"] = states * 1e-6;
  state.counters["read GB/s"] = read.bytes() * 1e-9 / roof.median();
  state.counters["of read"] = more * roof.median() / own.median();
  // What a generation sees: nothing else between the steps.
  bench::times alone;
  for (int i = 0; i < 8; ++i) step();
  for (int i = 0; i < 24; ++i) alone.add(bench::seconds_of(ctx, step));
  state.counters["tokens/s alone"] = double(batch) / alone.median();

  ctx.tracing = true;
  double traced = 0;
  for (int i = 0; i < 5; ++i) {
    traced += bench::seconds_of(ctx, step);
    read.seconds(ctx);
  }
  bench::report_shares(state, ctx, traced);
}

void sizes(benchmark::internal::Benchmark* b, const std::string&) {
  b->ArgNames({"B", "layers", "threads"});
  for (int threads : {1, 2})
    for (int batch : {1, 8}) b->Args({batch, 0, threads});
}

}  // namespace

int main(int argc, char** argv) {
  bench::register_models<decode>("decode", sizes);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
