// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The arrays of a model, in one safetensors file or in several with an index.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "mlmamba/core/error.hpp"
#include "mlmamba/io/json.hpp"
#include "mlmamba/io/safetensors.hpp"

namespace mlmamba {

namespace detail {

/// The files that an index names, each with the names of its arrays:
/// {"weight_map": {array: file}}, as Hugging Face writes it beside *.safetensors and *.bin.
/// Errors: io_error for another form, and for files outside the index's folder.
inline std::map<std::string, std::vector<std::string>> read_weight_map(
    const std::filesystem::path& path) {
  const std::string who = path.string();
  const json index = read_json(path, 8);
  const json& where = json_at(index, "weight_map", who);
  if (!where.is_object())
    fail<io_error>(who, ": \"weight_map\" is ", json_excerpt(where),
                   "; an object of file names is wanted");
  std::map<std::string, std::vector<std::string>> shards;
  for (const auto& [name, value] : where.items()) {
    const auto file = json_to<std::string>(value, who, "weight_map." + name);
    // A name and nothing else: an index must not lead out of its folder.
    if (file.empty() || file == "." || file == ".." || file.find('/') != std::string::npos ||
        file.find('\0') != std::string::npos)
      fail<io_error>(who, ": \"", name, "\" is in ", json_excerpt(value),
                     "; a file name without a folder is wanted");
    shards[file].push_back(name);
  }
  return shards;
}

}  // namespace detail

/// All arrays of a model by name.
///
/// `open` takes a .safetensors file; an index ("model.safetensors.index.json" as Hugging Face
/// writes it: {"weight_map": {array: file}}); or a folder, in which it looks for model.safetensors,
/// then for the index, then for a single *.safetensors.
///
/// Errors    io_error as `safetensors_file`; also for an index that names files outside its folder,
///           arrays that are not where it says, or leaves arrays of its files unnamed
class safetensors_set {
 public:
  static safetensors_set open(const std::filesystem::path& path) {
    namespace fs = std::filesystem;
    std::error_code none;
    if (fs::is_directory(path, none)) {
      for (const char* name : {"model.safetensors", "model.safetensors.index.json"})
        if (fs::exists(path / name, none)) return open(path / name);
      std::vector<fs::path> found;
      for (fs::directory_iterator at(path, none), end; !none && at != end; at.increment(none))
        if (at->path().extension() == ".safetensors") found.push_back(at->path());
      if (found.size() != 1)
        fail<io_error>(path.string(), ": ", found.size(), " files *.safetensors and no ",
                       "model.safetensors or model.safetensors.index.json; one is wanted");
      return open(found[0]);
    }
    safetensors_set set;
    set.who_ = path.string();
    if (path.extension() == ".json") {
      set.read_index(path);
    } else {
      set.files_.push_back(safetensors_file::open(path));
    }
    for (const safetensors_file& file : set.files_)
      for (const safetensors_entry& entry : file.entries())
        if (!set.by_name_.emplace(entry.name, &entry).second)
          fail<io_error>(file.who(), ": array \"", entry.name, "\" is also in another file of ",
                         set.who_);
    return set;
  }

  const std::string& who() const { return who_; }
  const std::vector<safetensors_file>& files() const { return files_; }
  /// Name to entry, sorted by name. The pointers live as long as this object (moving it is fine).
  const std::map<std::string, const safetensors_entry*, std::less<>>& entries() const {
    return by_name_;
  }
  const safetensors_entry* find(std::string_view name) const {
    const auto at = by_name_.find(name);
    return at == by_name_.end() ? nullptr : at->second;
  }
  const safetensors_entry& at(std::string_view name) const {
    const safetensors_entry* entry = find(name);
    if (entry == nullptr)
      fail<io_error>(who_, ": there is no \"", name, "\" among its ", by_name_.size(), " arrays");
    return *entry;
  }

  safetensors_set(safetensors_set&&) = default;
  safetensors_set& operator=(safetensors_set&&) = default;

 private:
  safetensors_set() = default;

  void read_index(const std::filesystem::path& path) {
    std::size_t named = 0;
    for (const auto& [file, names] : detail::read_weight_map(path)) {
      files_.push_back(safetensors_file::open(path.parent_path() / file));
      for (const std::string& name : names)
        if (files_.back().find(name) == nullptr)
          fail<io_error>(files_.back().who(), ": there is no \"", name, "\", which ", who_,
                         " says is there");
      named += names.size();
    }
    std::size_t held = 0;
    for (const safetensors_file& file : files_) held += file.entries().size();
    if (held != named) fail<io_error>(who_, ": names ", named, " arrays; its files hold ", held);
  }

  std::string who_;
  std::vector<safetensors_file> files_;  // moved, never copied: by_name_ points into it
  std::map<std::string, const safetensors_entry*, std::less<>> by_name_;
};

}  // namespace mlmamba
