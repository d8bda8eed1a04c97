// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Model folders: config.json, the arrays of safetensors or of torch.save, tokenizer.json.
#pragma once

#include <filesystem>
#include <map>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "mlmamba/io/json.hpp"
#include "mlmamba/io/output_folder.hpp"
#include "mlmamba/io/parameters.hpp"
#include "mlmamba/io/weight_files.hpp"
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
/// and, if some of its arrays are published elsewhere (vision towers):
///   static void complete(std::vector<safetensors_entry>& entries, const json& config,
///                        const std::vector<std::filesystem::path>& places,
///                        const std::string& who);             appends them, found in `places`
template <class Model>
struct published;

/// A folder with a model, or its file of arrays with config.json beside it.
///
///   const checkpoint files{"mamba2-130m"};
///   const auto model = files.load<mamba_lm<cpu_f32>>();
///
/// The arrays are those of read_model_weights (weight_files.hpp): of Hugging Face, state-spaces and
/// the authors of ML-Mamba and Cobra (checkpoints/latest-checkpoint.pt); or those that config.json
/// lists, where parts come from several places:
///   "weights": [{"file": "dino.safetensors", "prefix": "vision_backbone.dino_featurizer."}, ...]
/// What they lack is looked for in the folders vision and timm of the folder, then in `places`.
///
/// Errors    io_error naming the file and what is wrong with it; a failed load leaves nothing
class checkpoint {
 public:
  explicit checkpoint(std::filesystem::path path, std::vector<std::filesystem::path> places = {})
      : folder_(folder_of(path)),
        weights_(std::move(path)),
        places_{folder_ / "vision", folder_ / "timm"},
        config_(read_json(folder_ / "config.json")) {
    places_.insert(places_.end(), places.begin(), places.end());
    if (!config_.is_object())
      fail<io_error>((folder_ / "config.json").string(), ": ", detail::json_excerpt(config_),
                     "; an object is wanted");
  }

  const std::filesystem::path& folder() const { return folder_; }
  const json& config() const { return config_; }
  /// What examples/quantize has written the matrices in:
  ///   "quantisation": {"weights": "int8", "group": 64, "keep": ["lm_head"]}
  /// f32 of other models. For load_options::weights, of engines with packed weights.
  weight_formats formats() const {
    weight_formats f;
    if (!json_has(config_, "quantisation")) return f;
    const std::string where = who() + ": quantisation";
    const json& q = config_.at("quantisation");
    if (!q.is_object())
      fail<io_error>(where, " is ", detail::json_excerpt(q), "; an object is wanted");
    f.format.scheme = weight_scheme_of(json_get<std::string>(q, "weights", where));
    f.format.group = json_get_or<index_t>(q, "group", 64, where);
    if (const char* p = problem_with(f.format)) fail<io_error>(where, ": ", p);
    if (json_has(q, "keep"))
      f.keep = json_to<std::vector<std::string>>(q.at("keep"), where, "keep");
    return f;
  }
  /// Where arrays that the folder's own files lack are looked for.
  const std::vector<std::filesystem::path>& places() const { return places_; }
  std::string who() const { return folder_.string(); }

  /// Every array under its name in the files. The files are mapped anew, so that two models loaded
  /// from one checkpoint share no memory.
  std::vector<safetensors_entry> arrays() const {
    if (!json_has(config_, "weights")) return read_model_weights(weights_);
    std::vector<safetensors_entry> all;
    const json& weights = config_.at("weights");
    const std::string where = (folder_ / "config.json").string();
    if (!weights.is_array())
      fail<io_error>(where, ": \"weights\" is ", detail::json_excerpt(weights),
                     "; a list of files and prefixes is wanted");
    for (const json& part : weights) {
      const auto file = json_get<std::string>(part, "file", where);
      const auto prefix = json_get_or<std::string>(part, "prefix", "", where);
      for (safetensors_entry& entry : read_model_weights(folder_ / file)) {
        entry.name = prefix + entry.name;
        all.push_back(std::move(entry));
      }
    }
    return all;
  }
  /// The same, and those of the model that are published elsewhere.
  template <class Model>
  std::vector<safetensors_entry> arrays_of() const {
    auto all = arrays();
    if constexpr (requires { published<Model>::complete(all, config_, places_, who()); })
      published<Model>::complete(all, config_, places_, who());
    return all;
  }

  template <class Model>
  Model load(const load_options& options = {}) const {
    try {
      Model model = published<Model>::make(config_, (folder_ / "config.json").string());
      load_parameters(model, published<Model>::arrays(arrays_of<Model>(), config_, who()), options);
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
  /// Of a file, its folder, or the one above "checkpoints".
  static std::filesystem::path folder_of(const std::filesystem::path& path) {
    std::error_code none;
    if (!std::filesystem::is_regular_file(path, none)) return path;
    const auto beside = std::filesystem::absolute(path).lexically_normal().parent_path();
    const bool inner = beside.filename() == "checkpoints" &&
                       !std::filesystem::exists(beside / "config.json", none);
    const auto folder = inner ? beside.parent_path() : beside;
    if (!std::filesystem::exists(folder / "config.json", none))
      fail<io_error>(path.string(), ": a file without config.json beside it; a model's folder, or ",
                     "its file of arrays, is wanted");
    return folder;
  }

  std::filesystem::path folder_, weights_;
  std::vector<std::filesystem::path> places_;
  json config_;
};

/// Writes a model as a folder that `checkpoint` reads: model.safetensors first, config.json last,
/// each in one step, so that a folder with a config.json is complete. `more` are further members of
/// config.json; `tokenizer_json` is the text of tokenizer.json, if there is one. If it fails, a
/// folder that was not there is not there.
template <class Model>
void save_model(const Model& model, const std::filesystem::path& folder,
                const std::map<std::string, std::string>& metadata = {},
                const json& more = json::object(), std::string_view tokenizer_json = {}) {
  output_folder to(folder);
  json config = published<Model>::config(model);
  for (const auto& [key, value] : more.items()) config[key] = value;
  save_parameters(model, folder / "model.safetensors", metadata);
  if (!tokenizer_json.empty()) write_file(folder / "tokenizer.json", tokenizer_json);
  write_file(folder / "config.json", config.dump(2) + "\n");
  to.keep();
}

}  // namespace mlmamba
