// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The options of train, and the recipe that they and a file make.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "mlmamba/train/stage_recipe.hpp"

namespace train_program {

namespace train = mlmamba::train;
using mlmamba::json;

struct settings {
  std::string config, out, data, images, test, test_images, commit, weights = "bf16";
  std::string stage, dataset, root = "data", from;
  std::int64_t steps = 0, batch = 0, micro_batch = 0, profile = 0;
  std::int64_t seed = -1, test_scenes = 0;
  double learning_rate = -1, minutes = 0;
  int threads = 0, device = 0, prefetch = 1;
  bool resume = false, evaluate = false, no_controls = false;
};

/// The list of conversations, and the folder of its pictures.
inline train::llava_paths data_of(const settings& s) {
  if (s.dataset.empty()) return {s.data, s.images};
  if (s.stage.empty() || !s.data.empty() || !s.images.empty())
    mlmamba::fail("--dataset wants a --stage, and neither --data nor --images");
  const train::llava_set& set = train::llava_set_of(s.dataset);
  return train::stage_of(s.stage) == train::stage::align ? set.align(s.root) : set.finetune(s.root);
}

/// The recipe; flags win over the file.
inline json recipe_json(const settings& s) {
  json j = mlmamba::read_json(s.config);
  const auto set = [&](const char* part, const char* key, bool given, const json& value) {
    if (given) j[part][key] = value;
  };
  const train::llava_paths data = data_of(s);
  set("data", "source", !data.annotations.empty(), data.annotations.string());
  set("data", "images", !data.images.empty(), data.images.string());
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

inline void add_options(CLI::App& app, settings& s) {
  app.add_option("--config", s.config, "The recipe (JSON)")->required();
  app.add_option("--out", s.out, "Folder of the run")->required();
  app.add_option("--data,--llava", s.data,
                 "LLaVA-style JSON, or garment:FOLDER with the IDX files");
  app.add_option("--images", s.images, "Folder of its pictures");
  app.add_option("--stage", s.stage,
                 "align, finetune or full-finetune: freezes, orders and learns as the original "
                 "does, with its numbers where the recipe has none");
  app.add_option("--dataset", s.dataset, "llava-v15, ...: --data and --images of the stage");
  app.add_option("--root", s.root, "Folder of the data sets")->capture_default_str();
  app.add_option("--from", s.from, "Begin with the weights of this model, and its tokenizer");
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
}

}  // namespace train_program
