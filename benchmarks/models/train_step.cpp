// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// How many updates a second does the shipped recipe reach, in how much memory, and how near to the
// speed of arithmetic? Real scenes and questions, with noise for photos.
#include "mlmamba/models/connectors/scan.hpp"
#include "mlmamba/models/published/ml_mamba.hpp"
#include "mlmamba/text/tokenizer.hpp"
#include "mlmamba/train/garment_source.hpp"
#include "mlmamba/train/recipe.hpp"
#include "mlmamba/train/step.hpp"
#include "mlmamba/train/trainer.hpp"
#include "models/language.hpp"

namespace {

using namespace mlmamba;
using E = bench::traced_cpu<float>;
using model = ml_mamba<two_towers<E>, scan_connector<E>, mamba_lm<E>>;

/// Noise in place of the 60,000 photos, so that nothing has to be installed.
train::garment::source noise() {
  constexpr std::size_t photos = 200;
  train::garment::idx_file images{{photos, 28, 28}, {}}, labels{{photos}, {}};
  random_stream r{3, 0, 0};
  for (std::size_t i = 0; i < photos * train::garment::photo_pixels; ++i)
    images.bytes.push_back(std::uint8_t(r.uniform(0, 256)));
  for (std::size_t i = 0; i < photos; ++i) labels.bytes.push_back(std::uint8_t(i % 10));
  return make_source(train::garment::split::train, std::move(images), std::move(labels), "noise");
}

/// The recipe's model and batches.
struct run_of_recipe {
  json whole = read_json(MLMAMBA_BENCH_EXAMPLES "/garment_recipe.json");
  train::recipe recipe = train::recipe_from(whole, "garment_recipe.json");
  tokenizer words = tokenizer::parse(
      mapped_file(std::filesystem::path(MLMAMBA_BENCH_EXAMPLES "/garment_model/tokenizer.json"))
          .text(),
      "tokenizer.json");
  std::vector<train::update_batch> batches;

  run_of_recipe() {
    recipe.model["llm"]["vocab_size"] = words.size();
    train::batch_builder build;
    build.encode = [w = words](std::string_view text) { return w.encode(text); };
    build.chat = recipe.chat;
    build.labels = recipe.data.labels;
    build.towers = picture_rule(recipe.model, "recipe");
    build.max_length = recipe.data.max_length;
    build.micro_batch_size = recipe.micro_batch;
    build.padding = *words.eos();
    const auto scenes = train::garment_source(noise(), recipe.data.seed, recipe.data.garment);
    for (index_t u = 0; u < 4; ++u) {
      std::vector<std::uint64_t> numbers;
      for (index_t i = 0; i < recipe.batch; ++i)
        numbers.push_back(std::uint64_t(u * recipe.batch + i));
      batches.push_back(build(scenes, numbers));
    }
  }
  model make() const {
    model m = published<model>::make(recipe.model, "recipe");
    nn::initialise(m, {recipe.seed, 0, 0});
    m.llm_backbone.recompute = recipe.recompute;
    return m;
  }
};

/// Do 12 updates on one batch begin at the loss of guessing and lower it, and is the first the same
/// on one thread?
verify::difference learns(context_of<E>& ctx, const run_of_recipe& r) {
  auto losses = [&](context_of<E>& where, int updates) {
    model m = r.make();
    train::trainer<model, train::next_token_gradients> t(where, m, {}, r.recipe.training);
    std::vector<double> l;
    for (int i = 0; i < updates; ++i) l.push_back(t.update(r.batches[0]).loss);
    return l;
  };
  context_of<E> one(cpu_options{1});
  const auto l = losses(ctx, 12);
  const double guess = std::log(double(r.words.size()));
  verify::difference d;
  d.ok = std::abs(l.front() - guess) < 0.5 && l.back() < l.front() - 0.1 &&
         losses(one, 1).front() == l.front();
  d.where = "the loss goes from " + std::to_string(l.front()) + " to " + std::to_string(l.back());
  return d;
}

/// Arguments: threads.
void update(benchmark::State& state) {
  static const run_of_recipe r;
  context_of<E> ctx(cpu_options{int(state.range(0))});
  const auto check = bench::once(state, 1, [&] { return learns(ctx, r); });
  if (!check.ok) {
    state.SkipWithError(("wrong: " + check.where).c_str());
    return;
  }
  model m = r.make();
  train::trainer<model, train::next_token_gradients> t(ctx, m, {}, r.recipe.training);
  std::size_t next = 0;
  double tokens = 0;
  auto one_update = [&] {
    tokens += double(t.update(r.batches[next++ % r.batches.size()]).text_tokens);
  };
  for (int warm = 0; warm < 2; ++warm) one_update();  // these make memory
  bench::times own, rate;
  tokens = 0;
  double updates = 0;
  for (auto _ : state) {
    rate.add(bench::compute_probe<float>(ctx));
    const double s = bench::seconds_of(ctx, one_update);
    state.SetIterationTime(s);
    own.add(s);
    ++updates;
  }
  state.counters["updates/s"] = 1 / own.median();
  state.counters["text tokens/s"] = tokens / updates / own.median();
  state.counters["arena MB"] = double(ctx.scratch.peak()) * 1e-6;
  state.counters["parameters"] = double(nn::parameter_count(m));
  ctx.tracing = true;
  const double traced = bench::seconds_of(ctx, one_update);
  double flops = 0;
  for (const auto& [name, total] : ctx.totals) flops += total.flops;
  state.counters["GFLOP/s"] = flops * 1e-9 / own.median();
  if (rate.median() > 0) state.counters["of FMA"] = flops / own.median() / rate.median();
  bench::report_shares(state, ctx, traced);
}

BENCHMARK(update)
    ->Name("garment_update/cpu_f32")
    ->ArgNames({"threads"})
    ->Arg(1)
    ->Arg(2)
    ->Unit(benchmark::kMillisecond)
    ->UseManualTime();

}  // namespace

BENCHMARK_MAIN();
