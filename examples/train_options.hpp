// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The options of train, and the recipe that they and a file make.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "mlmamba/models/published/resolve.hpp"
#include "mlmamba/train/parts.hpp"
#include "mlmamba/train/preset_recipe.hpp"
#include "mlmamba/train/stage_recipe.hpp"
#include "program.hpp"
#include "training_program.hpp"

namespace train_program {

namespace train = mlmamba::train;
using mlmamba::json;

struct settings {
  std::string config, out, data, images, test, test_images, commit, weights = "bf16";
  std::string stage, dataset, root = "data", from, language, connector, tokenizer;
  std::vector<std::string> vision;
  std::string model, run_root = "runs", run_id, token_from;
  std::map<std::string, std::string> fields;  // of the model, in the original's names
  std::int64_t steps = 0, batch = 0, micro_batch = 0, profile = 0;
  std::int64_t seed = -1, test_scenes = 0;
  double learning_rate = -1, minutes = 0;
  int threads = 0, device = 0;
  int prefetch = mlmamba::examples::usual_prefetch;
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

/// Who is meant in errors about the recipe.
inline std::string name_of_recipe(const settings& s) {
  return s.config.empty() ? "--model.type " + s.model : s.config;
}

/// By its id, else by the recipe's file.
inline std::string model_name(const settings& s) {
  return s.model.empty() ? std::filesystem::path(s.config).stem().string() : s.model;
}
/// What a stage's run is called.
inline std::string run_name(const settings& s, std::uint64_t seed) {
  if (!s.run_id.empty()) return s.run_id;
  const std::filesystem::path data = s.data;
  return train::run_name(model_name(s), s.dataset.empty() ? data.stem().string() : s.dataset,
                         train::stage_of(s.stage), seed);
}

/// Does fine-tuning look for an aligned connector by itself?
inline bool wants_connector(const json& recipe, const settings& s, const train::stage_plan& plan) {
  const std::string who = name_of_recipe(s);
  const auto parts = train::parts_from(train::detail::part_of(recipe, "parts"), who);
  return plan.stage != train::stage::align && parts.from.empty() && parts.connector.empty() &&
         train::wants_alignment(mlmamba::json_at(recipe, "model", who), who);
}

/// The recipe of --model.type, with the file's members in place of its own.
inline json recipe_begin(const settings& s) {
  if (s.model.empty()) {
    if (s.config.empty()) mlmamba::fail("no recipe; --config or --model.type is wanted");
    if (!s.fields.empty())
      mlmamba::fail("--model.", s.fields.begin()->first, " wants a --model.type");
    return mlmamba::read_json(s.config);
  }
  if (s.stage.empty()) mlmamba::fail("--model.type wants a --stage");
  const train::preset_fields fields(s.fields.begin(), s.fields.end());
  const auto preset = train::with_fields(mlmamba::preset::model_of(s.model), fields);
  json j = train::recipe_of(preset, train::stage_of(s.stage));
  if (!s.config.empty()) j.merge_patch(mlmamba::read_json(s.config));
  // Weights are those that are published, where none are given.
  json parts = train::detail::part_of(j, "parts");
  if (!s.from.empty() || mlmamba::json_has(parts, "from")) return j;
  const auto published = [&](const std::string& id) {
    return mlmamba::resolve(id, s.token_from).string();
  };
  if (s.language.empty() && !mlmamba::json_has(parts, "language"))
    parts["language"] = published(std::string(preset.llm_backbone_id));
  if (s.vision.empty() && !mlmamba::json_has(parts, "vision"))
    parts["vision"] = {published(std::string(preset.vision_backbone_id))};
  j["parts"] = parts;
  return j;
}

/// The language model's config and the tokenizer, where the parts have them and the recipe has not.
inline void complete_from_parts(json& j, const settings& s) {
  namespace fs = std::filesystem;
  const std::string who = name_of_recipe(s);
  const auto parts = train::parts_from(train::detail::part_of(j, "parts"), who + ": parts");
  std::error_code none;
  const auto beside = [&](const fs::path& p) {
    return fs::is_regular_file(p, none) ? p.parent_path() : p;
  };
  if (!parts.language.empty() && !mlmamba::json_has(j["model"], "llm"))
    j["model"]["llm"] = mlmamba::read_json(beside(parts.language) / "config.json");
  if (mlmamba::json_has(train::detail::part_of(j, "tokenizer"), "file")) return;
  const auto take = [&](const fs::path& folder) {
    if (!fs::is_regular_file(folder / "tokenizer.json", none))
      mlmamba::fail(folder.string(), ": it has no tokenizer.json; --tokenizer FILE is wanted");
    j["tokenizer"] = {{"file", (folder / "tokenizer.json").string()}};
  };
  if (!parts.from.empty())
    take(mlmamba::checkpoint(parts.from).folder());
  else if (!parts.language.empty())
    take(beside(parts.language));
}

/// Errors    error if an option has no effect with the others, or without one
inline void check_options(const CLI::App& app, const settings& s) {
  using mlmamba::examples::no_use_of;
  if (s.stage.empty())
    no_use_of(app, {"--run_root_dir", "--run_id"}, "without a --stage; one is wanted");
  if (s.dataset.empty()) no_use_of(app, {"--root"}, "without a --dataset; one is wanted");
  if (s.evaluate)
    no_use_of(app, {"--minutes", "--profile"}, "with --evaluate, which trains nothing");
  if (!s.token_from.empty()) (void)mlmamba::find_hub_token(s.token_from);  // also if not needed
}
/// The same, of what the recipe decides.
inline void check_options(const CLI::App& app, const train::recipe& r) {
  using mlmamba::examples::no_use_of;
  if (r.data.is_garment()) no_use_of(app, {"--images"}, "on garments; a list as --data is wanted");
  if (r.test.source.empty())
    no_use_of(app, {"--test-images", "--test-scenes", "--no-controls"},
              "without a test; --test is wanted");
  if (r.test.is_garment())
    no_use_of(app, {"--test-images"}, "on garments; a list as --test is wanted");
}

/// The recipe; flags win over the file.
inline json recipe_json(const settings& s) {
  json j = recipe_begin(s);
  const auto set = [&](const char* part, const char* key, bool given, const json& value) {
    if (given) j[part][key] = value;
  };
  const train::llava_paths data = data_of(s);
  set("data", "source", !data.annotations.empty(), data.annotations.string());
  set("data", "images", !data.images.empty(), data.images.string());
  set("test", "source", !s.test.empty(), s.test);
  set("test", "images", !s.test_images.empty(), s.test_images);
  set("test", "scenes", s.test_scenes > 0, s.test_scenes);
  if (s.steps > 0) train::set_steps(j, s.steps, name_of_recipe(s));
  set("training", "batch", s.batch > 0, s.batch);
  set("training", "micro_batch", s.micro_batch > 0, s.micro_batch);
  if (!s.model.empty() && s.batch > 0 && s.micro_batch == 0)
    j["training"]["micro_batch"] =
        std::min(s.batch, mlmamba::json_get_or<std::int64_t>(j["training"], "micro_batch", s.batch,
                                                             name_of_recipe(s)));
  set("training", "learning_rate", !(s.learning_rate < 0), s.learning_rate);
  set("training", "seed", s.seed >= 0, s.seed);
  set("tokenizer", "file", !s.tokenizer.empty(), s.tokenizer);
  set("parts", "from", !s.from.empty(), s.from);
  set("parts", "vision", !s.vision.empty(), s.vision);
  set("parts", "connector", !s.connector.empty(), s.connector);
  if (!s.language.empty()) j["parts"]["language"] = mlmamba::resolve(s.language, s.token_from);
  complete_from_parts(j, s);
  return j;
}

inline void add_options(CLI::App& app, settings& s) {
  app.add_option("--config", s.config, "The recipe (JSON)");
  app.add_option("--model.type", s.model,
                 "Id of a model (see models): the recipe that the original trains it with. What "
                 "--config has goes before");
  for (const std::string& name : train::preset_field_names())
    app.add_option_function<std::string>(
           "--model." + name, [&s, name](const std::string& value) { s.fields[name] = value; })
        ->group("Fields of --model.type");
  app.add_option(
      "--out", s.out,
      "Folder of the run; without it, with --stage: RUNS/[DATA+]MODEL+stage-STAGE+xSEED");
  app.add_option("--run_root_dir", s.run_root, "RUNS")->capture_default_str();
  app.add_option("--run_id", s.run_id, "Name of the run, in place of the one made of its parts");
  app.add_option("--data,--llava", s.data,
                 "LLaVA-style JSON, or garment:FOLDER with the IDX files");
  app.add_option("--images", s.images, "Folder of its pictures");
  app.add_option("--stage", s.stage,
                 "align, finetune or full-finetune: freezes, orders and learns as the original "
                 "does, with its numbers where the recipe has none");
  app.add_option("--dataset,--dataset.type", s.dataset,
                 "llava-v15, ...: --data and --images of the stage");
  app.add_option("--root,--dataset.dataset_root_dir", s.root, "Folder of the data sets")
      ->capture_default_str();
  app.add_option("--from,--pretrained_checkpoint", s.from,
                 "Begin with the weights of this model (a folder, or the original's .pt), and its "
                 "tokenizer");
  app.add_option("--language", s.language,
                 "Or with this language model: a folder, or an id or repository of the hub");
  app.add_option("--vision", s.vision, "and timm's files of the towers, in these folders")
      ->check(mlmamba::examples::folder_problem);
  app.add_option("--connector", s.connector,
                 "and an aligned connector: a file of weights. Else fine-tuning takes that of the "
                 "aligned run beside its own if arch_specifier doesn't begin with no-align, and "
                 "otherwise a new one");
  app.add_option("--tokenizer", s.tokenizer, "tokenizer.json, where the weights are without one");
  app.add_option("--hf_token", s.token_from,
                 "Where the token for downloads is: a file, or the name of a variable");
  app.add_option("--test", s.test, "Questions held out: the same kinds");
  app.add_option("--test-images", s.test_images, "Folder of their pictures");
  app.add_option("--test-scenes", s.test_scenes, "How many pictures are tested")
      ->check(CLI::Range(1, mlmamba::examples::most));
  app.add_option("--steps", s.steps, "Updates")->check(CLI::Range(1, mlmamba::examples::most));
  app.add_option("--batch", s.batch, "Conversations per update")
      ->check(CLI::Range(1, mlmamba::examples::most));
  app.add_option("--micro-batch", s.micro_batch, "Conversations at once")
      ->check(CLI::Range(1, mlmamba::examples::most));
  app.add_option("--learning-rate", s.learning_rate, "Peak")->check(CLI::Range(0.0, 1e9));
  app.add_option("--seed", s.seed, "Of the weights and of the order of data")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 62));
  app.add_option("--minutes", s.minutes, "Stop with a checkpoint before this time is over")
      ->check(CLI::Range(0.0, 1e9));
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
  app.add_option("--profile", s.profile, "Print a table of all ops over this many updates")
      ->check(CLI::Range(0, mlmamba::examples::most));
  app.add_flag("--resume", s.resume, "Go on from the newest checkpoint in OUT, if there is one");
  app.add_flag("--evaluate", s.evaluate, "Don't train: test and write what the checkpoint has");
  app.add_flag("--no-controls", s.no_controls, "Test with the right pictures only");
}

}  // namespace train_program
