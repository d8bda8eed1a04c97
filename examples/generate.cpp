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

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "chat.hpp"
#include "loaded_model.hpp"
#include "mlmamba/io/fetch.hpp"
#include "mlmamba/io/image.hpp"
#include "program.hpp"
#include "mlmamba/models/published/resolve.hpp"
#include "mlmamba/models/published/towers.hpp"
#include "mlmamba/text/prompt.hpp"
#include "weight_settings.hpp"

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
  examples::weight_settings held;
  int threads = 0;
  bool raw = false, chat = false, sample = false, timing = false;
};

constexpr std::size_t most_picture_bytes = std::size_t{64} << 20;  // of a picture at an address

/// A picture as the model's towers take it.
std::vector<tensor<float, 4>> look(const std::string& file,
                                   std::span<const image_transform> towers) {
  if (towers.empty())
    fail<error>("generate: this model can't see; a prompt without picture is wanted");
  if (!is_address(file)) return pixels_of(read_image(file), towers);
  const auto client = default_http_client();
  if (!client)
    fail<error>("generate: ", file, " is an address, and this program was built without libcurl; ",
                "the name of a JPEG or PNG file is wanted");
  return pixels_of(decode_image(fetch(*client, file, most_picture_bytes), file), towers);
}

/// Seconds since the last call.
class stop_watch {
 public:
  double operator()() {
    const auto before = std::exchange(last_, std::chrono::steady_clock::now());
    return std::chrono::duration<double>(last_ - before).count();
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

/// One question; what took how long goes to standard error if it is wanted.
void answer(examples::loaded_model& model, const settings& s, stop_watch& watch) {
  double first = 0;  // reading the question, and one step
  const auto& turn = model.ask(s.prompt, s.sampling, [&](std::string_view piece) {
    if (first == 0) first = watch();
    std::cout << piece << std::flush;
    return true;
  });
  std::cout << std::endl;
  if (!s.timing) return;
  const double rest = watch();
  std::fprintf(stderr, "%.3f s to the first token", first);
  if (first > 0 && turn.tokens > 1)
    std::fprintf(stderr, ", %.4f s for each of %lld more", rest / double(turn.tokens - 1),
                 static_cast<long long>(turn.tokens - 1));
  std::fputc('\n', stderr);
}

int run_program(const checkpoint& files, const settings& s) {
  if (!has_towers(files.config()) && !s.image.empty())
    fail<error>("generate: this model can't see; a prompt without picture is wanted");
  stop_watch watch;
  const auto model = examples::load_model(files, options_of(s.held), s.threads);
  const double loading = watch();
  const std::string fallback = model->towers.empty() ? "" : "zephyr";
  const auto format =
      json_get_or<std::string>(files.config(), "chat_format", fallback, files.who());
  std::optional<chat_format> template_used;  // without one a model continues text
  if (!s.raw && !format.empty()) template_used = chat_format_of(format);
  model->open(template_used);
  watch();
  if (!s.image.empty()) model->begin(look(s.image, model->towers));
  if (s.timing)
    std::fprintf(stderr, "weights in %s: loaded in %.3f s; %.3f s to read the picture\n",
                 std::string(model->weights).c_str(), loading, watch());
  if (s.chat) {
    examples::chat(*model, template_used, s.sampling, [&](const std::string& file) {
      return look(file, model->towers);
    }).run(s.image);
  } else {
    answer(*model, s, watch);
  }
  return 0;
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
                 "More folders in which vision towers of the model are looked for: timm's files")
      ->check(examples::folder_problem);
  app.add_option("--image", s.image, "JPEG or PNG: a file, or its http or https address");
  app.add_option("--prompt", s.prompt, "The question; none: a chat on standard input");
  app.add_flag("--raw", s.raw, "Give the prompt as it is, without the model's chat template");
  app.add_option("--max-new-tokens,--max_new_tokens", s.sampling.max_new_tokens)
      ->capture_default_str();
  app.add_option("--max-length,--max_length", s.sampling.max_length,
                 "Tokens of text, prompt included; 0: no limit")
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
  app.add_option("--top-k,--top_k", s.sampling.top_k, "0: all")->capture_default_str();
  app.add_option("--top-p,--top_p", s.sampling.top_p)->capture_default_str();
  app.add_option("--min-p,--min_p", s.sampling.min_p)->capture_default_str();
  app.add_option("--repetition-penalty,--repetition_penalty", s.sampling.repetition_penalty)
      ->capture_default_str();
  app.add_option("--seed", s.sampling.seed)->check(examples::seed_problem)->capture_default_str();
  app.add_option("--hf_token", s.token_from,
                 "Where the token for downloads is: a file, or the name of a variable");
  add_options(app, s.held);
  app.add_flag("--timing", s.timing, "Say on standard error what took how long");
#if !defined(__CUDACC__)
  app.add_option("--threads", s.threads, "0: all of the machine")->capture_default_str();
#endif
  app.add_option("--device", s.device, "cpu, or cuda where the program was built for it")
      ->capture_default_str();
  if (const auto code = examples::parse(app, argc, argv, {"--prompt"})) return *code;
  s.chat = app.count("--prompt") == 0;
  if (s.sample && app.count("--temperature") == 0) s.sampling.temperature = 1;
  if (!s.sample && app.count("--do_sample") > 0) s.sampling.temperature = 0;
  try {
#if defined(__CUDACC__)
    const std::string built_for = "cuda";
#else
    const std::string built_for = "cpu";
#endif
    if (s.device != built_for)
      fail<error>("generate: --device ", s.device, "; this program was built for ", built_for);
    if (s.sampling.temperature == 0 && app.count("--do_sample") == 0)
      examples::no_use_of(app, {"--top-k", "--top-p", "--min-p"},
                          "at --temperature 0; a temperature, or --do_sample, is wanted");
    if (app.count("--hf_token") > 0)
      (void)find_hub_token(s.token_from);  // also if it is not needed
    const checkpoint files(resolve(s.model, s.token_from), s.vision);
    check_options(app, s.held, files);
    if (!has_towers(files.config()))
      examples::no_use_of(app, {"--vision"}, "on a model that can't see; none is wanted");
    return examples::written(run_program(files, s));
  } catch (const std::exception& e) {
    std::cerr << e.what() << '\n';
    return 2;
  }
}
