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
#include <variant>

#include "mlmamba/backend/cpu.hpp"
#include "mlmamba/backend/traced.hpp"
#include "mlmamba/models/preset.hpp"
#include "mlmamba/models/published/ml_mamba.hpp"
#include "mlmamba/text/tokenizer.hpp"
#include "mlmamba/train/evaluate.hpp"
#include "mlmamba/train/plot.hpp"
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

template <mlmamba::connector C>
struct named {
  using type = C;
  const char* name;
};

/// All that take part.
constexpr std::tuple connectors{
    named<mlmamba::linear_connector<E>>{"linear"},
    named<mlmamba::mlp_connector<E>>{"mlp"},
    named<mlmamba::fused_mlp_connector<E>>{"fused-mlp"},
    named<mlmamba::average_pool_connector<E>>{"average-pool"},
    named<mlmamba::pixel_shuffle_connector<E>>{"pixel-shuffle"},
    named<mlmamba::ldp_connector<E>>{"ldpv2"},
    named<mlmamba::scan_connector<E>>{"scan"},
    named<mlmamba::cross_scan_connector<E>>{"cross-scan"},
    named<gated>{"gated"},  // your own: one line like this
};

/// Any one of them, chosen while the program runs: the model is compiled once for all.
template <class... C>
struct one_of {
  using engine_type = E;
  std::variant<C...> chosen;

  explicit one_of(mlmamba::connector_shape n) : chosen(std::in_place_index<0>, n) {}
  explicit one_of(std::variant<C...> c) : chosen(std::move(c)) {}
  static void fields(auto& self, auto&& f) {
    std::visit([&](auto& c) { std::remove_cvref_t<decltype(c)>::fields(c, f); }, self.chosen);
  }
  static void initialise(auto& self, mlmamba::random_stream r) {
    std::visit([&](auto& c) { nn::initialise(c, r); }, self.chosen);
  }

  using saved = std::tuple<typename C::saved...>;
  out<E, 3> forward(context_of<E>& ctx, in<E, 3> x, saved& s) const {
    return std::visit(
        [&]<class T>(const T& c) { return c.forward(ctx, x, std::get<typename T::saved>(s)); },
        chosen);
  }
  out<E, 3> backward(context_of<E>& ctx, in<E, 3> dy, const saved& s) {
    return std::visit(
        [&]<class T>(T& c) { return c.backward(ctx, dy, std::get<typename T::saved>(s)); }, chosen);
  }
};
template <class... N>
one_of<typename N::type...> any_of(const std::tuple<N...>&);
using any_connector = decltype(any_of(connectors));

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
  if (!r.freeze.empty())
    mlmamba::fail("connector_lab: the recipe freezes parts; here --train-language decides");
  return r;
}

/// All that was found out about one connector.
struct result {
  std::string name;
  index_t parameters = 0, tokens = 0;
  double connector_flops = 0, picture_flops = 0, connector_ms = 0, picture_ms = 0;
  std::vector<std::uint64_t> seeds;
  std::vector<std::vector<double>> losses;  // [seed][update]
  std::vector<train::vqa_report> each;      // [seed]
  std::vector<train::answered> answers;     // of all seeds
  train::vqa_report all;

  const train::share& main() const { return all.all_short.total ? all.all_short : all.all; }
  double last_loss() const {  // mean of the last tenth, and of the seeds
    double sum = 0, n = 0;
    for (const auto& l : losses)
      for (std::size_t i = l.size() - std::max<std::size_t>(1, l.size() / 10); i < l.size(); ++i)
        sum += l[i], ++n;
    return sum / std::max(n, 1.0);
  }
};

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  const std::size_t n = v.size();
  return n == 0 ? 0 : n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/// Tokens, work and time for one picture. Connectors take turns, so that a disturbance of the
/// machine hits all of them; the first turn warms up.
void measure(context_of<E>& ctx, model_type& model, const std::vector<any_connector>& made,
             std::span<const mlmamba::image_transform> rule, int turns,
             std::vector<result>& results) {
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

/// Types in order of first sight, each with its share among all seeds.
std::vector<std::string> types_of(const std::vector<result>& results) {
  std::vector<std::string> types;
  for (const auto& r : results)
    for (const auto& row : r.all.rows)
      if (row.kind.empty() && std::find(types.begin(), types.end(), row.type) == types.end())
        types.push_back(row.type);
  return types;
}
const train::share* share_of(const train::vqa_report& r, const std::string& type) {
  for (const auto& row : r.rows)
    if (row.kind.empty() && row.type == type) return &row.exact;
  return nullptr;
}

const std::vector<std::string> columns = {"right, %", "95 % interval", "last loss",
                                          "tokens",   "parameters",    "MFLOP",
                                          "ms",       "MFLOP picture", "ms picture"};
std::vector<std::string> cells(const result& r) {
  const auto number = train::plot_page::number;
  const auto& s = r.main();
  return {
      number(100 * s.value(), 1),   number(100 * s.low(), 1) + " to " + number(100 * s.high(), 1),
      number(r.last_loss(), 3),     std::to_string(r.tokens),
      std::to_string(r.parameters), number(r.connector_flops / 1e6, 2),
      number(r.connector_ms, 2),    number(r.picture_flops / 1e6, 1),
      number(r.picture_ms, 2)};
}

/// Mean over the seeds, in some hundred windows.
train::curve curve_of(const result& r) {
  train::curve c;
  const std::size_t n = r.losses.empty() ? 0 : r.losses[0].size();
  const std::size_t window = std::max<std::size_t>(1, n / 100);
  for (std::size_t at = 0; at + window <= n; at += window) {
    double sum = 0;
    for (const auto& l : r.losses)
      for (std::size_t i = at; i < at + window; ++i) sum += l[i];
    c.x.push_back(double(at) + double(window + 1) / 2);
    c.y.push_back(sum / double(window * r.losses.size()));
  }
  return c;
}

void write(const std::vector<result>& results, const train::vqa_report* blind, const json& about,
           const std::string& caption, const std::filesystem::path& folder) {
  const auto types = types_of(results);
  nlohmann::ordered_json j;
  j["run"] = about;
  j["types"] = types;
  for (const result& r : results) {
    nlohmann::ordered_json c;
    c["name"] = r.name;
    c["parameters"] = r.parameters;
    c["tokens"] = r.tokens;
    c["flops"] = {{"connector", r.connector_flops}, {"picture", r.picture_flops}};
    c["milliseconds"] = {{"connector", r.connector_ms}, {"picture", r.picture_ms}};
    c["last_loss"] = r.last_loss();
    c["accuracy"] = train::to_json(r.all);
    for (std::size_t i = 0; i < r.seeds.size(); ++i)
      c["seeds"].push_back(
          {{"seed", r.seeds[i]}, {"accuracy", train::to_json(r.each[i])}, {"loss", r.losses[i]}});
    j["connectors"].push_back(std::move(c));
  }
  if (blind) j["no_picture"] = train::to_json(*blind);

  std::vector<std::string> names;
  std::vector<std::vector<std::string>> rows;
  std::vector<train::curve> curves;
  for (const result& r : results) {
    names.push_back(r.name);
    rows.push_back(cells(r));
    curves.push_back(curve_of(r));
  }
  std::vector<train::bar_panel> panels;
  const auto panel = [&](const std::string& title, auto&& share) {
    train::bar_panel p{title, {}, -1};
    for (const result& r : results) {
      const train::share* s = share(r.all);
      p.bars.push_back(s ? train::bar_panel::bar{s->value(), s->low(), s->high()}
                         : train::bar_panel::bar{});
    }
    if (blind)
      if (const train::share* s = share(*blind)) p.reference = s->value();
    panels.push_back(std::move(p));
  };
  for (const std::string& type : types)
    panel(type, [&](const train::vqa_report& r) { return share_of(r, type); });
  panel("all short answers", [](const train::vqa_report& r) { return &r.all_short; });
  train::plot_page page("Connectors compared", caption, names);
  page.table(columns, rows,
             "right: short answers. MFLOP, ms: the connector for one picture; \"picture\": towers, "
             "connector and language model up to the first logits.");
  page.bars("Right answers by type of question, with 95 % intervals", panels,
            "the same language model without a picture");
  page.curves("Training loss", "update", curves, true);
  mlmamba::write_file(folder / "lab.json", j.dump(1) + "\n");
  mlmamba::write_file(folder / "lab.svg", page.svg());
}

int run(const settings& s) {
  train::recipe r = recipe_of(s);
  context_of<E> ctx(mlmamba::cpu_options{.threads = s.threads});
  const std::filesystem::path folder = s.out;

  // What takes part, refused before anything is read.
  using maker = std::function<any_connector(const json& config, const json& llm,
                                            const mlmamba::connector_shape&, const std::string&)>;
  std::vector<std::pair<std::string, maker>> chosen, known;
  const auto add = [&]<class C>(const named<C>& c) {
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
      mlmamba::fail("connector_lab: connector \"", name, "\"; wanted are some of ", all);
    }
    if (std::any_of(chosen.begin(), chosen.end(), [&](const auto& k) { return k.first == name; }))
      mlmamba::fail("connector_lab: connector \"", name, "\" is given twice; once is wanted");
    chosen.push_back(*at);
  }
  if (chosen.empty()) chosen = known;

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
  std::vector<result> results;
  for (const auto& [name, make] : chosen) {
    made.push_back(make(r.model, llm, shape, who));
    result& to = results.emplace_back();
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
      result& to = results[i];
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
  for (result& x : results) x.all = train::score_answers(x.answers);
  measure(ctx, model, made, rule, s.timings, results);
  write(results, blind ? &*blind : nullptr, about, caption, folder);

  const auto types = types_of(results);
  std::printf("%-14s", "");
  for (const auto& c : columns) std::printf(" %14s", c.c_str());
  for (const auto& x : results) {
    std::printf("\n%-14s", x.name.c_str());
    for (const auto& c : cells(x)) std::printf(" %14s", c.c_str());
  }
  std::printf("\n\n%-14s", "right, %");
  for (const auto& type : types) std::printf(" %11s", type.c_str());
  const auto row = [&](const std::string& name, const train::vqa_report& report) {
    std::printf("\n%-14s", name.c_str());
    for (const auto& type : types) {
      const auto* share = share_of(report, type);
      std::printf(" %11.1f", share ? 100 * share->value() : 0.0);
    }
  };
  for (const auto& x : results) row(x.name, x.all);
  if (blind) row("(no picture)", *blind);
  std::printf("\n");
  std::fprintf(stderr, "connector_lab: wrote lab.svg and lab.json in %s\n", s.out.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
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
  app.add_option("--steps", s.steps, "Updates of each connector")->check(CLI::PositiveNumber);
  app.add_option("--batch", s.batch, "Conversations per update")->check(CLI::PositiveNumber);
  app.add_option("--learning-rate", s.learning_rate, "Peak")->check(CLI::NonNegativeNumber);
  app.add_option("--seeds", s.seeds, "Runs of each connector, with other weights and data")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--scenes", s.scenes, "How many pictures are tested")->check(CLI::PositiveNumber);
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
