// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Trains a model that sees from pictures with conversations, tests it on others, and writes it.
//
//   train --config examples/garment_recipe.json --out run
//   train --config examples/garment_recipe.json --out run --resume --minutes 9
//   train --config my.json --data chat.json --images pictures --test test.json --out run
//
// The same run in pieces (--minutes, or Ctrl-C, then --resume) ends with the same bits as in one
// go, on any number of threads. (train_cuda: on one kind of GPU.) For another machine, in one file:
//   g++ -std=c++20 -O3 -static -Iinclude examples/train.cpp -o train -ljpeg -lpng -lz -lutf8proc
#include <CLI/CLI.hpp>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <map>
#include <string>
#include <thread>

#if defined(__CUDACC__)
#include "mlmamba/cuda.cuh"
#else
#include "mlmamba/backend/cpu.hpp"
#endif
#include "mlmamba/backend/traced.hpp"
#include "mlmamba/models/connectors/any.hpp"
#include "mlmamba/models/published/ml_mamba.hpp"
#include "mlmamba/text/tokenizer.hpp"
#include "mlmamba/train/evaluate.hpp"
#include "mlmamba/train/export.hpp"
#include "mlmamba/train/prefetch.hpp"
#include "mlmamba/train/recipe.hpp"
#include "mlmamba/train/step.hpp"
#include "mlmamba/train/trainer.hpp"

namespace train = mlmamba::train;
using mlmamba::index_t, mlmamba::json;

namespace {

#if defined(__CUDACC__)  // train_cuda: the same file, on a GPU
using device = mlmamba::backend::cuda;
#else
using device = mlmamba::backend::cpu;
#endif
using E = mlmamba::on<mlmamba::backend::traced<device>, float>;
template <class Vision, class Connector>
using model_of = mlmamba::ml_mamba<Vision, Connector, mlmamba::mamba_lm<E>>;
using one_tower = mlmamba::vit<E>;
using two_towers = mlmamba::fused<one_tower, one_tower>;

std::atomic<bool> interrupted{false};

struct settings {
  std::string config, out, data, images, test, test_images, commit, weights = "bf16";
  std::int64_t steps = 0, batch = 0, micro_batch = 0, profile = 0;
  std::int64_t seed = -1, test_scenes = 0;
  double learning_rate = -1, minutes = 0;
  int threads = 0, device = 0, prefetch = 1;
  bool resume = false, evaluate = false, no_controls = false;
};

// Flags win over the file.
json recipe_json(const settings& s) {
  json j = mlmamba::read_json(s.config);
  const auto set = [&](const char* part, const char* key, bool given, const json& value) {
    if (given) j[part][key] = value;
  };
  set("data", "source", !s.data.empty(), s.data);
  set("data", "images", !s.images.empty(), s.images);
  set("test", "source", !s.test.empty(), s.test);
  set("test", "images", !s.test_images.empty(), s.test_images);
  set("test", "scenes", s.test_scenes > 0, s.test_scenes);
  if (s.steps > 0) train::set_steps(j, s.steps, s.config);
  set("training", "batch", s.batch > 0, s.batch);
  set("training", "micro_batch", s.micro_batch > 0, s.micro_batch);
  set("training", "learning_rate", s.learning_rate >= 0, s.learning_rate);
  set("training", "seed", s.seed >= 0, s.seed);
  return j;
}

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
int run(const settings& s, train::recipe r) {
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

  const train::data_source source = train::source_of(r);
  std::error_code code, ignored;
  std::filesystem::create_directories(out, code);
  if (!std::filesystem::is_directory(out, ignored))
    mlmamba::fail("--out ", out.string(), " can't be made a folder (",
                  code ? code.message() : "a file is there", ")");
  const auto words_file = out / "tokenizer.json";
  std::string words_text;
  if (std::filesystem::exists(words_file)) {
    words_text = mlmamba::mapped_file(words_file).text();
  } else {
    words_text = r.tokenizer_file.empty()
                     ? train::vocabulary_of(r, source)
                     : std::string(mlmamba::mapped_file(r.tokenizer_file).text());
    mlmamba::write_file(words_file, words_text);
  }
  const auto words = mlmamba::tokenizer::parse(words_text, words_file.string());
  if (!words.eos()) mlmamba::fail("the tokenizer has no <|endoftext|>; it is needed");

  r.model["llm"]["vocab_size"] = words.size();
  Model model = mlmamba::published<Model>::make(r.model, s.config);
  mlmamba::nn::initialise(model, {r.seed, 0, 0});
  model.llm_backbone.recompute = r.recompute;
  for (const std::string& prefix : r.freeze) mlmamba::nn::freeze(model, prefix);
  const auto towers = mlmamba::picture_rule(r.model, s.config);

  r.training.config["source"] = source.name;
  r.training.config["tokenizer_hash"] = std::to_string(mlmamba::hash(words_text));
  train::trainer<Model, train::next_token_gradients> t(ctx, model, {}, r.training);
  const bool there = !train::saved_run(out / "checkpoints").steps().empty();
  if (there && !s.resume && !s.evaluate)
    mlmamba::fail(out.string(), " has a run; --resume or another --out is wanted");
  if (there) t.resume();

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
    train::prefetcher batches(
        source, train::sampler(source, r.batch, train::sampling_of(r.data.sampling), r.seed), build,
        t.state().updates, s.prefetch);
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
  const auto stored = s.weights == "bf16" ? train::stored::bf16 : train::stored::f32;
  train::export_model(model, out / "model", stored, {{"chat_format", mlmamba::name_of(r.chat)}},
                      words_text, note);
  mlmamba::write_file(out / "model" / "metrics.json", metrics.dump(1) + "\n");
  mlmamba::write_file(out / "model" / "recipe.json", recipe_json(s).dump(1) + "\n");
  std::fprintf(stderr, "train: wrote %s\n", (out / "model").string().c_str());
  return 0;
}

int choose(const settings& s) {
  const train::recipe r = train::recipe_from(recipe_json(s), s.config);
  const auto towers = mlmamba::towers_from(r.model, s.config).size();
#if defined(MLMAMBA_TRAIN_ONE)  // one composition alone compiles in less time
  using scan = mlmamba::scan_connector<E>;
  if (towers == 2) return run<model_of<two_towers, scan>>(s, r);
  mlmamba::fail(towers, " towers; compiled are 2 with ", scan::kind);
#else
  using any = mlmamba::any_connector<E>;
  if (towers == 1) return run<model_of<one_tower, any>>(s, r);
  if (towers == 2) return run<model_of<two_towers, any>>(s, r);
  mlmamba::fail(towers, " towers; 1 or 2 are wanted");
#endif
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app{
      "Trains a model that answers questions about pictures, tests it, and writes it to "
      "OUT/model.\n"
      "OUT also gets metrics.jsonl, tokenizer.json and checkpoints.\n"
      "Exit code: 0 finished, 1 failed, 2 bad option or input, 3 stopped before the end."};
  app.add_option("--config", s.config, "The recipe (JSON)")->required();
  app.add_option("--out", s.out, "Folder of the run")->required();
  app.add_option("--data", s.data, "LLaVA-style JSON, or garment:FOLDER with the IDX files");
  app.add_option("--images", s.images, "Folder of its pictures");
  app.add_option("--test", s.test, "Questions held out: the same kinds");
  app.add_option("--test-images", s.test_images, "Folder of their pictures");
  app.add_option("--test-scenes", s.test_scenes, "How many pictures are tested");
  app.add_option("--steps", s.steps, "Updates");
  app.add_option("--batch", s.batch, "Conversations per update");
  app.add_option("--micro-batch", s.micro_batch, "Conversations at once");
  app.add_option("--learning-rate", s.learning_rate, "Peak");
  app.add_option("--seed", s.seed, "Of the weights and of the order of data");
  app.add_option("--minutes", s.minutes, "Stop with a checkpoint before this time is over");
#if defined(__CUDACC__)
  app.add_option("--device", s.device, "Number of the GPU")->capture_default_str();
#else
  app.add_option("--threads", s.threads, "Of the model (0: all); never changes a result");
#endif
  app.add_option("--prefetch", s.prefetch, "Threads that make batches; never changes a result")
      ->check(CLI::Range(0, 64))
      ->capture_default_str();
  app.add_option("--weights", s.weights, "How matrices are written")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->capture_default_str();
  app.add_option("--commit", s.commit, "Of the sources: noted in the model and its metrics");
  app.add_option("--profile", s.profile, "Print a table of all ops over this many updates");
  app.add_flag("--resume", s.resume, "Go on from the newest checkpoint in OUT, if there is one");
  app.add_flag("--evaluate", s.evaluate, "Don't train: test and write what the checkpoint has");
  app.add_flag("--no-controls", s.no_controls, "Test with the right pictures only");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  std::signal(SIGINT, [](int) { interrupted = true; });
  std::signal(SIGTERM, [](int) { interrupted = true; });
  try {
    return choose(s);
  } catch (const mlmamba::error& e) {
    std::fprintf(stderr, "train: %s\n", e.what());
    return 2;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "train: %s\n", e.what());
    return 1;
  }
}
