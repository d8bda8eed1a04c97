// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A model with matrices of 8 or 4 bits from one with floats, and how near it stays.
//
//   quantize examples/garment_model garment-int8 --weights int8
//   quantize mamba2-130m small --weights int4 --group 32 --keep lm_head --steps 10000
//   quantize examples/garment_model - --weights bf16 --activations bf16     (a report only)
#include <CLI/CLI.hpp>

#include <cstdio>
#include <filesystem>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "chosen_model.hpp"
#include "mlmamba/backend/cpu.hpp"
#include "mlmamba/evaluate/fidelity.hpp"
#include "mlmamba/io/image.hpp"
#include "mlmamba/text/generate.hpp"
#include "program.hpp"

using namespace mlmamba;
namespace fs = std::filesystem;

namespace {

struct settings {
  std::string in, out, weights = "int8", activations = "f32", image,
                       prompt = "What is in the picture?";
  std::vector<std::string> keep;
  std::vector<fs::path> vision;
  index_t group = 64, steps = 200;
  std::uint64_t seed = 1;
  int threads = 0;
  bool random = false;
};

template <class Model>
Model load(const checkpoint& files, const settings& s, const weight_formats& formats) {
  if (!s.random) return files.load<Model>({.weights = formats});
  Model model = published<Model>::make(files.config(), files.who());
  nn::choose_formats(model, formats);
  nn::initialise(model, random_stream{s.seed, 0, 0});
  nn::prepare(model, formats);
  return model;
}

/// A name that is misspelled would keep nothing, in silence.
template <class Model>
void check_kept(const Model& model, const weight_formats& formats) {
  for (const std::string& k : formats.keep) {
    // The head of tied embeddings is no parameter, and yet is held in a format of its own.
    bool any = std::string_view("llm_backbone.lm_head.weight").find(k) != std::string_view::npos;
    nn::for_each_parameter(model, [&](const std::string& path, const auto&) {
      any = any || path.find(k) != path.npos;
    });
    if (!any) fail<error>("--keep ", k, ": in no name of the model's; a part of one is wanted");
  }
}

template <class Model>
void write(const Model& model, const checkpoint& files, const settings& s,
           const weight_formats& formats) {
  const json how{{"weights", to_string(formats.format.scheme)},
                 {"group", formats.format.group},
                 {"keep", formats.keep}};
  // What the model's own config does not say stays: the chat's format, the tokenizer.
  json more = json::object();
  const json own = published<Model>::config(model);
  for (const auto& [key, value] : files.config().items())
    if (!own.contains(key) && key != "weights" && key != "tokenizer") more[key] = value;
  if (own.contains("vision"))
    keep_picture_rule(more["vision"] = own["vision"], files.config(), files.who());
  more["quantisation"] = how;
  const auto words =
      files.folder() / json_get_or<std::string>(files.config(), "tokenizer", "tokenizer.json", "");
  std::string text;
  std::error_code none;
  if (fs::exists(words, none)) {
    const mapped_file file(words);
    text.assign(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  }
  save_model(model, s.out, {{"quantisation", how.dump()}}, more, text);
}

/// What both models see before they are compared.
struct beginning {
  std::vector<tensor<float, 4>> pixels;
  std::vector<std::int32_t> tokens;
};
beginning beginning_of(const checkpoint& files, const settings& s) {
  const auto towers = examples::tower_rules(files.config(), files.who());
  if (towers.empty() && !s.image.empty()) fail<error>("this model can't see; --image has no use");
  beginning b{{}, {0}};
  if (!s.image.empty()) b.pixels = pixels_of(read_image(s.image), towers);
  if (!s.random) b.tokens = files.tokenizer().encode(s.prompt);
  if (b.tokens.empty()) fail<error>("--prompt is empty; text to start from is wanted");
  return b;
}

template <class Reference, class Model>
void report(const checkpoint& files, const Model& model, const settings& s,
            const beginning& begin) {
  context<backend::cpu> ctx(cpu_options{.threads = s.threads});
  const Reference reference = load<Reference>(files, s, {});
  auto states = std::pair(reference.make_state(1), model.make_state(1));
  if constexpr (requires { reference.vision_backbone; }) {
    if (!begin.pixels.empty()) {
      detail::read_pictures(ctx, reference, begin.pixels, 1, states.first);
      detail::read_pictures(ctx, model, begin.pixels, 1, states.second);
    }
  }
  const index_t vocabulary =
      mamba_config_from(has_towers(files.config())
                            ? language_config_from(files.config(), files.who())
                            : files.config(),
                        files.who())
          .config.vocab_size;
  const fidelity f = compare_models(ctx, reference, model, std::move(states), begin.tokens,
                                    vocabulary, s.steps, s.seed);
  std::printf("%lld tokens: KL %.3g (worst %.3g), same greedy token %.2f %%\n",
              static_cast<long long>(f.steps), f.mean_kl, f.worst_kl, 100 * f.agreement);
  for (const auto& d : f.drift)
    std::printf("state error after %lld steps: %.3g\n", static_cast<long long>(d.step), d.error);
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app{
      "Writes a model with quantised matrices, which generate and evaluate load, and compares it\n"
      "with the model as it is. Steps (dt), A, D, convolutions, norms and the embedding stay as\n"
      "they are, the recurrent state is float.\n"
      "Exit code: 0 done, 2 bad option or input."};
  app.add_option("MODEL", s.in, "Folder with config.json, weights and tokenizer.json")->required();
  app.add_option("OUT", s.out, "Folder to write; - for the report only")->required();
  app.add_option("--weights", s.weights, "int8, int4, bf16 or f32")->capture_default_str();
  app.add_option("--group", s.group, "Neighbouring weights of a row with one scale; 0: all")
      ->capture_default_str();
  app.add_option("--keep", s.keep, "Matrices with this in their names stay float; may be repeated")
      ->allow_extra_args(false);  // MODEL and OUT may follow
  app.add_option("--vision", s.vision,
                 "One more folder in which vision towers are looked for; may be repeated")
      ->check(examples::folder_problem)
      ->allow_extra_args(false);
  app.add_option("--steps", s.steps, "Tokens to compare with the model as it is; 0: no report")
      ->check(CLI::Range(0, examples::most))
      ->capture_default_str();
  app.add_option("--activations", s.activations,
                 "f32 or bf16: of the model that is compared; the other one has f32")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->capture_default_str();
  app.add_option("--image", s.image, "Compare after this picture");
  app.add_option("--prompt", s.prompt, "and this text; then the model goes on by itself")
      ->capture_default_str();
  app.add_option("--seed", s.seed, "Of what it samples")
      ->check(examples::seed_problem)
      ->capture_default_str();
  app.add_flag("--random", s.random, "Random weights by the seed; MODEL needs config.json only");
  app.add_option("--threads", s.threads, "0: all of the machine")->capture_default_str();
  if (const auto code = examples::parse(app, argc, argv, {"--prompt"})) return *code;
  try {
    std::error_code none;
    if (fs::equivalent(s.in, s.out, none))
      fail<error>(s.out, ": the same folder as MODEL; another one is wanted");
    if (s.weights == "f32" || s.weights == "bf16")
      examples::no_use_of(app, {"--group"},
                          "with --weights " + s.weights + "; int8 or int4 is wanted");
    if (s.random) examples::no_use_of(app, {"--prompt"}, "with --random, which has no words");
    if (s.steps == 0) {
      if (s.out == "-") fail<error>("nothing to do: OUT is - and --steps 0; one of them is wanted");
      examples::no_use_of(app, {"--image", "--prompt"}, "with --steps 0; a report is wanted");
      if (!s.random) examples::no_use_of(app, {"--seed"}, "with --steps 0; a report is wanted");
    }
    const weight_formats formats{{weight_scheme_of(s.weights), s.group}, s.keep};
    if (const char* p = problem_with(formats.format)) fail<error>("--group ", s.group, ": ", p);
    const checkpoint files(s.in, s.vision);
    const beginning begin =
        s.steps > 0 ? beginning_of(files, s) : beginning{};  // or nothing is written
    examples::with_chosen_model<cpu_packed>(
        files.config(), files.who(), [&]<class Model>(std::type_identity<Model>) {
          const bool narrow = s.activations == "bf16";
          if (s.out != "-" || !narrow) {
            const Model model = load<Model>(files, s, formats);
            check_kept(model, formats);
            if (s.out != "-") write(model, files, s, formats);
            if (s.steps > 0 && !narrow) report<Model>(files, model, s, begin);
          }
          if (s.steps > 0 && narrow) {
            const auto model = load<rebind_t<Model, cpu_packed_bf16>>(files, s, formats);
            check_kept(model, formats);
            report<Model>(files, model, s, begin);
          }
        });
    return examples::written();
  } catch (const std::exception& e) {
    std::cerr << "quantize: " << e.what() << '\n';
    return 2;
  }
}
