// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// How near is reading a prompt to the speed of arithmetic, and which ops take the time? `of FMA` is
// the useful work of all ops per second over that of multiply-adds in registers in the same run (in
// bf16 the faster of dot products and of float, or products of tiles), with weights of 8 and 4 bits
// `of unit` over that of dot products of bytes, or of tiles; `ssd of layer` the scan's (of Mamba-1
// the selective one's) share of the layers' time. Prompts are read in parts of 1024 tokens, as
// programs do it.
#include "mlmamba/text/generate.hpp"
#include "models/language.hpp"

namespace {

using namespace mlmamba;

/// Arguments: length, layers (0: all), threads. What is checked is the prompt's first part only if
/// reading all of it takes many seconds.
template <class M>
struct prefill {
  using E = typename M::engine_type;
  void operator()(benchmark::State& state, mamba_config config, weight_scheme scheme) const;
};
template <class M>
void prefill<M>::operator()(benchmark::State& state, mamba_config config,
                            weight_scheme scheme) const {
  const index_t length = state.range(0);
  if (state.range(1) > 0) config.n_layer = state.range(1);
  context_of<E> ctx(cpu_options{int(state.range(2))});
  const M& m = bench::model_of<M>(config, {scheme, 64});
  const auto ids = bench::some_tokens(1, length, m.config.vocab_size);
  const auto check = bench::once(state, 3,
                                 [&] {
                                   const index_t most = config.mixer.d_model <= 1024 ? 2048 : 128;
                                   return bench::prefill_equals_steps(
                                       ctx, m, bench::columns(ids, 0, std::min(length, most)), 4);
                                 },
                                 {config.mixer.d_model, int(scheme)});
  if (!check.ok) {
    state.SkipWithError(("wrong: " + check.where).c_str());
    return;
  }
  auto read = [&] {
    auto frame = ctx.scratch.make_frame();
    auto memory = m.make_state(1);
    const index_t part = generate_options{}.prefill_tokens;
    for (index_t from = 0; from < length; from += part) {
      auto inner = ctx.scratch.make_frame();
      const in_index<E, 2> some = std::as_const(ids).view();
      m.prefill(ctx, m.embed(ctx, some.slice(1, from, std::min(part, length - from))), memory);
    }
  };
  const bool bytes = packs_weights<E> && weight_format{scheme}.quantised();
  const bool tiles = sizeof(typename E::value) == 2 || bytes;
  auto probe = [&] {
    const double of_tiles = tiles ? bench::tile_probe(ctx, bytes) : 0;
    return of_tiles > 0 ? of_tiles
           : bytes      ? bench::byte_probe(ctx)
                        : bench::compute_probe<typename E::value>(ctx);
  };
  bench::times own, rate;
  read();
  for (auto _ : state) {
    rate.add(probe());
    const double t = bench::seconds_of(ctx, read);
    state.SetIterationTime(t);
    own.add(t);
    rate.add(probe());
  }
  ctx.tracing = true;
  const double traced = bench::seconds_of(ctx, read);
  double flops = 0, layers = traced, scan = 0;
  for (const auto& [name, total] : ctx.totals) {
    flops += total.flops;
    if (name.starts_with("ssd") || name.starts_with("selective_scan")) scan += total.seconds;
    // The head reads one row of the last token.
    if (name.ends_with("x" + std::to_string(m.vocabulary()))) layers -= total.seconds;
  }
  state.counters["tokens/s"] = double(length) / own.median();
  state.counters["GFLOP/s"] = flops * 1e-9 / own.median();
  if (rate.median() > 0)
    state.counters[bytes ? "of unit" : "of FMA"] = flops / own.median() / rate.median();
  state.counters["ssd of layer"] = scan / layers;
  state.counters["arena MB"] = double(ctx.scratch.peak()) * 1e-6;
  bench::report_shares(state, ctx, traced);
}

void sizes(benchmark::internal::Benchmark* b, const std::string& model) {
  b->ArgNames({"L", "layers", "threads"});
  for (int threads : {1, 2}) {
    // 760: a picture of 729 patches and a short question
    for (int length : {128, 512, 760, 2048, 8192}) b->Args({length, 0, threads});
    if (model == "mamba2_130m") b->Args({2048, 4, threads});  // the same in a sixth of the time
  }
}

}  // namespace

int main(int argc, char** argv) {
  bench::register_models<prefill>("prefill", sizes);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
