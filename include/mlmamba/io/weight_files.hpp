// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The arrays of a model from whatever holds them: safetensors or torch.save, one file or several.
#pragma once

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "mlmamba/core/error.hpp"
#include "mlmamba/io/packed_weights.hpp"
#include "mlmamba/io/safetensors_set.hpp"
#include "mlmamba/io/torch_file.hpp"

namespace mlmamba {

/// Arrays in the order of their files, and what else the files say of them.
struct weights {
  std::vector<safetensors_entry> arrays;
  std::map<std::string, std::string> metadata;  ///< of a safetensors file
  std::vector<std::string> dicts;               ///< of a torch file: torch_file::dicts
};

namespace detail {

/// Where models have their arrays, best first.
inline constexpr std::string_view weight_file_names[] = {"model.safetensors",
                                                         "model.safetensors.index.json",
                                                         "pytorch_model.bin",
                                                         "pytorch_model.bin.index.json",
                                                         "checkpoints/latest-checkpoint.pt",
                                                         "latest-checkpoint.pt",
                                                         "open_clip_model.safetensors",
                                                         "open_clip_pytorch_model.bin"};

inline bool holds_weights(const std::filesystem::path& path) {
  static constexpr std::string_view endings[] = {".safetensors", ".pt", ".pth", ".bin"};
  return std::find(std::begin(endings), std::end(endings), path.extension().string()) !=
         std::end(endings);
}

/// The file of a folder that has its model's arrays. Error if there is none, or a choice.
inline std::filesystem::path weight_file_in(const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  std::error_code none;
  for (const std::string_view name : weight_file_names)
    if (fs::exists(folder / name, none)) return folder / name;
  std::vector<fs::path> safe, other;
  for (fs::directory_iterator at(folder, none), end; !none && at != end; at.increment(none))
    if (holds_weights(at->path()))
      (at->path().extension() == ".safetensors" ? safe : other).push_back(at->path());
  const auto& found = safe.empty() ? other : safe;
  if (found.size() == 1) return found[0];
  std::string names;
  for (const std::string_view name : weight_file_names) names += ", " + std::string(name);
  fail<io_error>(folder.string(), ": ", safe.size(), " files *.safetensors and ", other.size(),
                 " files *.pt, *.pth or *.bin; wanted is one, or one of", names.substr(1));
}

/// Of one file of arrays.
inline weights read_weight_file(const std::filesystem::path& path) {
  weights all;
  bool torch = false;
  {
    const mapped_file file(path);
    torch = torch_file::is_torch(file.bytes());
  }
  if (torch) {
    const auto file = torch_file::open(path);
    all.arrays = file.entries(), all.dicts = file.dicts();
  } else {
    const auto file = safetensors_file::open(path);
    all.arrays = file.entries(), all.metadata = file.metadata();
  }
  return all;
}

}  // namespace detail

/// Every array of a file, an index or a folder.
///
///   *.safetensors                    safetensors.hpp
///   torch.save's, by their content   torch_file.hpp
///   *.index.json                     several of one of these, as Hugging Face splits models
///   a folder                         the file of weight_file_names that is there, else the only
///                                    *.safetensors, else the only *.pt, *.pth or *.bin
///
/// Errors    io_error as the readers of these files; for a folder with none or several
inline weights read_weights(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  std::error_code none;
  if (fs::is_directory(path, none)) return read_weights(detail::weight_file_in(path));
  if (path.extension() == ".json") {
    weights all;
    const auto shards = detail::read_weight_map(path);
    const bool safe = std::all_of(shards.begin(), shards.end(), [](const auto& s) {
      return fs::path(s.first).extension() == ".safetensors";
    });
    if (safe) {
      const auto set = safetensors_set::open(path);
      for (const safetensors_file& file : set.files())
        all.arrays.insert(all.arrays.end(), file.entries().begin(), file.entries().end());
      return all;
    }
    std::set<std::string> wanted, held;
    for (const auto& [file, names] : shards) {
      wanted.insert(names.begin(), names.end());
      // No index, which could name itself, and no folder.
      for (const safetensors_entry& e :
           detail::read_weight_file(path.parent_path() / file).arrays) {
        if (!held.insert(e.name).second)
          fail<io_error>(path.string(), ": \"", e.name, "\" is in two of its files");
        all.arrays.push_back(e);
      }
    }
    if (held != wanted)
      fail<io_error>(path.string(), ": names ", wanted.size(), " arrays; its files hold ",
                     held.size(), ", and not the same");
    return all;
  }
  return detail::read_weight_file(path);
}

/// The same, for a model: of a checkpoint that has its model in a dict "model" or "state_dict",
/// beside other things or not, the arrays of that dict under their names in it.
inline std::vector<safetensors_entry> read_model_weights(const std::filesystem::path& path) {
  weights all = read_weights(path);
  for (const std::string outer : {"model", "state_dict"}) {
    if (std::find(all.dicts.begin(), all.dicts.end(), outer) == all.dicts.end()) continue;
    std::vector<safetensors_entry> inner;
    for (safetensors_entry& e : all.arrays) {
      if (!e.name.starts_with(outer + ".")) continue;
      e.name.erase(0, outer.size() + 1);
      inner.push_back(std::move(e));
    }
    return inner;
  }
  return unpacked_weights(std::move(all.arrays), path.string());
}

}  // namespace mlmamba
