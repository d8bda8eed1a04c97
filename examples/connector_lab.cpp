// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Which connector? Trains several from the same frozen towers with the same steps, data and seeds,
// and compares accuracy by question type, tokens, parameters, FLOPs, latency and loss.
//
//   connector_lab --towers examples/garment_model --out lab
//   connector_lab --towers examples/garment_model --out lab --connectors linear,scan --seeds 3
//
// OUT gets lab.svg and lab.json. Your own connector takes part: see `gated` in
// connector_lab_list.hpp, and the one line in the list after it.
#include <CLI/CLI.hpp>

#include <cstdio>
#include <string>

#include "connector_lab_list.hpp"
#include "connector_lab_measure.hpp"
#include "connector_lab_recipe.hpp"
#include "connector_lab_report.hpp"
#include "mlmamba/io/output_folder.hpp"
#include "mlmamba/text/tokenizer.hpp"
#include "mlmamba/train/evaluate.hpp"
#include "mlmamba/train/prefetch.hpp"
#include "mlmamba/train/step.hpp"
#include "mlmamba/train/trainer.hpp"
#include "training_program.hpp"

namespace train = mlmamba::train;
namespace nn = mlmamba::nn;
using lab::E, lab::any_connector;
using mlmamba::index_t, mlmamba::json, mlmamba::context_of;
using mlmamba::examples::interrupted, mlmamba::examples::run_training;

namespace {

using model_type = mlmamba::ml_mamba<mlmamba::two_towers<E>, any_connector, mlmamba::mamba_lm<E>>;

/// The parts that all runs share, for loading them without the folder's connector.
struct shared_parts {
  using engine_type = E;
  mlmamba::two_towers<E>& vision;
  mlmamba::mamba_lm<E>& language;
  static void fields(auto& self, auto&& f) {
    f("vision_backbone", self.vision), f("llm_backbone", self.language);
  }
};

/// What all runs share.
struct common {
  train::recipe recipe;
  train::data_source source;
  mlmamba::tokenizer words;
  model_type model;
  std::string who;
  bool towers_trained, language_trained;

  std::vector<mlmamba::image_transform> rule() const {
    return mlmamba::picture_rule(recipe.model, who);
  }
  any_connector make(const lab::maker& of) const {
    return of(recipe.model, mlmamba::language_config_from(recipe.model, who),
              model_type::shape_for(model.vision_backbone, model.llm_backbone), who);
  }
};

/// Towers, language model and words: of a folder, or random.
common common_of(const lab::settings& s, const CLI::App& app) {
  train::recipe r = lab::recipe_of(s);
  using mlmamba::examples::no_use_of;
  if (r.data.is_garment()) no_use_of(app, {"--images"}, "on garments; a list as --data is wanted");
  if (r.test.is_garment())
    no_use_of(app, {"--test-images"}, "on garments; a list as --test is wanted");
  const bool trained = !s.towers.empty();
  train::data_source source = train::source_of(r);
  const train::vqa_set questions = train::test_of(r);
  (void)source.get(0), (void)questions.get(0);  // the folders of their pictures are right
  train::check_pictures(source), train::check_pictures(questions);
  std::optional<mlmamba::checkpoint> files;
  if (trained) files.emplace(s.towers);
  const std::string who = trained ? files->who() : "connector_lab";
  if (trained) {
    r.model = files->config();
    r.chat = mlmamba::chat_format_of(
        mlmamba::json_get_or<std::string>(r.model, "chat_format", "zephyr", who));
  }
  auto words = trained ? files->tokenizer()
               : r.tokenizer_file.empty()
                   ? mlmamba::tokenizer::parse(train::vocabulary_of(r, source), who)
                   : mlmamba::tokenizer::open(r.tokenizer_file);
  if (!words.eos()) mlmamba::fail(who, ": the tokenizer has no <|endoftext|>; it is needed");
  if (!trained) r.model["llm"]["vocab_size"] = words.size();
  model_type model = mlmamba::published<model_type>::make(r.model, who);
  nn::initialise(model, {r.seed, 0, 0});
  if (trained) {
    auto named = mlmamba::published<model_type>::arrays(files->arrays(), r.model, who);
    std::erase_if(named.by_path, [](const auto& a) {
      return !a.first.starts_with("vision_backbone.") && !a.first.starts_with("llm_backbone.");
    });
    shared_parts parts{model.vision_backbone, model.llm_backbone};
    mlmamba::load_parameters(parts, named);
  }
  const bool train_language = s.train_language || !trained;
  nn::freeze(model, "vision_backbone");
  if (!train_language) nn::freeze(model, "llm_backbone");
  return {std::move(r), std::move(source), std::move(words), std::move(model),
          who,          trained,           train_language};
}

/// Trains the connector (and the language model, if it is not frozen) that the model has now. The
/// losses of all updates; fewer if the user stopped it.
std::vector<double> train_one(context_of<E>& ctx, common& c, const std::string& name,
                              std::uint64_t seed, index_t round, int prefetch) {
  const train::recipe& r = c.recipe;
  train::recipe mine = r;  // other data with each seed, the same for all connectors
  mine.data.seed += std::uint64_t(round);
  const auto source = round == 0 ? c.source : train::source_of(mine);
  train::batch_builder build;
  build.encode = [&c](std::string_view text) { return c.words.encode(text); };
  build.chat = r.chat;
  build.labels = r.data.labels;
  build.towers = c.rule();
  build.max_length = r.data.max_length;
  build.micro_batch_size = r.micro_batch;
  build.padding = *c.words.eos();
  train::prefetcher batches(
      source, train::sampler(source, r.batch, train::sampling_of(r.data.sampling), seed), build, 0,
      prefetch);
  train::trainer<model_type, train::next_token_gradients> t(ctx, c.model, {}, r.training);
  std::vector<double> losses;
  train::progress bar("update", r.training.rate.steps, 0, r.training.log_every);
  while (!t.finished() && !interrupted) {
    losses.push_back(t.update(batches.next()).loss);
    bar(index_t(losses.size()), name + "  loss " + train::svg_drawing::number(losses.back(), 4));
  }
  if (interrupted) bar.end_line();
  return losses;
}

/// Its answers to the test questions.
std::vector<train::answered> test(context_of<E>& ctx, const common& c, const std::string& what,
                                  train::shown show) {
  train::answer_options ask;
  ask.chat = c.recipe.chat;
  ask.towers = c.rule();
  ask.max_tokens = c.recipe.max_tokens;
  ask.show = show;
  const train::vqa_set set = train::test_of(c.recipe);
  train::progress bar("scene", index_t(set.scenes), 0, index_t(set.scenes));
  return train::answer_all(ctx, c.model, c.words, set, ask,
                           [&](std::uint64_t n) { bar(index_t(n), what); });
}

json about_of(const lab::settings& s, const common& c, const std::string& where) {
  return {{"towers", c.towers_trained ? json(s.towers) : json()},
          {"language_trained", c.language_trained},
          {"updates", c.recipe.training.rate.steps},
          {"batch", c.recipe.batch},
          {"learning_rate", c.recipe.training.rate.peak},
          {"seeds", s.seeds},
          {"test_scenes", train::test_of(c.recipe).scenes},
          {"data", c.source.name},
          {"where", where}};
}
std::string caption_of(const json& about) {
  const auto text = [&](const char* key) { return about[key].dump(); };
  return text("updates") + " updates of " + text("batch") + " conversations, " + text("seeds") +
         (about["seeds"] == 1 ? " seed, " : " seeds, ") + text("test_scenes") +
         " test pictures; towers " + (about["towers"].is_null() ? "random" : "trained") +
         " and frozen, language model " + (about["language_trained"] ? "trained along" : "frozen") +
         "; on " + about["where"].get<std::string>();
}

int run(const lab::settings& s, const CLI::App& app) {
  const auto chosen = lab::chosen_of(s.connectors);
  common c = common_of(s, app);
#if defined(__CUDACC__)
  context_of<E> ctx;
  const std::string where = "a GPU";
#else
  context_of<E> ctx(mlmamba::cpu_options{.threads = s.threads});
  const std::string where = std::to_string(ctx.threads.size()) + " threads";
#endif
  const auto language = c.model.llm_backbone;
  std::vector<any_connector> made;
  std::vector<lab::result> results;
  for (const auto& [name, make] : chosen) {
    made.push_back(c.make(make));
    results.emplace_back().name = name;
    results.back().parameters = nn::parameter_count(made.back());
  }
  const std::filesystem::path folder = s.out;
  mlmamba::output_folder into(folder);
  for (const char* name : {"lab.json", "lab.svg"}) mlmamba::check_writable(folder / name);
  const json about = about_of(s, c, where);
  std::fprintf(stderr, "%s\n", caption_of(about).c_str());

  std::optional<train::vqa_report> blind;  // a trained language model has one for each run
  if (!c.language_trained)
    blind = train::score_answers(test(ctx, c, "no picture", train::shown::nothing));

  for (index_t k = 0; k < s.seeds; ++k)
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      const std::uint64_t seed = c.recipe.seed + std::uint64_t(k);
      lab::result& to = results[i];
      c.model.connector = c.make(chosen[i].make);
      nn::initialise(c.model.connector, mlmamba::random_stream{seed, 0, 0}.fork("projector"));
      if (c.language_trained) c.model.llm_backbone = language;
      to.seeds.push_back(seed);
      to.losses.push_back(train_one(ctx, c, to.name, seed, k, s.prefetch));
      if (interrupted) {
        std::fprintf(stderr, "connector_lab: stopped; nothing is written\n");
        return 3;
      }
      const auto answers = test(ctx, c, to.name, train::shown::pictures);
      to.each.push_back(train::score_answers(answers));
      to.answers.insert(to.answers.end(), answers.begin(), answers.end());
      made[i] = c.model.connector;
    }
  for (lab::result& x : results) x.all = train::score_answers(x.answers);
  lab::measure(ctx, c.model, made, c.rule(), s.timings, results);
  lab::write(results, blind ? &*blind : nullptr, about, caption_of(about), folder);
  into.keep();
  lab::print(results, blind ? &*blind : nullptr);
  std::fprintf(stderr, "connector_lab: wrote lab.svg and lab.json in %s\n", s.out.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  lab::settings s;
  const CLI::Range at_least_1(1, 1000000000);
  CLI::App app{
      "Trains several connectors from the same frozen towers with the same steps, data and seeds, "
      "and compares them.\n"
      "OUT gets lab.svg and lab.json; a table is printed.\n"
      "Exit code: 0 finished, 1 failed, 2 bad option or input, 3 stopped before the end."};
  app.add_option("--towers", s.towers,
                 "Model folder with two vision towers, a Mamba-2 language model and a tokenizer; "
                 "none: random towers, with a language model that is trained along");
  app.add_option("--out", s.out, "Folder of the results")->required();
  app.add_option("--connectors", s.connectors, "Which, with commas between; none: all")
      ->delimiter(',');
  app.add_option("--config", s.config,
                 "Recipe as of train: data, training, test (and the model, "
                 "without --towers); none: garments");
  app.add_flag("--train-language", s.train_language,
               "Train the language model too; else it is frozen like the towers");
  app.add_option("--steps", s.steps, "Updates of each connector")->check(at_least_1);
  app.add_option("--batch", s.batch, "Conversations per update")->check(at_least_1);
  app.add_option("--learning-rate", s.learning_rate, "Peak")->check(CLI::Range(0.0, 1e9));
  app.add_option("--seeds", s.seeds, "Runs of each connector, with other weights and data")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--scenes", s.scenes, "How many pictures are tested")->check(at_least_1);
  app.add_option("--data", s.data, "LLaVA-style JSON, or garment:FOLDER with the IDX files");
  app.add_option("--images", s.images, "Folder of its pictures");
  app.add_option("--test", s.test, "Questions held out: the same kinds");
  app.add_option("--test-images", s.test_images, "Folder of their pictures");
  app.add_option("--timings", s.timings, "How often each connector is timed; the median counts")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  app.add_option("--threads", s.threads, "Of the model (0: all); changes times, no other result");
  app.add_option("--prefetch", s.prefetch, "Threads that make batches; never changes a result")
      ->check(CLI::Range(0, 64))
      ->capture_default_str();
  return run_training("connector_lab", app, argc, argv, [&] { return run(s, app); });
}
