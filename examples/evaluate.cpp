// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Scores a model on a benchmark of questions about pictures.
//
//   evaluate --dataset garment
//   evaluate --model ml-mamba --dataset vqa-v2-slim --data coco --batch 32
//
// Answers are written as they come; the same command goes on where it was stopped.
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "loaded_model.hpp"
#include "mlmamba/evaluate/answer.hpp"
#include "mlmamba/evaluate/datasets.hpp"
#include "mlmamba/evaluate/results_file.hpp"
#include "mlmamba/evaluate/scores.hpp"
#include "mlmamba/io/output_folder.hpp"
#include "mlmamba/models/published/resolve.hpp"
#include "mlmamba/models/published/tower_files.hpp"
#include "mlmamba/train/progress.hpp"
#include "program.hpp"
#include "weight_settings.hpp"

using namespace mlmamba;

namespace {

struct settings {
  std::string model = MLMAMBA_SHIPPED_MODEL, dataset, data, results = "results";
  std::vector<std::filesystem::path> vision;
  std::size_t limit = 0;
  evaluate::answer_options answers;
  examples::weight_settings held;
  int threads = 0;
};

/// Has the model answer what is not answered yet.
void ask(const checkpoint& files, const evaluate::dataset& set,
         const std::vector<std::size_t>& open, const settings& s, evaluate::results_file& results,
         output_folder& folder) {
  const auto model = examples::load_model(files, options_of(s.held), s.threads);
  index_t answered = index_t(set.questions.size() - open.size());
  train::progress bar("question", index_t(set.questions.size()), answered);
  model->answer(set, open, s.answers, [&](std::size_t i, evaluate::answer a) {
    results.add(set.questions[i].id, std::move(a));
    folder.keep();
    bar(++answered, set.id);
  });
}

/// A number for the weights of a model, so that one that was trained on is another: of the names,
/// types and shapes of all arrays, and of the ends of each.
std::string digest_of(const checkpoint& files) {
  auto arrays = files.arrays();
  if (has_towers(files.config()))
    add_tower_arrays(arrays, files.config(), files.places(), files.who());
  std::string all;
  for (const safetensors_entry& a : arrays) {
    const std::string_view bytes(reinterpret_cast<const char*>(a.bytes.data()), a.bytes.size());
    const std::size_t n = std::min<std::size_t>(bytes.size(), 64);
    all += a.name + ' ' + std::string(name_of(a.type)) + shape_text(a.shape);
    all.append(bytes.substr(0, n)).append(bytes.substr(bytes.size() - n));
  }
  return std::to_string(hash(all));
}

int score_model(const settings& s, const CLI::App& app) {
  namespace fs = std::filesystem;
  s.answers.check();
  const std::string name = evaluate::find_dataset(s.dataset).name;
  std::string data = s.data;
  if (data.empty()) {
    if (name != "garment")
      fail<error>("evaluate: no --data; the folder with the files of ", name, " is wanted");
    data = train::garment::default_folder;
  }
  const checkpoint files(resolve(s.model), s.vision);
  check_options(app, s.held, files);
  evaluate::dataset set = evaluate::read_dataset(name, data);
  const std::string digest = evaluate::digest_of(set);  // of all, so that --limit may grow
  if (s.limit > 0 && s.limit < set.questions.size()) set.questions.resize(s.limit);

  const fs::path model = fs::weakly_canonical(s.model);
  const std::string model_name =
      model.has_filename() ? model.filename().string() : model.parent_path().filename().string();
  const fs::path folder = fs::path(s.results) / name / model_name;
  output_folder made(folder, true);  // a run beside this one may have its answers there
  json run{{"dataset", name},
           {"digest", digest},
           {"max_new_tokens", s.answers.max_new_tokens},
           {"model", model.string()},
           {"model_weights", digest_of(files)},
           {"model_config", hash(files.config().dump())}};
  run.update(record_of(s.held));
  evaluate::results_file results(folder / "results.jsonl", run, set);
  std::vector<std::size_t> open;
  for (std::size_t i = 0; i < set.questions.size(); ++i)
    if (!results.find(set.questions[i].id)) open.push_back(i);
  if (open.size() < set.questions.size())
    std::cerr << set.questions.size() - open.size() << " of " << set.questions.size()
              << " questions are answered already\n";
  if (!open.empty()) ask(files, set, open, s, results, made);
  made.keep();

  std::vector<evaluate::answer> answers;
  for (const evaluate::question& q : set.questions) answers.push_back(*results.find(q.id));
  const evaluate::report report = evaluate::score(set, answers);
  auto metrics = evaluate::to_json(set, answers, report, model_name);
  std::string table = evaluate::to_table(report);
  if (set.judged == evaluate::metric::garment) {
    std::vector<train::answered> all;
    for (std::size_t i = 0; i < answers.size(); ++i) {
      const evaluate::question& q = set.questions[i];
      all.push_back({q.group, q.kind, q.answers[0], answers[i].text});
    }
    const auto scores = train::score_answers(all);
    metrics["garment"] = train::to_json(scores);
    table = train::to_table(scores);
  }
  write_file(folder / "metrics.json",
             metrics.dump(1, ' ', false, json::error_handler_t::replace) + "\n");
  std::cout << name << ", " << answers.size() << " questions, " << model_name << "\n"
            << table << "written to " << (folder / "metrics.json").string() << std::endl;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  std::string names;
  for (const auto& e : evaluate::dataset_entries())
    names += std::string(names.empty() ? "" : ", ") + e.name;
  CLI::App app{
      "Scores a model on a benchmark of questions about pictures. Answers are written to\n"
      "RESULTS/DATASET/MODEL/results.jsonl as they come, scores to metrics.json beside it. The "
      "same\n"
      "command goes on where it was stopped.\n"
      "Exit code: 0 done, 2 bad option or input."};
  app.add_option(
         "--model", s.model,
         "Folder with config.json, weights and tokenizer.json; or an id or repository of the hub")
      ->capture_default_str();
  app.add_option("--vision", s.vision,
                 "More folders in which vision towers of the model are looked for: timm's files")
      ->check(examples::folder_problem);
  app.add_option("--dataset", s.dataset, "One of " + names + "; -full may be left out")->required();
  app.add_option("--data", s.data,
                 "Folder with the data set's official files (their names: "
                 "include/mlmamba/evaluate/read_*.hpp)");
  app.add_option("--results", s.results, "Folder to write into; made if missing")
      ->capture_default_str();
  app.add_option("--limit", s.limit, "Only so many questions; 0: all")
      ->check(CLI::Range(0, examples::most))
      ->capture_default_str();
  app.add_option("--batch", s.answers.batch, "Questions at once")->capture_default_str();
  app.add_option("--max-new-tokens", s.answers.max_new_tokens)->capture_default_str();
  add_options(app, s.held);
#if !defined(__CUDACC__)
  app.add_option("--threads", s.threads, "0: all of the machine")->capture_default_str();
#endif
  if (const auto code = examples::parse(app, argc, argv)) return *code;
  try {
    return examples::written(score_model(s, app));
  } catch (const std::exception& e) {
    std::cerr << e.what() << '\n';
    return 2;
  }
}
