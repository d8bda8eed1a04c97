// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Asks a model: a picture and a question in, an answer out, as it is made. Without a prompt: a
// chat.
//
//   generate --image examples/pictures/1.png --prompt "What is at the top left?"
//   generate --model mamba2-130m --prompt "State space models are" --max-new-tokens 40
//   generate --image examples/pictures/1.png
#include <CLI/CLI.hpp>

#include <cstdio>
#include <filesystem>
#include <iostream>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "chosen_model.hpp"
#if defined(__CUDACC__)
#include "mlmamba/cuda.cuh"
#else
#include "mlmamba/backend/cpu.hpp"
#endif
#include "mlmamba/io/image.hpp"
#include "mlmamba/models/published/resolve.hpp"
#include "mlmamba/text/generate.hpp"
#include "mlmamba/text/prompt.hpp"

#include "chat.hpp"

using namespace mlmamba;

namespace {

struct settings {
  std::string model = MLMAMBA_SHIPPED_MODEL, image, prompt, token_from;
  std::vector<std::filesystem::path> vision;
#if defined(__CUDACC__)
  std::string device = "cuda";
#else
  std::string device = "cpu";
#endif
  generate_options sampling;
  std::string weights;  // empty: as the model says
  index_t group = 64;
  int threads = 0;
  bool raw = false, chat = false, sample = false;
};

/// A picture as the model's towers take it.
std::vector<tensor<float, 4>> look(const std::string& file,
                                   std::span<const image_transform> towers) {
  if (towers.empty())
    fail<error>("generate: this model can't see; a prompt without picture is wanted");
  if (file.find("://") != file.npos)
    fail<error>("generate: ", file, " is an address; the name of a JPEG or PNG file is wanted");
  return pixels_of(read_image(file), towers);
}

template <class Model>
int run(context_of<typename Model::engine_type>& ctx, const checkpoint& files, const settings& s,
        std::vector<image_transform> towers) {
  load_options options{.weights = files.formats()};
  if (!s.weights.empty()) options.weights = {{weight_scheme_of(s.weights), s.group}, {}};
  const Model model = files.load<Model>(options);
  const tokenizer words = files.tokenizer();
  const std::string fallback = towers.empty() ? "" : "zephyr";
  const auto format =
      json_get_or<std::string>(files.config(), "chat_format", fallback, files.who());
  std::optional<chat_format> template_used;  // without one a model continues text
  if (!s.raw && !format.empty()) template_used = chat_format_of(format);
  conversation<Model> c(ctx, model, words, template_used);
  if (!s.image.empty()) c.begin(look(s.image, towers));
  if (s.chat) {
    examples::chat(c, template_used, s.sampling, [&](const std::string& file) {
      return look(file, towers);
    }).run(s.image);
    return 0;
  }
  c.ask(s.prompt, s.sampling, [](std::string_view piece) { std::cout << piece << std::flush; });
  std::cout << std::endl;
  return 0;
}

template <class E>
int choose(context_of<E>& ctx, const settings& s) {
  const checkpoint files(resolve(s.model, s.token_from), s.vision);
  return examples::with_chosen_model<E>(
      files, [&]<class Model>(std::type_identity<Model>, std::vector<image_transform> towers) {
        if (towers.empty() && !s.image.empty())
          fail<error>("generate: this model can't see; a prompt without picture is wanted");
        return run<Model>(ctx, files, s, std::move(towers));
      });
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app{
      "Asks a model about a picture, or lets it continue text. Without --prompt: a chat.\n"
      "Exit code: 0 done, 2 bad option or input."};
  app.add_option("--model,--model_path", s.model,
                 "Folder with config.json, weights and tokenizer.json; or an id (see models) or a\n"
                 "repository of the hub, which is downloaded once")
      ->capture_default_str();
  app.add_option("--vision", s.vision,
                 "More folders in which vision towers of the model are looked for: timm's files");
  app.add_option("--image", s.image, "JPEG or PNG");
  app.add_option("--prompt", s.prompt, "The question; none: a chat on standard input");
  app.add_flag("--raw", s.raw, "Give the prompt as it is, without the model's chat template");
  app.add_option("--max-new-tokens,--max_new_tokens", s.sampling.max_new_tokens)
      ->capture_default_str();
  app.add_option("--temperature", s.sampling.temperature, "0: the likeliest token")
      ->capture_default_str();
  app.add_option(
         "--do_sample", s.sample,
         "True, also without a value: as --temperature 1, unless one is given (the original\n"
         "stays greedy without a top-k). False: the likeliest token at any temperature")
      ->expected(0, 1)
      ->default_str("true")  // without a value
      ->option_text("[BOOLEAN]");
  app.add_option("--top-k", s.sampling.top_k, "0: all")->capture_default_str();
  app.add_option("--top-p", s.sampling.top_p)->capture_default_str();
  app.add_option("--min-p", s.sampling.min_p)->capture_default_str();
  app.add_option("--repetition-penalty", s.sampling.repetition_penalty)->capture_default_str();
  app.add_option("--seed", s.sampling.seed)->capture_default_str();
  app.add_option("--hf_token", s.token_from,
                 "Where the token for downloads is: a file, or the name of a variable");
#if !defined(__CUDACC__)
  app.add_option("--weights", s.weights,
                 "Matrices in f32, bf16, int8 or int4 (activations float, or 8 bits for the last\n"
                 "two); otherwise as the model was quantised, else f32");
  app.add_option("--group", s.group, "Neighbouring weights of a row with one scale; 0: all")
      ->capture_default_str();
#endif
  app.add_option("--threads", s.threads, "0: all of the machine")->capture_default_str();
  app.add_option("--device", s.device, "cpu, or cuda where the program was built for it")
      ->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  s.chat = app.count("--prompt") == 0;
  if (s.sample && app.count("--temperature") == 0) s.sampling.temperature = 1;
  if (!s.sample && app.count("--do_sample") > 0) s.sampling.temperature = 0;
  try {
    if (s.device == "cpu") {
#if !defined(__CUDACC__)
      context<backend::cpu> ctx(cpu_options{.threads = s.threads});
      return choose<cpu_packed>(ctx, s);
#endif
    }
#if defined(__CUDACC__)
    if (s.device == "cuda") {
      context<backend::cuda> ctx;
      return choose<cuda_f32>(ctx, s);
    }
    fail<error>("generate: --device ", s.device, "; this program was built for cuda");
#else
    fail<error>("generate: --device ", s.device, "; this program was built for cpu");
#endif
  } catch (const std::exception& e) {
    std::cerr << e.what() << '\n';
    return 2;
  }
}
