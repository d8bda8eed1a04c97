// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A multimodal model as the authors of ML-Mamba store theirs.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/io/json.hpp"
#include "mlmamba/io/weight_files.hpp"
#include "mlmamba/models/registry/models.hpp"

namespace mlmamba {

/// The arrays of checkpoints/latest-checkpoint.pt: {"model": {"llm_backbone", "mlp",
/// "bidirectional_mamba", "projector"}}. It holds no vision towers, and a head that is tied to the
/// embedding under its own name too. The names within the parts are the library's own.
///
/// Errors    io_error for arrays that belong to none of the four parts
inline weights original_layout(std::vector<safetensors_entry> arrays, const std::string& who) {
  weights all;
  all.dicts = {"model"};
  const std::string embedding = "llm_backbone.backbone.embedding.weight",
                    head = "llm_backbone.lm_head.weight";
  const auto has_head =
      std::any_of(arrays.begin(), arrays.end(), [&](const auto& e) { return e.name == head; });
  for (const std::string part : {"llm_backbone", "mlp", "bidirectional_mamba", "projector"}) {
    all.dicts.push_back("model." + part);
    for (const safetensors_entry& e : arrays) {
      if (!e.name.starts_with(part + ".")) continue;
      all.arrays.push_back(e);
      all.arrays.back().name.insert(0, "model.");
    }
    const auto tied = std::find_if(arrays.begin(), arrays.end(),
                                   [&](const auto& e) { return e.name == embedding; });
    if (part != "llm_backbone" || has_head || tied == arrays.end()) continue;
    all.arrays.push_back(*tied);
    all.arrays.back().name = "model." + head;
  }
  for (const safetensors_entry& e : arrays) {
    const bool tower = e.name.starts_with("vision_backbone.") || e.name.starts_with("vision.");
    const bool taken = std::any_of(all.arrays.begin(), all.arrays.end(), [&](const auto& a) {
      return std::string_view(a.name).substr(6) == e.name;
    });
    if (!tower && !taken)
      fail<io_error>(who, ": \"", e.name, "\" has no place in the original's checkpoint: it has ",
                     "llm_backbone, mlp, bidirectional_mamba and projector");
  }
  return all;
}

/// The config.json beside it: {"model": ...}, with the ids that the original reads where the model
/// has one of those that are known (models/registry.hpp).
inline json original_config(json config) {
  config.erase("weights");
  if (json_has(config, "model")) return config;
  const auto id = json_get_or<std::string>(config, "model_id", "", "config.json");
  if (const model_preset* m = registry::find(preset::models, id)) {
    config["vision_backbone_id"] = m->vision_backbone_id;
    config["llm_backbone_id"] = m->llm_backbone_id;
    config["arch_specifier"] = m->arch_specifier;
  }
  return json{{"model", std::move(config)}};
}

}  // namespace mlmamba
