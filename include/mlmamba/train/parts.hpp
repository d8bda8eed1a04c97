// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The weights that training begins with, from where its parts are published.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "mlmamba/io/checkpoint.hpp"
#include "mlmamba/models/published/ml_mamba.hpp"
#include "mlmamba/train/recipe.hpp"
#include "mlmamba/train/saved_run.hpp"
#include "mlmamba/train/stage.hpp"

namespace mlmamba::train {

/// Where the weights of a model come from. What none is given for is initialised.
///
/// The original builds its language model with random weights, though it means to fine-tune a
/// published one; here `language` is loaded. Of an aligned run it takes the projector alone, and
/// leaves the stem and the scan module random, which the same run had trained; here `connector` is
/// all that is neither a tower nor the language model.
struct model_parts {
  std::filesystem::path from{};                 ///< a checkpoint of a model that sees, whole
  std::filesystem::path language{};             ///< a folder or file of a language model
  std::vector<std::filesystem::path> vision{};  ///< folders with timm's files of the towers
  std::filesystem::path connector{};            ///< a file of weights with an aligned connector

  bool any() const {
    return !from.empty() || !language.empty() || !vision.empty() || !connector.empty();
  }
};

/// "parts" of a recipe: {"from", "language", "vision": [...], "connector"}.
inline model_parts parts_from(const json& j, const std::string& who) {
  detail::only_keys(j, {"from", "language", "vision", "connector"}, who);
  model_parts p;
  p.from = json_get_or<std::string>(j, "from", "", who);
  p.language = json_get_or<std::string>(j, "language", "", who);
  for (const auto& place : json_get_or<std::vector<std::string>>(j, "vision", {}, who))
    p.vision.emplace_back(place);
  p.connector = json_get_or<std::string>(j, "connector", "", who);
  if (!p.from.empty() && (!p.language.empty() || !p.connector.empty()))
    fail<io_error>(who,
                   ": \"from\" is a whole model; \"language\" or \"connector\" beside it is one "
                   "too many");
  return p;
}

namespace detail {

inline bool of_connector(std::string_view path) {
  return !path_below(path, "vision_backbone") && !path_below(path, "llm_backbone") &&
         !path.starts_with("vision.");
}

/// A folder that models/published/resolve.hpp has put together lists its files.
inline std::vector<safetensors_entry> listed_towers(const std::filesystem::path& folder) {
  auto all = checkpoint(folder).arrays();
  for (safetensors_entry& e : all)
    if (!e.name.starts_with("vision_backbone.")) e.name.insert(0, "vision_backbone.");
  return all;
}
inline bool lists_weights(const std::filesystem::path& folder) {
  std::error_code none;
  const auto file = folder / "config.json";
  return std::filesystem::is_regular_file(file, none) && json_has(read_json(file), "weights");
}

/// Every array of the parts, under the names of a model's checkpoint.
inline std::vector<safetensors_entry> arrays_of_parts(const model_parts& p, const json& config,
                                                      const std::string& who) {
  std::vector<safetensors_entry> all;
  const auto take = [&](std::vector<safetensors_entry> more) {
    all.insert(all.end(), std::make_move_iterator(more.begin()),
               std::make_move_iterator(more.end()));
  };
  std::vector<std::filesystem::path> places = p.vision;
  if (!p.from.empty()) {
    take(checkpoint(p.from).arrays());
    const auto beside = checkpoint(p.from).places();
    places.insert(places.begin(), beside.begin(), beside.end());
  }
  if (!p.language.empty()) {
    auto language = read_model_weights(p.language);
    for (safetensors_entry& e : language) e.name.insert(0, "llm_backbone.");
    take(std::move(language));
  }
  for (const auto& place : p.vision)
    if (lists_weights(place)) take(listed_towers(place));
  if (!places.empty()) add_tower_arrays(all, config, places, who);
  if (!p.connector.empty()) {
    auto aligned = read_model_weights(p.connector);
    std::erase_if(aligned, [](const auto& e) { return !of_connector(e.name); });
    if (aligned.empty()) fail<io_error>(p.connector.string(), ": it has no connector");
    take(std::move(aligned));
  }
  return all;
}

}  // namespace detail

/// Initialises `model` from `seed`, then puts the parts in; a part is there whole or refused. The
/// weights lie in memory of their own (training writes there, and mapped files stay as they are).
///
/// Errors    io_error naming what is missing, of another shape, or none of the model's
template <class Model>
void load_parts(Model& model, const model_parts& p, const json& config, std::uint64_t seed,
                const std::string& who) {
  nn::initialise(model, {seed, 0, 0});
  if (!p.any()) return;
  const named_arrays named =
      published<Model>::arrays(detail::arrays_of_parts(p, config, who), config, who);
  std::vector<std::string> absent;
  nn::for_each_parameter(model, [&](const std::string& path, const auto&) {
    const bool given =
        !p.from.empty() || (detail::path_below(path, "llm_backbone")      ? !p.language.empty()
                            : detail::path_below(path, "vision_backbone") ? !p.vision.empty()
                                                                          : !p.connector.empty());
    if (given && !named.by_path.contains(path)) absent.push_back(path);
  });
  if (!absent.empty())
    fail<io_error>(who, ": ", absent.size(), " arrays are missing in what is given of the model: ",
                   mlmamba::detail::some_of(absent));
  load_parameters(model, named, {.missing = missing::keep});
  own_weights(model);
}

/// The aligned connector that fine-tuning begins with if nothing else is given: of the one run
/// beside `run` that has aligned `model` with this seed, on any data set.
///
/// Errors    error if there is none, or several
inline std::filesystem::path aligned_connector(const std::filesystem::path& run,
                                               std::string_view model, std::uint64_t seed) {
  namespace fs = std::filesystem;
  const std::string name = run_name(model, "llava-v15", stage::align, seed);
  fs::path parent = run.lexically_normal();
  if (!parent.has_filename()) parent = parent.parent_path();  // "runs/x/"
  parent = parent.parent_path();
  if (parent.empty()) parent = ".";
  std::vector<fs::path> found;
  std::error_code none;
  for (fs::directory_iterator at(parent, none), end; !none && at != end; at.increment(none)) {
    const std::string here = at->path().filename().string();
    if (here == name || here.ends_with("+" + name)) found.push_back(at->path());
  }
  const std::string wanted = "; the folder of one aligned run is wanted, named [DATA+]" + name +
                             ", or --from, or an arch_specifier that begins with no-align";
  if (found.empty()) fail("stage: no aligned connector in ", parent.string(), wanted);
  if (found.size() > 1)
    fail("stage: ", found.size(), " aligned connectors in ", parent.string(), ", such as ",
         found[0].filename().string(), " and ", found[1].filename().string(), wanted);
  const auto newest = saved_run(found[0] / "checkpoints").newest();
  if (newest.empty()) fail("stage: ", found[0].string(), " has no checkpoint yet", wanted);
  return newest / "model.safetensors";
}

/// What "arch_specifier" says of a model's config: is the connector aligned before fine-tuning? If
/// it says nothing: no.
inline bool wants_alignment(const json& config, const std::string& who) {
  const json& m = mlmamba::detail::model_part(config);
  std::string arch = json_get_or<std::string>(m, "arch_specifier", "no-align", who);
  if (json_has(m, "connector") && m.at("connector").is_object())
    arch = json_get_or<std::string>(m.at("connector"), "arch_specifier", arch, who);
  return !arch.starts_with("no-align");
}

}  // namespace mlmamba::train
