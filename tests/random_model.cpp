// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Writes a model with random weights, to find out what one of its size needs:
//
//   random_model mlmamba+3b FOLDER [--weights f32|bf16] [--tokenizer tokenizer.json]
//   random_model some/config.json FOLDER ...
//
// All of it is in memory before it is written: 6.6 GB of mlmamba+3b in bf16.
#include <cstdio>
#include <filesystem>
#include <map>
#include <string>

#include "../examples/chosen_model.hpp"
#include "mlmamba/io/mapped_file.hpp"
#include "mlmamba/models/published/preset_config.hpp"

using namespace mlmamba;

namespace {

/// Initialised as training from scratch does it.
template <class Weight>
void write(const json& config, const std::filesystem::path& folder, const std::string& tokenizer) {
  using E = on<backend::reference, float, float, Weight>;
  std::filesystem::create_directories(folder);
  examples::with_chosen_model<E>(
      config, folder.string(), [&]<class Model>(std::type_identity<Model>) {
        Model model = published<Model>::make(config, "config");
        nn::initialise(model, {7, 0, 0});
        json more = json::object();
        for (const char* key : {"chat_format", "image_resize_strategy", "llm_max_length"})
          if (json_has(config, key)) more[key] = config.at(key);
        save_model(model, folder, {}, more, tokenizer);
      });
}

}  // namespace

int main(int argc, char** argv) {
  const char* usage =
      "random_model ID|CONFIG.json FOLDER [--weights f32|bf16] [--tokenizer tokenizer.json]\n"
      "Writes a model with random weights. Exit code: 0 done, 2 bad option or input.\n";
  if (argc == 2 && std::string(argv[1]) == "--help") return std::fputs(usage, stdout), 0;
  if (argc < 3 || argc % 2 == 0) return std::fputs(usage, stderr), 2;
  try {
    std::map<std::string, std::string> options{{"--weights", "bf16"}, {"--tokenizer", ""}};
    for (int i = 3; i + 1 < argc; i += 2) {
      if (!options.contains(argv[i])) fail<error>(argv[i], " is no option\n", usage);
      options[argv[i]] = argv[i + 1];
    }
    const std::string what = argv[1], weights = options["--weights"],
                      words = options["--tokenizer"];
    const json config =
        what.ends_with(".json") ? read_json(what) : config_of(preset::model_of(what));
    const std::string text = words.empty() ? "" : std::string(mapped_file(words).text());
    if (weights == "bf16") {
      write<bf16>(config, argv[2], text);
    } else if (weights == "f32") {
      write<float>(config, argv[2], text);
    } else {
      fail<error>("--weights ", weights, "; f32 or bf16 is wanted");
    }
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "random_model: %s\n", e.what());
    return 2;
  }
}
