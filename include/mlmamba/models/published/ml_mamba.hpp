// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Multimodal models from published files: towers, connector and language model of one config.json.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/models/ml_mamba.hpp"
#include "mlmamba/models/published/connectors.hpp"
#include "mlmamba/models/published/tower_files.hpp"
#include "mlmamba/models/registry/language.hpp"

namespace mlmamba {

/// The "llm" of a config, or the published one that "llm_backbone_id" names.
inline json language_config_from(const json& whole, const std::string& who) {
  const json& config = detail::model_part(whole);
  if (json_has(config, "llm")) return config.at("llm");
  const auto id = json_get<std::string>(config, "llm_backbone_id", who);
  if (const language_preset* l = registry::find(preset::language_models, id))
    return to_json(l->config, l->layer);
  fail<io_error>(
      who, ": ",
      registry::unknown_text("language model", id, registry::ids_of(preset::language_models)));
}

namespace detail {

/// Towers may also be called vision.dino.*, and the language model's arrays may have any name
/// that its own files may have.
inline named_arrays ml_mamba_arrays(const std::vector<safetensors_entry>& entries,
                                    const json& config, const std::string& who, bool one_tower) {
  std::map<std::string, index_t> blocks;  // of each tower, by the prefix of its paths
  const auto towers = towers_from(config, who);
  for (const published_tower& t : towers)
    blocks["vision_backbone." + (one_tower ? std::string() : t.name + ".")] = t.config.blocks();
  const bool tied = mamba_config_from(language_config_from(config, who), who).config.tie_embeddings;
  named_arrays named{who, {}};
  for (const safetensors_entry& e : entries) {
    std::string path = e.name;
    if (path.starts_with("vision.")) {
      const auto dot = path.find('.', 7);
      if (dot != std::string::npos)
        path = "vision_backbone." + path.substr(7, dot - 7) + "_featurizer" + path.substr(dot);
    }
    if (one_tower && path.starts_with("vision_backbone.")) {
      const auto at = path.find("featurizer.");  // "featurizer." or "siglip_featurizer."
      if (at != std::string::npos && path.find('.', 16) == at + 10)
        path = "vision_backbone." + path.substr(at + 11);
    }
    for (const auto& [prefix, n] : blocks) {
      if (!path.starts_with(prefix)) continue;
      const std::string rest = vit_path(path.substr(prefix.size()), n);
      path = rest.empty() ? "" : prefix + rest;
      break;
    }
    if (path.starts_with("llm_backbone.")) {
      const std::string rest = mamba_path(path.substr(13), tied);
      path = rest.empty() ? "" : "llm_backbone." + rest;
    }
    if (!path.empty()) named.add(path, e);
  }
  for (const published_tower& t : towers)
    split_class_position(named, "vision_backbone." + (one_tower ? std::string() : t.name + "."),
                         t.config);
  return named;
}

}  // namespace detail

template <class Vision, class Connector, class Language>
struct published<ml_mamba<Vision, Connector, Language>> {
  using model = ml_mamba<Vision, Connector, Language>;

  static model make(const json& config, const std::string& who) {
    const auto towers = towers_from(config, who);
    if (towers.size() != std::size_t(Vision::towers))
      fail<io_error>(who, ": it has ", towers.size(), " vision towers; the model has ",
                     Vision::towers);
    const json llm = language_config_from(config, who);
    auto vision = [&] {
      try {
        return detail::vision_of<Vision>::make(towers, 0);
      } catch (const shape_error& e) {
        fail<io_error>(who, ": ", e.what());
      }
    }();
    auto language = published<Language>::make(llm, who + ": llm");
    const auto n = model::shape_for(vision, language);
    auto connector = detail::make_connector<Connector>(config, llm, n, who);
    return model(std::move(vision), std::move(connector), std::move(language));
  }

  static void complete(std::vector<safetensors_entry>& entries, const json& config,
                       const std::vector<std::filesystem::path>& places, const std::string& who) {
    add_tower_arrays(entries, config, places, who);
  }

  static named_arrays arrays(std::vector<safetensors_entry> entries, const json& config,
                             const std::string& who) {
    return detail::ml_mamba_arrays(entries, config, who, Vision::towers == 1);
  }

  static json config(const model& m) {
    json j{{"model_type", "ml_mamba"},
           {"vision", json::array()},
           {"connector", detail::connector_json(m.connector)},
           {"llm", published<Language>::config(m.llm_backbone)}};
    detail::vision_of<Vision>::write(m.vision_backbone, "featurizer", j["vision"]);
    return j;
  }
};

}  // namespace mlmamba
