// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Which connector? Trains several from the same frozen towers with the same steps, data and seeds,
// and compares accuracy by question type, tokens, parameters, FLOPs, latency and loss.
//
//   connector_lab --towers examples/garment_model --out lab
//   connector_lab --towers examples/garment_model --connectors linear,scan,gated --seeds 3 --out
//   lab
//
// OUT gets lab.svg and lab.json. Your own connector takes part: see `gated` below, and the one line
// in the list after it.
#include <CLI/CLI.hpp>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <string>
#include <tuple>

#include "connector_lab_any.hpp"
#include "connector_lab_report.hpp"
#include "mlmamba/backend/cpu.hpp"
#include "mlmamba/backend/traced.hpp"
#include "mlmamba/models/preset.hpp"
#include "mlmamba/models/published/ml_mamba.hpp"
#include "mlmamba/text/tokenizer.hpp"
#include "mlmamba/train/evaluate.hpp"
#include "mlmamba/train/prefetch.hpp"
#include "mlmamba/train/recipe.hpp"
#include "mlmamba/train/step.hpp"
#include "mlmamba/train/trainer.hpp"

namespace train = mlmamba::train;
namespace nn = mlmamba::nn;
using mlmamba::index_t, mlmamba::json, mlmamba::context_of, mlmamba::in, mlmamba::out;

namespace {

using E = mlmamba::on<mlmamba::backend::traced<mlmamba::backend::cpu>, float>;

/// A connector of one's own (04_custom_connector.cpp proves its backward):
/// y = down(silu(gate(x)) * up(x))
struct gated {
  using engine_type = E;
  nn::linear<E> gate, up, down;

  explicit gated(mlmamba::connector_shape n)
      : gate(n.d_vision, n.d_model), up(n.d_vision, n.d_model), down(n.d_model, n.d_model) {}
  static void fields(auto& self, auto&& f) {
    f("gate", self.gate), f("up", self.up), f("down", self.down);
  }
  struct saved {
    nn::linear<E>::saved gate, up, down;
    in<E, 3> g, u;
  };
  out<E, 3> forward(context_of<E>& ctx, in<E, 3> x, saved& s) const {
    s.g = gate.forward(ctx, x, s.gate);
    s.u = up.forward(ctx, x, s.up);
    return down.forward(ctx, nn::silu_mul(ctx, s.g, s.u), s.down);
  }
  out<E, 3> backward(context_of<E>& ctx, in<E, 3> dy, const saved& s) {
    auto d = nn::silu_mul_backward(ctx, down.backward(ctx, dy, s.down), s.g, s.u);
    return nn::add(ctx, gate.backward(ctx, d.gate, s.gate), up.backward(ctx, d.up, s.up));
  }
};

/// All that take part.
constexpr std::tuple connectors{
    lab::named<mlmamba::linear_connector<E>>{"linear"},
    lab::named<mlmamba::mlp_connector<E>>{"mlp"},
    lab::named<mlmamba::fused_mlp_connector<E>>{"fused-mlp"},
    lab::named<mlmamba::average_pool_connector<E>>{"average-pool"},
    lab::named<mlmamba::pixel_shuffle_connector<E>>{"pixel-shuffle"},
    lab::named<mlmamba::ldp_connector<E>>{"ldpv2"},
    lab::named<mlmamba::scan_connector<E>>{"scan"},
    lab::named<mlmamba::cross_scan_connector<E>>{"cross-scan"},
    lab::named<gated>{"gated"},  // your own: one line like this
};

using any_connector = decltype(lab::any_of(connectors));

using model_type = mlmamba::ml_mamba<mlmamba::two_towers<E>, any_connector, mlmamba::mamba_lm<E>>;

/// The parts that all runs share, for loading them without the folder's connector.
struct shared_parts {
  mlmamba::two_towers<E>& vision;
  mlmamba::mamba_lm<E>& language;
  static void fields(auto& self, auto&& f) {
    f("vision_backbone", self.vision), f("llm_backbone", self.language);
  }
};

/// Without --config: a small model, and scenes of garments.
constexpr const char* usual_recipe = R"({
  "model": {
    "vision": [
      {"name": "dino_featurizer", "kind": "dinov2-reg4", "img_size": 96, "patch_size": 16,
       "embed_dim": 64, "depth": 2, "num_heads": 2, "mlp_ratio": 4, "feature_block": -1,
       "class_token": false, "reg_tokens": 0, "init_values": null},
      {"name": "siglip_featurizer", "kind": "siglip", "img_size": 48, "patch_size": 8,
       "embed_dim": 48, "depth": 2, "num_heads": 2, "mlp_ratio": 4, "feature_block": -1}],
    "llm": {"d_model": 96, "n_layer": 2,
            "ssm_cfg": {"layer": "Mamba2", "d_state": 32, "headdim": 32}}},
  "chat": "plain", "tokenizer": {"vocabulary": 768},
  "data": {"source": "garment", "garment": {"size": 96, "turns": 8}},
  "training": {"steps": 500, "batch": 16, "learning_rate": 1e-3, "warmup_ratio": 0.05,
               "weight_decay": 0.05, "beta2": 0.98, "clip": 1.0, "seed": 7},
  "test": {"source": "garment", "scenes": 200}
})";

std::atomic<bool> interrupted{false};

struct settings {
  std::string config, towers, out, data, images, test, test_images;
  std::vector<std::string> connectors;
  std::int64_t steps = 0, batch = 0, scenes = 0, seeds = 1;
  double learning_rate = -1;
  int threads = 0, prefetch = 1, timings = 15;
  bool train_language = false;
};

train::recipe recipe_of(const settings& s) {
  const std::string who = s.config.empty() ? "connector_lab" : s.config;
  json j = s.config.empty() ? json::parse(usual_recipe) : mlmamba::read_json(s.config);
  const auto set = [&](const char* part, const char* key, bool given, const json& value) {
    if (given) j[part][key] = value;
  };
  set("data", "source", !s.data.empty(), s.data);
  set("data", "images", !s.images.empty(), s.images);
  set("test", "source", !s.test.empty(), s.test);
  set("test", "images", !s.test_images.empty(), s.test_images);
  set("test", "scenes", s.scenes > 0, s.scenes);
  set("training", "batch", s.batch > 0, s.batch);
  if (s.batch > 0 && j["training"].contains("micro_batch")) j["training"].erase("micro_batch");
  set("training", "learning_rate", s.learning_rate >= 0, s.learning_rate);
  if (s.steps > 0) {  // a warm-up in updates keeps its share
    json& t = j["training"];
    if (mlmamba::json_has(t, "warmup")) {
      const double of = mlmamba::json_get<double>(t, "steps", who);
      t["warmup_ratio"] =
          std::clamp(mlmamba::json_get<double>(t, "warmup", who) / std::max(of, 1.0), 0.0, 1.0);
      t.erase("warmup");
    }
    t["steps"] = s.steps;
  }
  train::recipe r = train::recipe_from(j, who);
  if (!r.freeze.empty()) mlmamba::fail("the recipe freezes parts; here --train-language decides");
  return r;
}

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  const std::size_t n = v.size();
  return n == 0 ? 0 : n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/// Tokens, work and time for one picture. Connectors take turns, so that a disturbance of the
/// machine hits all of them; the first turn warms up.
void measure(context_of<E>& ctx, model_type& model, const std::vector<any_connector>& made,
             std::span<const mlmamba::image_transform> rule, int turns,
             std::vector<lab::result>& results) {
  std::vector<mlmamba::tensor<float, 4>> grey;
  for (const auto& t : rule) grey.emplace_back(mlmamba::shape<4>{{1, 3, t.size, t.size}});
  std::vector<in<E, 4>> pixels;
  for (const auto& g : grey) pixels.push_back(g.view());
  using clock = std::chrono::steady_clock;
  const auto ms = [](clock::time_point a, clock::time_point b) {
    return 1e3 * std::chrono::duration<double>(b - a).count();
  };
  const auto work = [&] {
    double sum = 0;
    for (const auto& [name, total] : ctx.totals) sum += total.flops;
    return sum;
  };
  const auto frame = ctx.scratch.make_frame();
  const in<E, 3> features = model.features(ctx, pixels);
  std::vector<std::vector<double>> alone(made.size()), whole(made.size());
  for (int turn = 0; turn <= turns; ++turn)
    for (std::size_t i = 0; i < made.size(); ++i) {
      const auto inner = ctx.scratch.make_frame();
      any_connector::saved s, again;
      ctx.tracing = turn == 0;
      ctx.clear_totals();
      const auto begin = clock::now();
      const in<E, 3> tokens = made[i].forward(ctx, features, s);
      const auto end = clock::now();
      if (turn == 0) results[i].connector_flops = work(), results[i].tokens = tokens.size[1];
      ctx.clear_totals();
      auto state = model.make_state(1);
      const auto whole_begin = clock::now();
      model.prefill(ctx, made[i].forward(ctx, model.features(ctx, pixels), again), state);
      const auto whole_end = clock::now();
      if (turn == 0) {
        results[i].picture_flops = work();
      } else {
        alone[i].push_back(ms(begin, end)), whole[i].push_back(ms(whole_begin, whole_end));
      }
    }
  for (std::size_t i = 0; i < made.size(); ++i)
    results[i].connector_ms = median(alone[i]), results[i].picture_ms = median(whole[i]);
}

using maker = std::function<any_connector(const json& config, const json& llm,
                                          const mlmamba::connector_shape&, const std::string&)>;

/// Names and makers of those that take part; error if a name is not known.
std::vector<std::pair<std::string, maker>> chosen_of(const settings& s) {
  std::vector<std::pair<std::string, maker>> chosen, known;
  const auto add = [&]<class C>(const lab::named<C>& c) {
    // The connector that the model folder has is made with the folder's options.
    known.emplace_back(
        c.name, [](const json& config, const json& llm, const auto& n, const std::string& who) {
          const auto make = [&] {
            if constexpr (requires { C::kind; }) {
              const json part = mlmamba::detail::connector_part(config);
              if (mlmamba::json_get_or<std::string>(part, "type", "", who) == C::kind)
                return mlmamba::detail::make_connector<C>(config, llm, n, who);
            }
            return C(n);
          };
          return any_connector(decltype(any_connector::chosen)(std::in_place_type<C>, make()));
        });
  };
  std::apply([&](const auto&... c) { (add(c), ...); }, connectors);
  for (const std::string& name : s.connectors) {
    const auto at =
        std::find_if(known.begin(), known.end(), [&](const auto& k) { return k.first == name; });
    if (at == known.end()) {
      std::string all;
      for (const auto& k : known) all += (all.empty() ? "" : ", ") + k.first;
      mlmamba::fail("connector \"", name, "\"; wanted are some of ", all);
    }
    if (std::any_of(chosen.begin(), chosen.end(), [&](const auto& k) { return k.first == name; }))
      mlmamba::fail("connector \"", name, "\" is given twice; once is wanted");
    chosen.push_back(*at);
  }
  if (chosen.empty()) chosen = known;
  return chosen;
}

int run(const settings& s) {
  train::recipe r = recipe_of(s);
  context_of<E> ctx(mlmamba::cpu_options{.threads = s.threads});
  const std::filesystem::path folder = s.out;

  const auto chosen = chosen_of(s);

  // Towers, language model and words: of a folder, or random.
  const bool trained = !s.towers.empty();
  const bool train_language = s.train_language || !trained;
  const train::data_source first_source = train::source_of(r);
  std::optional<mlmamba::checkpoint> files;
  if (trained) files.emplace(s.towers);
  const std::string who = trained ? files->who() : "connector_lab";
  if (trained) {
    r.model = files->config();
    r.chat = mlmamba::chat_format_of(
        mlmamba::json_get_or<std::string>(r.model, "chat_format", "zephyr", who));
  }
  const auto words = trained ? files->tokenizer()
                     : r.tokenizer_file.empty()
                         ? mlmamba::tokenizer::parse(train::vocabulary_of(r, first_source), who)
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
  nn::freeze(model, "vision_backbone");
  if (!train_language) nn::freeze(model, "llm_backbone");
  const auto language = model.llm_backbone;
  const auto rule = mlmamba::picture_rule(r.model, who);
  const json llm = mlmamba::language_config_from(r.model, who);
  const auto shape = model_type::shape_for(model.vision_backbone, model.llm_backbone);

  std::vector<any_connector> made;
  std::vector<lab::result> results;
  for (const auto& [name, make] : chosen) {
    made.push_back(make(r.model, llm, shape, who));
    lab::result& to = results.emplace_back();
    to.name = name;
    to.parameters = nn::parameter_count(made.back());
  }
  std::error_code code;
  std::filesystem::create_directories(folder, code);
  if (code) mlmamba::fail<mlmamba::io_error>(s.out, ": can't create it (", code.message(), ")");

  const json about{{"towers", trained ? json(s.towers) : json()},
                   {"language_trained", train_language},
                   {"updates", r.training.rate.steps},
                   {"batch", r.batch},
                   {"learning_rate", r.training.rate.peak},
                   {"seeds", s.seeds},
                   {"test_scenes", train::test_of(r).scenes},
                   {"data", first_source.name},
                   {"threads", ctx.threads.size()}};
  const std::string caption =
      std::to_string(r.training.rate.steps) + " updates of " + std::to_string(r.batch) +
      " conversations, " + std::to_string(s.seeds) + (s.seeds == 1 ? " seed, " : " seeds, ") +
      about["test_scenes"].dump() + " test pictures; towers " + (trained ? "trained" : "random") +
      " and frozen, language model " + (train_language ? "trained along" : "frozen") + "; " +
      std::to_string(ctx.threads.size()) + " threads";
  std::fprintf(stderr, "%s\n", caption.c_str());

  train::answer_options ask;
  ask.chat = r.chat;
  ask.towers = rule;
  ask.max_tokens = r.max_tokens;
  const auto test = [&](const std::string& what, train::shown show) {
    ask.show = show;
    const train::vqa_set set = train::test_of(r);
    train::progress bar("scene", index_t(set.scenes), 0, index_t(set.scenes));
    return train::answer_all(ctx, model, words, set, ask,
                             [&](std::uint64_t n) { bar(index_t(n), what); });
  };
  std::optional<train::vqa_report> blind;  // a trained language model has one for each run
  if (!train_language) blind = train::score_answers(test("no picture", train::shown::nothing));

  for (index_t k = 0; k < s.seeds; ++k)
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      const std::uint64_t seed = r.seed + std::uint64_t(k);
      lab::result& to = results[i];
      model.connector = chosen[i].second(r.model, llm, shape, who);
      nn::initialise(model.connector, mlmamba::random_stream{seed, 0, 0}.fork("projector"));
      if (train_language) model.llm_backbone = language;
      train::recipe mine = r;  // other data with each seed, the same for all connectors
      mine.data.seed += std::uint64_t(k);
      const auto source = k == 0 ? first_source : train::source_of(mine);
      train::batch_builder build;
      build.encode = [words](std::string_view text) { return words.encode(text); };
      build.chat = r.chat;
      build.labels = r.data.labels;
      build.towers = rule;
      build.max_length = r.data.max_length;
      build.micro_batch_size = r.micro_batch;
      build.padding = *words.eos();
      train::prefetcher batches(
          source, train::sampler(source, r.batch, train::sampling_of(r.data.sampling), seed), build,
          0, s.prefetch);
      train::trainer<model_type, train::next_token_gradients> t(ctx, model, {}, r.training);
      std::vector<double> losses;
      {
        train::progress bar("update", r.training.rate.steps, 0, r.training.log_every);
        while (!t.finished()) {
          if (interrupted) {
            bar.end_line();
            std::fprintf(stderr, "connector_lab: stopped; nothing is written\n");
            return 3;
          }
          losses.push_back(t.update(batches.next()).loss);
          bar(index_t(losses.size()),
              to.name + "  loss " + train::plot_page::number(losses.back(), 4));
        }
      }
      const auto answers = test(to.name, train::shown::pictures);
      to.seeds.push_back(seed);
      to.losses.push_back(std::move(losses));
      to.each.push_back(train::score_answers(answers));
      to.answers.insert(to.answers.end(), answers.begin(), answers.end());
      made[i] = model.connector;
    }
  for (lab::result& x : results) x.all = train::score_answers(x.answers);
  measure(ctx, model, made, rule, s.timings, results);
  lab::write(results, blind ? &*blind : nullptr, about, caption, folder);

  lab::print(results, blind ? &*blind : nullptr);
  std::fprintf(stderr, "connector_lab: wrote lab.svg and lab.json in %s\n", s.out.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
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
  app.add_option("--learning-rate", s.learning_rate, "Peak")->check(CLI::NonNegativeNumber);
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
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  std::signal(SIGINT, [](int) { interrupted = true; });
  std::signal(SIGTERM, [](int) { interrupted = true; });
  try {
    return run(s);
  } catch (const mlmamba::error& e) {
    std::fprintf(stderr, "connector_lab: %s\n", e.what());
    return 2;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "connector_lab: %s\n", e.what());
    return 1;
  }
}
