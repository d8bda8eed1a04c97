// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Model folders: config.json, *.safetensors, tokenizer.json.
#pragma once

#include <filesystem>
#include <map>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "mlmamba/io/json.hpp"
#include "mlmamba/io/parameters.hpp"
#include "mlmamba/io/safetensors_set.hpp"
#include "mlmamba/io/write_file.hpp"

namespace mlmamba {

class tokenizer;  // text/tokenizer.hpp

/// How a model is made from published files; models/published.hpp specialises it for the models of
/// the library, and a model of one's own may do the same:
///
///   static Model make(const json& config, const std::string& who);
///   static named_arrays arrays(std::vector<safetensors_entry> entries, const json& config,
///                              const std::string& who);       the file's names to the model's
///                              paths
///   static json config(const Model& model);                   what `make` reads, for saving
template <class Model>
struct published;

/// A folder with a model.
///
///   const checkpoint files{"mamba2-130m"};
///   const auto model = files.load<mamba_lm<cpu_f32>>();
///
/// The arrays are those of safetensors_set (one file, or an index with its files); or those that
/// config.json lists, where parts come from several places:
///   "weights": [{"file": "dino.safetensors", "prefix": "vision_backbone.dino_featurizer."}, ...]
///
/// Errors    io_error naming the file and what is wrong with it; a failed load leaves nothing
class checkpoint {
 public:
  explicit checkpoint(std::filesystem::path folder)
      : folder_(std::move(folder)), config_(read_json(folder_ / "config.json")) {
    if (!config_.is_object())
      fail<io_error>((folder_ / "config.json").string(), ": ", detail::json_excerpt(config_),
                     "; an object is wanted");
  }

  const std::filesystem::path& folder() const { return folder_; }
  const json& config() const { return config_; }
  std::string who() const { return folder_.string(); }

  /// Every array under its name in the files. The files are mapped anew, so that two models loaded
  /// from one checkpoint share no memory.
  std::vector<safetensors_entry> arrays() const {
    std::vector<safetensors_entry> all;
    if (!json_has(config_, "weights")) {
      const auto set = safetensors_set::open(folder_);
      for (const auto& [name, entry] : set.entries()) all.push_back(*entry);
      return all;
    }
    const json& weights = config_.at("weights");
    const std::string where = (folder_ / "config.json").string();
    if (!weights.is_array())
      fail<io_error>(where, ": \"weights\" is ", detail::json_excerpt(weights),
                     "; a list of files and prefixes is wanted");
    for (const json& part : weights) {
      const auto file = json_get<std::string>(part, "file", where);
      const auto prefix = json_get_or<std::string>(part, "prefix", "", where);
      const auto set = safetensors_set::open(folder_ / file);
      for (const auto& [name, entry] : set.entries()) {
        all.push_back(*entry);
        all.back().name = prefix + name;
      }
    }
    return all;
  }

  template <class Model>
  Model load(const load_options& options = {}) const {
    try {
      Model model = published<Model>::make(config_, (folder_ / "config.json").string());
      load_parameters(model, published<Model>::arrays(arrays(), config_, who()), options);
      return model;
    } catch (const std::bad_alloc&) {
      fail<io_error>(who(), ": no memory for a model of the sizes in config.json");
    }
  }

  /// Needs text/tokenizer.hpp.
  template <class Tokenizer = mlmamba::tokenizer>
  Tokenizer tokenizer() const {
    return Tokenizer::open(folder_ /
                           json_get_or<std::string>(config_, "tokenizer", "tokenizer.json", who()));
  }

 private:
  std::filesystem::path folder_;
  json config_;
};

/// Writes a model as a folder that `checkpoint` reads: model.safetensors first, config.json last,
/// each in one step, so that a folder with a config.json is complete. `more` are further members of
/// config.json; `tokenizer_json` is the text of tokenizer.json, if there is one.
template <class Model>
void save_model(const Model& model, const std::filesystem::path& folder,
                const std::map<std::string, std::string>& metadata = {},
                const json& more = json::object(), std::string_view tokenizer_json = {}) {
  std::error_code code;
  std::filesystem::create_directories(folder, code);
  if (code) fail<io_error>(folder.string(), ": can't create it (", code.message(), ")");
  json config = published<Model>::config(model);
  for (const auto& [key, value] : more.items()) config[key] = value;
  save_parameters(model, folder / "model.safetensors", metadata);
  if (!tokenizer_json.empty()) write_file(folder / "tokenizer.json", tokenizer_json);
  write_file(folder / "config.json", config.dump(2) + "\n");
}

}  // namespace mlmamba
