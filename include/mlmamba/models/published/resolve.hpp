// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// From what somebody calls a model to a folder with it: a folder, an id, a repository of the hub.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/io/hub.hpp"
#include "mlmamba/io/json.hpp"
#include "mlmamba/models/published/preset_config.hpp"
#include "mlmamba/models/registry.hpp"

namespace mlmamba {

/// Where the folders of models with an id are put together: MLMAMBA_CACHE, else mlmamba/models in
/// XDG_CACHE_HOME, else in ~/.cache. They have links into the hub's cache, and a config.json.
inline std::filesystem::path default_model_cache() {
  return detail::folder_of("MLMAMBA_CACHE", detail::user_cache() / "mlmamba" / "models");
}

namespace detail {

/// Weights that one file on the hub has.
struct weights_part {
  std::string_view repository;
  std::vector<std::string> files;  ///< the first that is there
  std::string name;                ///< in the folder, with the ending that the file has
  std::string prefix;              ///< before the names of its arrays
};

inline std::vector<std::string> usual_weights() {
  return {"model.safetensors", "pytorch_model.bin"};
}

inline void add_towers(std::vector<weights_part>& parts, const vision_backbone& v) {
  for (std::size_t i = 0; i < v.towers(); ++i) {
    const std::string name(v.tower[i].name);
    parts.push_back({v.tower[i].repository,
                     {"model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin",
                      "open_clip_pytorch_model.bin"},
                     name,
                     "vision_backbone." + name + "."});
  }
}

/// A link to each part under its name, "weights" in the config, tokenizer.json; config.json last,
/// so that a folder with a config.json is complete.
inline std::filesystem::path assemble(hub& files, const std::filesystem::path& folder, json config,
                                      const std::vector<weights_part>& parts, bool tokenizer) {
  std::vector<std::pair<std::string, std::filesystem::path>> links;
  config["weights"] = json::array();
  for (const weights_part& p : parts) {
    const auto path = files.any_of(p.repository, p.files);
    const std::string name = p.name + path.extension().string();
    json weights{{"file", name}};
    if (!p.prefix.empty()) weights["prefix"] = p.prefix;
    config["weights"].push_back(weights);
    links.emplace_back(name, path);
  }
  if (tokenizer)
    links.emplace_back("tokenizer.json",
                       files.file(preset::tokenizer_repository, "tokenizer.json"));
  make_folder(folder);
  for (const auto& [name, path] : links) make_link(std::filesystem::absolute(path), folder / name);
  write_file(folder / "config.json", config.dump(2) + "\n");
  return folder;
}

/// A repository as it is: config.json, its weights in one file or several, a tokenizer if it has
/// one.
inline std::filesystem::path fetch_repository(hub& files, const std::string& repository) {
  const auto config = files.file(repository, "config.json");
  const auto weights =
      files.any_of(repository, {"model.safetensors", "model.safetensors.index.json",
                                "pytorch_model.bin", "pytorch_model.bin.index.json"});
  if (weights.extension() == ".json") {
    const json index = read_json(weights);
    const json& map = json_at(index, "weight_map", weights.string());
    if (!map.is_object())
      fail<io_error>(weights.string(), ": \"weight_map\" is ", json_excerpt(map),
                     "; an object is wanted");
    for (const auto& [array, file] : map.items())
      files.file(repository, json_to<std::string>(file, weights.string(), array));
  }
  try {
    files.file(repository, "tokenizer.json");
  } catch (const io_error&) {
    // Not every model has one, and who can't do without will say so.
  }
  return config.parent_path();
}

}  // namespace detail

/// The ids that `resolve` knows a folder for.
inline std::vector<std::string_view> resolvable_ids() {
  std::vector<std::string_view> ids;
  for (const model_preset& m : preset::models)
    if (m.published()) ids.push_back(m.id);
  for (const auto& more :
       {registry::ids_of(preset::language_models), registry::ids_of(preset::vision_backbones)})
    ids.insert(ids.end(), more.begin(), more.end());
  return ids;
}

/// A folder with everything that is published of a model that is to be trained: towers, language
/// model and tokenizer. Its connector is missing: it is new.
///
/// Errors    error for an id that is no model's; those of `hub`
inline std::filesystem::path resolve_untrained(
    std::string_view id, hub& files, const std::filesystem::path& cache = default_model_cache()) {
  const model_preset& m = preset::model_of(id);
  const language_preset& l = m.language();
  std::vector<detail::weights_part> parts;
  detail::add_towers(parts, m.vision());
  parts.push_back({l.repository, detail::usual_weights(), "llm_backbone", "llm_backbone."});
  return detail::assemble(files, cache / (std::string(m.id) + "-untrained"), config_of(m), parts,
                          true);
}

/// The folder of a model, to give to `checkpoint`:
///
///   "path/of/a/folder"           itself
///   "mlmamba+3b"                 an id or alias (models/registry.hpp), put together from the hub:
///                                a multimodal model, a language model, a vision backbone
///   "state-spaces/mamba2-130m"   any repository of the hub with a config.json
///
/// Errors    error that says what is known, if it is none of these; those of `hub`
inline std::filesystem::path resolve(const std::string& what, hub& files,
                                     const std::filesystem::path& cache = default_model_cache()) {
  std::error_code ignored;
  if (std::filesystem::exists(what, ignored)) return what;
  for (const model_preset& m : preset::models) {
    if (m.id != what && (m.alias.empty() || m.alias != what)) continue;
    if (!m.published())
      fail<error>(m.id, ": there are no published weights, only a recipe; train it, or take ",
                  preset::models.front().id);
    std::vector<detail::weights_part> parts{
        {m.weights.repository, {std::string(m.weights.file)}, "latest-checkpoint", ""}};
    detail::add_towers(parts, m.vision());
    return detail::assemble(files, cache / m.id, config_of(m), parts, true);
  }
  if (const auto* l = registry::find(preset::language_models, what)) {
    json config = read_json(files.file(l->repository, "config.json"));
    if (!l->chat_format.empty()) config["chat_format"] = l->chat_format;
    return detail::assemble(files, cache / l->id, config,
                            {{l->repository, detail::usual_weights(), "model", ""}}, true);
  }
  if (const auto* v = registry::find(preset::vision_backbones, what)) {
    std::vector<detail::weights_part> parts;
    detail::add_towers(parts, *v);
    if (v->towers() == 2)
      return detail::assemble(files, cache / v->id, {{"vision", config_of(*v)}}, parts, false);
    parts[0].prefix = "";  // a folder of one tower, with timm's names
    return detail::assemble(files, cache / v->id, config_of(*v)[0], parts, false);
  }
  if (registry::find(preset::data_sets, what) != nullptr)
    fail<error>(what, ": a data set; a model is wanted");
  if (!detail::is_repository(what))
    fail<error>(what.find('/') != std::string::npos
                    ? "model \"" + what + "\": there is no such folder"
                    : registry::unknown_text("model", what, resolvable_ids()) +
                          "; or a folder, or a repository of the hub");
  try {
    return detail::fetch_repository(files, what);
  } catch (const io_error& e) {
    fail<io_error>("model \"", what,
                   "\": there is no such folder, and as a repository: ", e.what());
  }
}

/// The same with the endpoint, cache and token of the environment (`token_from`: see
/// find_hub_token); downloads show themselves on `progress`.
inline std::filesystem::path resolve(const std::string& what, const std::string& token_from = "",
                                     std::FILE* progress = stderr) {
  std::error_code ignored;
  if (std::filesystem::exists(what, ignored)) return what;
  hub files(hub_options::from_environment(token_from, progress));
  return resolve(what, files);
}

}  // namespace mlmamba
