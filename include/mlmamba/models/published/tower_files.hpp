// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Weights of vision towers that a multimodal checkpoint does not hold: timm's own files.
#pragma once

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "mlmamba/io/weight_files.hpp"
#include "mlmamba/models/published/towers.hpp"

namespace mlmamba {

/// What files of a tower may be called, best first: "dino" (its short name), "dino_featurizer", and
/// if `vision_backbone_id` names a published backbone, what timm and OpenCLIP call its weights:
/// "vit_large_patch14_reg4_dinov2.lvd142m".
inline std::vector<std::string> tower_file_names(const published_tower& tower, std::size_t position,
                                                 const json& whole, const std::string& who) {
  std::vector<std::string> names;
  const auto kind = name_of(tower.config.kind);
  const auto cut = tower.name.find("_featurizer");
  names.push_back(cut != std::string::npos ? tower.name.substr(0, cut)
                                           : std::string(kind.starts_with("dino") ? "dino" : kind));
  names.push_back(tower.name);
  const auto id =
      json_get_or<std::string>(detail::model_part(whole), "vision_backbone_id", "", who);
  for (const auto& b : preset::vision_backbones) {
    if (b.id != id || position >= b.tower.size()) continue;
    const std::string timm(b.tower[position].timm), other(b.tower[position].open_clip);
    if (timm.empty()) continue;
    names.push_back(timm);
    names.push_back(timm.substr(0, timm.find('.')));
    if (!other.empty()) names.push_back(other);
  }
  return names;
}

namespace detail {

/// The file of one of these names in one of the places; or a folder of that name with a file in it.
inline std::optional<std::filesystem::path> find_weights(
    const std::vector<std::string>& names, const std::vector<std::filesystem::path>& places) {
  std::error_code none;
  for (const auto& place : places)
    for (const std::string& name : names) {
      if (std::filesystem::is_directory(place / name, none)) return place / name;
      for (const char* end : {".safetensors", ".bin", ".pth", ".pt"})
        if (std::filesystem::exists(place / (name + end), none)) return place / (name + end);
    }
  return std::nullopt;
}

}  // namespace detail

/// The arrays of a tower's file. Of one that holds a text tower too, those of "visual." only.
inline std::vector<safetensors_entry> read_tower_weights(const std::filesystem::path& path) {
  auto entries = read_model_weights(path);
  const auto visual = [](const safetensors_entry& e) { return e.name.starts_with("visual."); };
  if (std::any_of(entries.begin(), entries.end(), visual))
    std::erase_if(entries, [&](const safetensors_entry& e) { return !visual(e); });
  return entries;
}

/// Appends the arrays of those towers of a config that `entries` has none of. They are looked for
/// in `places` under tower_file_names.
///
/// Errors    io_error that says which tower is missing, what would do, and where it was looked for
inline void add_tower_arrays(std::vector<safetensors_entry>& entries, const json& config,
                             const std::vector<std::filesystem::path>& places,
                             const std::string& who) {
  const auto towers = towers_from(config, who);
  for (std::size_t i = 0; i < towers.size(); ++i) {
    const published_tower& t = towers[i];
    const auto names = tower_file_names(t, i, config, who);
    std::string prefix = "vision_backbone.", old = "vision.";
    if (towers.size() > 1) prefix += t.name + ".", old += names[0] + ".";
    if (std::any_of(entries.begin(), entries.end(), [&](const safetensors_entry& e) {
          return e.name.starts_with(prefix) || e.name.starts_with(old);
        }))
      continue;
    const auto file = detail::find_weights(names, places);
    if (!file) {
      std::string wanted, looked;
      for (const std::string& name : names) wanted += (wanted.empty() ? "" : ", ") + name;
      for (const auto& place : places) looked += (looked.empty() ? "" : ", ") + place.string();
      fail<io_error>(who, ": it has no weights of the vision tower \"", t.name,
                     "\"; wanted is a folder, or a file .safetensors, .bin, .pth or .pt, called ",
                     wanted, "; looked for in ", looked);
    }
    for (safetensors_entry& e : read_tower_weights(*file)) {
      e.name = prefix + e.name;
      entries.push_back(std::move(e));
    }
  }
}

}  // namespace mlmamba
