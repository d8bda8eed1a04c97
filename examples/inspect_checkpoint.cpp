// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What is in a file of weights or a model folder, and what is missing or too much for its model.
//
//   inspect_checkpoint examples/garment_model
//   inspect_checkpoint FILE.pt
//   inspect_checkpoint pytorch_model.bin --model mamba2-130m
#include <CLI/CLI.hpp>

#include <cstdio>
#include <filesystem>
#include <iostream>
#include <set>
#include <string>
#include <vector>

#include "mlmamba/backend/reference.hpp"
#include "mlmamba/models/connectors/any.hpp"
#include "mlmamba/models/published/ml_mamba.hpp"
#include "mlmamba/nn/mamba1.hpp"
#include "program.hpp"

using namespace mlmamba;
namespace fs = std::filesystem;

namespace {

using E = reference_f32;  // nothing is computed here
using arrays_type = std::vector<safetensors_entry>;

void list(const arrays_type& arrays) {
  std::int64_t numbers = 0;
  std::size_t bytes = 0;
  for (const safetensors_entry& a : arrays) {
    std::printf("%-64s %-5s %s\n", a.name.c_str(), std::string(name_of(a.type)).c_str(),
                shape_text(a.shape).c_str());
    numbers += a.count(), bytes += a.bytes.size();
  }
  std::printf("%zu arrays, %lld numbers, %.1f MB\n", arrays.size(), static_cast<long long>(numbers),
              double(bytes) / 1e6);
}

/// The parameters of a model beside what the files have for them; how many don't match.
template <class Model>
std::size_t compare(Model model, const named_arrays& there) {
  std::set<std::string> wanted;
  std::size_t problems = 0;
  nn::for_each_parameter(model, [&](const std::string& path, const auto&) {
    wanted.insert(path);
    if (there.by_path.contains(path)) return;
    std::printf("missing: %s\n", path.c_str());
    ++problems;
  });
  for (const auto& [path, array] : there.by_path)
    if (!wanted.contains(path)) {
      std::printf("unexpected: %s\n", array.name.c_str());
      ++problems;
    }
  if (problems == 0) {
    try {
      load_parameters(model, there);  // an error if an array has another shape
    } catch (const io_error& e) {
      std::printf("%s\n", e.what());
      ++problems;
    }
  }
  std::printf("the model wants %zu arrays: %s\n", wanted.size(),
              problems ? "see above" : "all are there");
  return problems;
}
template <class Model>
std::size_t compare(const arrays_type& arrays, const json& config, const std::string& who) {
  return compare(published<Model>::make(config, who),
                 published<Model>::arrays(arrays, config, who));
}

template <class Language>
std::size_t compare_seeing(const arrays_type& arrays, const json& config, const std::string& who) {
  using any = any_connector<E>;
  const auto towers = towers_from(config, who).size();
  if (towers == 1) return compare<ml_mamba<vit<E>, any, Language>>(arrays, config, who);
  if (towers == 2)
    return compare<ml_mamba<fused<vit<E>, vit<E>>, any, Language>>(arrays, config, who);
  fail<error>(who, ": it has ", towers, " towers; 1 or 2 are wanted");
}

/// Structure is chosen here, sizes by the config.
std::size_t compare(const arrays_type& arrays, const json& config, const std::string& who) {
  if (json_has(config, "kind")) return compare<vit<E>>(arrays, config, who);
  if (!has_towers(config)) {
    if (mamba_config_from(config, who).layer == "Mamba1")
      return compare<mamba_lm<E, nn::mamba1>>(arrays, config, who);
    return compare<mamba_lm<E>>(arrays, config, who);
  }
  const json& part = detail::model_part(config);
  if (!json_has(part, "llm") && !json_has(part, "llm_backbone_id")) {  // towers alone
    const auto towers = towers_from(config, who);
    if (towers.size() != 1)
      fail<error>(who, ": it has ", towers.size(), " towers; 1, or a language model is wanted");
    const vit_config& c = towers[0].config;
    return compare(vit<E>(c), published<vit<E>>::arrays(arrays, c, who));
  }
  if (mamba_config_from(language_config_from(config, who), who).layer == "Mamba1")
    return compare_seeing<mamba_lm<E, nn::mamba1>>(arrays, config, who);
  return compare_seeing<mamba_lm<E>>(arrays, config, who);
}

/// What config.json would say of a published model, language model or vision backbone.
json config_of_id(const std::string& id) {
  if (id == "mlmamba+3b" || id == "cobra+3b")
    return {{"vision_backbone_id", "dinosiglip-vit-so-384px"},
            {"llm_backbone_id", id == "cobra+3b" ? "mamba-2.8b-zephyr" : "mamba2-2.7b"},
            {"arch_specifier", "no-align+fused-gelu-mlp"}};
  if (id.starts_with("mamba")) return language_config_from({{"llm_backbone_id", id}}, "--model");
  const json config{{"vision_backbone_id", id}};
  (void)towers_from(config, "--model");  // an error if it is not known
  return config;
}

}  // namespace

int main(int argc, char** argv) {
  std::string path, id;
  std::vector<fs::path> vision;
  CLI::App app{
      "Lists names, types and shapes of weights, and what a model lacks or has no use for.\n"
      "Exit code: 0 it fits, 1 something is missing or too much, 2 it can't be read."};
  app.add_option("PATH", path,
                 "File .safetensors, .pt, .pth, .bin, an index .json, or a folder; of one with\n"
                 "config.json the model is known")
      ->required();
  app.add_option("--model", id,
                 "Compare with this model instead: mlmamba+3b, a language model such as\n"
                 "mamba2-130m, or a vision backbone such as siglip-vit-so400m-384px");
  app.add_option("--vision", vision,
                 "One more folder in which vision towers of a model are looked for: timm's files;\n"
                 "may be repeated")
      ->check(examples::folder_problem)
      ->allow_extra_args(false);  // PATH may follow
  if (const auto code = examples::parse(app, argc, argv)) return *code;
  try {
    std::error_code none;
    const bool folder = fs::is_directory(path, none);
    if (id.empty() && !folder) {
      examples::no_use_of(app, {"--vision"}, "on a file; a model's folder, or --model, is wanted");
      list(read_weights(path).arrays);
      return 0;
    }
    arrays_type arrays;
    json config;
    std::vector<fs::path> places = vision;
    if (id.empty()) {
      const checkpoint files(path, vision);
      arrays = files.arrays(), config = files.config(), places = files.places();
    } else {
      arrays = read_model_weights(path), config = config_of_id(id);
      if (folder)
        places.insert(places.begin(), {fs::path(path) / "vision", fs::path(path) / "timm"});
    }
    if (!has_towers(config))
      examples::no_use_of(app, {"--vision"}, "on a model that can't see; none is wanted");
    list(arrays);
    std::size_t problems = 0;
    const json& part = detail::model_part(config);
    if (has_towers(config) && (json_has(part, "llm") || json_has(part, "llm_backbone_id"))) {
      try {
        const std::size_t before = arrays.size();
        add_tower_arrays(arrays, config, places, path);
        if (arrays.size() > before)
          std::printf("and %zu of vision towers in other files\n", arrays.size() - before);
      } catch (const io_error& e) {
        std::printf("%s\n", e.what());
        ++problems;
      }
    }
    problems += compare(arrays, config, path);
    return examples::written(problems ? 1 : 0);
  } catch (const std::exception& e) {
    std::cerr << "inspect_checkpoint: " << e.what() << '\n';
    return 2;
  }
}
