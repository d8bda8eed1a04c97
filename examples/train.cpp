// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Trains a model that sees from pictures with conversations, tests it on others, and writes it.
//
//   train --config examples/garment_recipe.json --out run
//   train --config examples/garment_recipe.json --out run --resume --minutes 9
//   train --config my.json --data chat.json --images pictures --test test.json --out run
//   train --config my.json --llava chat.json --images pictures --stage align --out aligned
//   train --config my.json --dataset llava-v15 --stage finetune --from aligned/model --out tuned
//   train --model.type mlmamba+3b --dataset.type llava-v15 --stage finetune
//
// The same run in pieces (--minutes, or Ctrl-C, then --resume) ends with the same bits as in one
// go, on any number of threads. (train_cuda: on one kind of GPU.) For another machine, in one file:
//   g++ -std=c++20 -O3 -static -Iinclude examples/train.cpp -o train -ljpeg -lpng -lz -lutf8proc
#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <optional>
#include <string>
#include <thread>

#include "mlmamba/io/output_folder.hpp"
#include "mlmamba/models/connectors/any.hpp"
#include "mlmamba/models/published/ml_mamba.hpp"
#include "mlmamba/text/tokenizer.hpp"
#include "mlmamba/train/evaluate.hpp"
#include "mlmamba/train/export.hpp"
#include "mlmamba/train/prefetch.hpp"
#include "mlmamba/train/recipe.hpp"
#include "mlmamba/train/stage_metrics.hpp"
#include "mlmamba/train/step.hpp"
#include "mlmamba/train/trainer.hpp"
#include "train_options.hpp"
#include "training_program.hpp"

namespace train = mlmamba::train;
using mlmamba::index_t, mlmamba::json;
using mlmamba::examples::interrupted, mlmamba::examples::run_training;
using namespace train_program;

namespace {

using E = mlmamba::examples::training_engine;
template <class Vision, class Connector>
using model_of = mlmamba::ml_mamba<Vision, Connector, mlmamba::mamba_lm<E>>;
using one_tower = mlmamba::vit<E>;
using two_towers = mlmamba::fused<one_tower, one_tower>;

void print_size(const char* name, index_t parameters) {
  std::fprintf(stderr, "  %-16s %10lld parameters\n", name, static_cast<long long>(parameters));
}

// Accuracies for the metrics: one number per type, and all.
json short_report(const train::vqa_report& r) {
  json j{{"all", r.all.value()}, {"all_short", r.all_short.value()}};
  for (const auto& row : r.rows)
    if (row.kind.empty()) j[row.type] = row.exact.value();
  return j;
}

template <class Model>
int run(const settings& s, train::recipe r, const json& recipe, train::data_source source,
        std::optional<train::stage_plan> plan) {
#if defined(__CUDACC__)
  mlmamba::context_of<E> ctx(mlmamba::cuda_options{.device = s.device});
  const std::string where = "GPU " + std::to_string(s.device);
#else
  mlmamba::context_of<E> ctx(mlmamba::cpu_options{.threads = s.threads});
  const std::string where = std::to_string(ctx.threads.size()) + " threads";
#endif
  const std::filesystem::path out = s.out;
  r.training.folder = out;
  r.training.minutes = s.minutes;

  if (!plan) source = train::source_of(r);
  const bool there = !train::saved_run(out / "checkpoints").steps().empty();
  if (there && !s.resume && !s.evaluate)
    mlmamba::fail(out.string(), " has a run; --resume or another --out is wanted");
  const auto words_file = out / "tokenizer.json";
  std::string words_text, words_from = words_file.string();
  if (there && std::filesystem::exists(words_file)) {
    words_text = mlmamba::mapped_file(words_file).text();
  } else if (r.tokenizer_file.empty()) {
    words_text = train::vocabulary_of(r, source);
  } else {
    words_from = r.tokenizer_file;
    words_text = mlmamba::mapped_file(words_from).text();
  }
  const auto words = mlmamba::tokenizer::parse(words_text, words_from);
  if (!words.eos()) mlmamba::fail(words_from, ": there is no <|endoftext|>; it is needed");

  const std::string who = name_of_recipe(s);
  const auto parts = train::parts_from(train::detail::part_of(r.whole, "parts"), who + ": parts");
  r.model["llm"] = mlmamba::language_config_from(r.model, who);
  if (!parts.any() || !mlmamba::json_has(r.model["llm"], "vocab_size"))
    r.model["llm"]["vocab_size"] = words.size();
  Model model = mlmamba::published<Model>::make(r.model, who);
  if (words.size() > model.llm_backbone.config.padded_vocabulary())
    mlmamba::fail(words_from, ": ", words.size(), " tokens; the language model has ",
                  model.llm_backbone.config.padded_vocabulary());
  train::load_parts(model, parts, r.model, r.seed, who);
  model.llm_backbone.recompute = r.recompute;
  for (const std::string& prefix : r.freeze) mlmamba::nn::freeze(model, prefix);
  const auto towers = mlmamba::picture_rule(r.model, who);

  r.training.config["source"] = source.name;
  r.training.config["tokenizer_hash"] = std::to_string(mlmamba::hash(words_text));
  const train::sampler order(source, r.batch, train::sampling_of(r.data.sampling), r.seed,
                             plan ? 1 : 8, r.ranks);
  std::optional<train::stage_metrics> records;  // made when it is known where the run goes on
  std::optional<train::progress> status;
  if (plan) {
    const train::trainer_options o = plan->training(source.size);
    r.training.config["stage"] = train::name_of(plan->stage);
    r.training.epoch_updates = order.epoch_batches();  // pictures and texts fill batches apart
    r.training.checkpoint_minutes = o.checkpoint_minutes;
    r.training.show = false;
    r.training.record = [&](const train::update_record& u, double next_rate) {
      records->add(u, next_rate);
      (*status)(u.step, records->status());
    };
  }
  train::trainer<Model, train::next_token_gradients> t(ctx, model, {}, r.training);
  if (there) t.resume();
  if (!there && s.evaluate && !parts.any())
    mlmamba::fail(out.string(), ": no checkpoint; a run, or weights to begin with, are wanted");
  if (!t.finished()) (void)source.get(0);
  if (!t.finished() && !s.evaluate) train::check_pictures(source);
  if (!r.test.source.empty())
    if (const train::vqa_set set = train::test_of(r); set.scenes > 0) {
      (void)set.get(0);
      train::check_pictures(set);
    }

  // All makes sense: from here on files are written.
  mlmamba::output_folder made(out);
  mlmamba::write_file(words_file, words_text);
  made.keep();

  std::fprintf(stderr, "%s, %lld updates of %lld, %s\n", source.name.c_str(),
               static_cast<long long>(r.training.rate.steps), static_cast<long long>(r.batch),
               where.c_str());
  print_size("vision", mlmamba::nn::parameter_count(model.vision_backbone));
  print_size("connector", mlmamba::nn::parameter_count(model.connector));
  print_size("language", mlmamba::nn::parameter_count(model.llm_backbone));
  print_size("all", mlmamba::nn::parameter_count(model));

  train::answer_options ask;
  ask.chat = r.chat;
  ask.towers = towers;
  ask.max_tokens = r.max_tokens;
  const auto test = [&](std::uint64_t scenes, train::shown show) {
    ask.show = show;
    const train::vqa_set set = train::test_of(r, scenes);
    train::progress bar("scene", index_t(set.scenes), 0, index_t(set.scenes));
    return train::score_answers(
        train::answer_all(ctx, model, words, set, ask,
                          [&](std::uint64_t n) { bar(index_t(n), train::name_of(show)); }));
  };

  if (!s.evaluate && !t.finished()) {
    train::batch_builder build;
    build.encode = [words](std::string_view text) { return words.encode(text); };
    build.chat = r.chat;
    build.labels = r.data.labels;
    build.towers = towers;
    build.max_length = r.data.max_length;
    build.micro_batch_size = r.micro_batch;
    build.padding = *words.eos();
    if (plan) {
      build.cut = train::cutting::in_order;
      records.emplace(out, run_name(s, r.seed), plan->stage, r.training.config, t.state().updates);
      status.emplace("update", r.training.rate.steps, t.state().updates, r.training.log_every);
    }
    train::prefetcher batches(source, order, build, t.state().updates, s.prefetch);
    const index_t first = t.state().updates;
    std::chrono::steady_clock::time_point begin;
    t.run(
        [&] {
          // The first updates still make memory; those after them are what a run consists of.
          const index_t done = t.state().updates - first;
          if (s.profile > 0 && done == 3) {
            ctx.tracing = true;
            begin = std::chrono::steady_clock::now();
          }
          if (ctx.tracing && done == 3 + s.profile) {
            ctx.tracing = false;
            const double seconds =
                std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
            std::fprintf(stderr, "\n%lld updates, %.3f s each\n%s\n",
                         static_cast<long long>(s.profile), seconds / double(s.profile),
                         ctx.table(seconds).c_str());
          }
          return batches.next();
        },
        [&](index_t step) {
          const auto report = test(std::uint64_t(r.evaluate_scenes), train::shown::pictures);
          std::fprintf(stderr, "update %lld: %s\n", static_cast<long long>(step),
                       short_report(report).dump().c_str());
          return json{{"test", short_report(report)}};
        },
        [] { return interrupted.load(); });
    std::fprintf(stderr, "%lld of %lld updates, %s of training\n",
                 static_cast<long long>(t.state().updates),
                 static_cast<long long>(r.training.rate.steps),
                 train::duration_text(t.state().seconds).c_str());
    if (!t.finished()) {
      std::fprintf(stderr, "train: not finished; go on with --resume\n");
      return 3;
    }
  }

  // The numbers are those of the model that is written. (The checkpoint has all bits.)
  const auto stored = s.weights == "bf16" ? train::stored::bf16 : train::stored::f32;
  train::round_as_stored(model, stored);

  nlohmann::ordered_json metrics;
  if (!s.commit.empty()) metrics["commit"] = s.commit;
  metrics["updates"] = t.state().updates;
  metrics["training_seconds"] = t.state().seconds;
  metrics["text_tokens"] = t.state().text_tokens;
  metrics["parameters"] = mlmamba::nn::parameter_count(model);
  if (!r.test.source.empty()) {
    using train::shown;
    for (const shown show : {shown::pictures, shown::shuffled, shown::nothing}) {
      if (show != shown::pictures && s.no_controls) continue;
      const auto report = test(0, show);
      std::printf("shown %s\n%s\n", std::string(train::name_of(show)).c_str(),
                  train::to_table(report).c_str());
      metrics[std::string(train::name_of(show))] = train::to_json(report);
    }
  }
  std::map<std::string, std::string> note{{"updates", std::to_string(t.state().updates)}};
  if (!s.commit.empty()) note["commit"] = s.commit;
  json more{{"chat_format", mlmamba::name_of(r.chat)}};
  for (const char* key : {"image_resize_strategy", "llm_max_length", "model_id"})
    if (mlmamba::json_has(r.model, key)) more[key] = r.model.at(key);
  more["vision"] = mlmamba::published<Model>::config(model)["vision"];
  mlmamba::keep_picture_rule(more["vision"], r.model, who);
  train::export_model(model, out / "model", stored, more, words_text, note);
  mlmamba::write_file(out / "model" / "metrics.json", metrics.dump(1) + "\n");
  mlmamba::write_file(out / "model" / "recipe.json", recipe.dump(1) + "\n");
  std::fprintf(stderr, "train: wrote %s\n", (out / "model").string().c_str());
  return 0;
}

int choose(settings s, const CLI::App& app) {
  check_options(app, s);
  json j = recipe_json(s);
  const std::string who = name_of_recipe(s);
  train::data_source source;
  std::optional<train::stage_plan> plan;
  if (!s.stage.empty()) {
    plan = train::plan_from(j, train::stage_of(s.stage), who);
    const json data = train::detail::part_of(j, "data");
    s.data = mlmamba::json_get<std::string>(data, "source", who);
    if (s.out.empty())
      s.out = (std::filesystem::path(s.run_root) / run_name(s, plan->seed)).string();
    if (wants_connector(j, s, *plan))
      j["parts"]["connector"] = train::aligned_connector(s.out, model_name(s), plan->seed).string();
    source = train::read_llava(s.data, mlmamba::json_get_or<std::string>(data, "images", "", who));
    j = train::recipe_of(j, *plan, source.size, who);
  }
  if (s.out.empty()) mlmamba::fail("no --out; the folder of the run is wanted");
  const train::recipe r = train::recipe_from(j, who);
  check_options(app, r);
  const auto towers = mlmamba::towers_from(r.model, who).size();
#if defined(MLMAMBA_TRAIN_ONE)  // one composition alone compiles in less time
  using scan = mlmamba::scan_connector<E>;
  if (towers == 2) return run<model_of<two_towers, scan>>(s, r, j, source, plan);
  mlmamba::fail(towers, " towers; compiled are 2 with ", scan::kind);
#else
  using any = mlmamba::any_connector<E>;
  if (towers == 1) return run<model_of<one_tower, any>>(s, r, j, source, plan);
  if (towers == 2) return run<model_of<two_towers, any>>(s, r, j, source, plan);
  mlmamba::fail(towers, " towers; 1 or 2 are wanted");
#endif
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app{
      "Trains a model that answers questions about pictures, tests it, and writes it to "
      "OUT/model.\n"
      "OUT also gets metrics.jsonl, tokenizer.json and checkpoints; with --stage RUN.jsonl too.\n"
      "Exit code: 0 finished, 1 failed, 2 bad option or input, 3 stopped before the end."};
  add_options(app, s);
  return run_training("train", app, argc, argv, [&] { return choose(s, app); });
}
