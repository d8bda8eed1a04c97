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

namespace detail {

/// What a tower is called for short, which is in the names of its files too: "dino" for timm's
/// vit_large_patch14_reg4_dinov2.lvd142m, "siglip" for OpenCLIP's ViT-SO400M-14-SigLIP-384.
inline std::string short_name_of(const published_tower& tower) {
  const auto cut = tower.name.find("_featurizer");
  if (cut != std::string::npos) return tower.name.substr(0, cut);
  return std::string(tower.config.kind == vit_kind::dinov2_reg4 ? "dino"
                                                                : name_of(tower.config.kind));
}

/// The file of weights, or the folder, that is called `name`; else the only one with it in its
/// name, in any case. In the first of the places that has one.
inline std::optional<std::filesystem::path> find_weights(
    const std::string& name, const std::vector<std::filesystem::path>& places) {
  namespace fs = std::filesystem;
  std::error_code none;
  for (const fs::path& place : places) {
    std::vector<fs::path> similar;
    for (fs::directory_iterator at(place, none), end; !none && at != end; at.increment(none)) {
      const fs::path& path = at->path();
      const bool folder = fs::is_directory(path, none);
      if (!folder && !holds_weights(path)) continue;
      std::string text = (folder ? path.filename() : path.stem()).string();
      for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
      if (text == name) return path;
      if (text.find(name) != std::string::npos) similar.push_back(path);
    }
    if (similar.size() > 1)
      fail<io_error>(place.string(), ": ", similar.size(), " files or folders with \"", name,
                     "\" in their names; wanted is one, or one called ", name);
    if (!similar.empty()) return similar[0];
  }
  return std::nullopt;
}

}  // namespace detail

/// Appends the arrays of those towers of a config that `entries` has none of, from timm's files: in
/// the first of `places` with a file .safetensors, .bin, .pth or .pt, or a folder, that is called
/// "dino", "siglip", "clip" or "in1k", or has that in its name.
///
/// Errors    io_error that says which tower is missing and where it was looked for
inline void add_tower_arrays(std::vector<safetensors_entry>& entries, const json& config,
                             const std::vector<std::filesystem::path>& places,
                             const std::string& who) {
  const auto towers = towers_from(config, who);
  for (const published_tower& t : towers) {
    const std::string name = detail::short_name_of(t);
    std::string prefix = "vision_backbone.", other = "vision.";
    if (towers.size() > 1) prefix += t.name + ".", other += name + ".";
    if (std::any_of(entries.begin(), entries.end(), [&](const safetensors_entry& e) {
          return e.name.starts_with(prefix) || e.name.starts_with(other);
        }))
      continue;
    const auto file = detail::find_weights(name, places);
    if (!file) {
      std::string looked;
      for (const auto& place : places) looked += (looked.empty() ? "" : ", ") + place.string();
      fail<io_error>(
          who, ": it has no weights of the vision tower \"", t.name,
          "\"; wanted is timm's file of them (.safetensors, .bin, .pth, .pt, or a folder ",
          "with it) with \"", name, "\" in its name; looked for in ", looked);
    }
    auto found = read_model_weights(*file);
    detail::keep_visual(found);
    for (safetensors_entry& e : found) {
      e.name = prefix + e.name;
      entries.push_back(std::move(e));
    }
  }
}

}  // namespace mlmamba
