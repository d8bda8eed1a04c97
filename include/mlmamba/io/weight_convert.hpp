// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Arrays from one kind of file into another, to the bit, or into another element type.
#pragma once

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mlmamba/io/convert.hpp"
#include "mlmamba/io/safetensors_write.hpp"
#include "mlmamba/io/torch_write.hpp"
#include "mlmamba/io/weight_files.hpp"

namespace mlmamba {

namespace detail {

inline bool is_float(dtype type) {
  return type == dtype::f64 || type == dtype::f32 || type == dtype::f16 || type == dtype::bf16;
}

template <class T>
void convert_entry(safetensors_entry& e) {
  auto made = std::make_shared<std::vector<T>>(read_values<T>(e));
  const auto bytes = std::as_bytes(std::span<const T>(*made));
  e.type = dtype_of<T>();
  e.bytes = bytes;
  e.owner = std::move(made);
}

// What a safetensors file keeps of a torch file in its metadata: lists of names as JSON.
inline constexpr const char *dicts_key = "torch.dicts", *order_key = "torch.order";

inline std::vector<std::string> names_in(const std::map<std::string, std::string>& metadata,
                                         const char* key, const std::string& who) {
  const auto at = metadata.find(key);
  if (at == metadata.end()) return {};
  return json_to<std::vector<std::string>>(parse_json(at->second, who), who, key);
}

}  // namespace detail

/// The arrays of floats in another of the types f64, f32, f16, bf16, rounded to nearest even; those
/// of integers as they are.
inline void convert_floats(std::vector<safetensors_entry>& arrays, dtype to) {
  for (safetensors_entry& e : arrays) {
    if (!detail::is_float(e.type) || e.type == to) continue;
    switch (to) {
      case dtype::f64:
        detail::convert_entry<double>(e);
        break;
      case dtype::f32:
        detail::convert_entry<float>(e);
        break;
      case dtype::f16:
        detail::convert_entry<f16>(e);
        break;
      case dtype::bf16:
        detail::convert_entry<bf16>(e);
        break;
      default:
        fail<error>("convert: ", name_of(to), "; F64, F32, F16 or BF16 is wanted");
    }
  }
}

/// Writes arrays as *.safetensors or, under the names *.pt, *.pth and *.bin, as torch.save does.
/// Bytes, names and types are kept, and what one format has and the other has not: the dicts of a
/// torch file and, where safetensors changes it, the order, in the metadata of the safetensors
/// file. So from torch to safetensors and back nothing is lost; other metadata is, in a torch file.
///
/// Errors    io_error as the writers; error for another ending of the name
inline void write_weights(const std::filesystem::path& path, weights all) {
  const std::string end = path.extension().string();
  const std::string who = path.string();
  const auto dicts = detail::names_in(all.metadata, detail::dicts_key, who);
  if (all.dicts.empty()) all.dicts = dicts;
  if (end == ".safetensors") {
    if (!all.dicts.empty()) all.metadata[detail::dicts_key] = json(all.dicts).dump();
    // write_safetensors puts the widest types first.
    const bool kept = std::is_sorted(
        all.arrays.begin(), all.arrays.end(),
        [](const auto& a, const auto& b) { return bytes_of(a.type) > bytes_of(b.type); });
    if (!kept && !all.metadata.contains(detail::order_key)) {
      json order = json::array();
      for (const safetensors_entry& e : all.arrays) order.push_back(e.name);
      all.metadata[detail::order_key] = order.dump();
    }
    return write_safetensors(path, all.arrays, all.metadata);
  }
  if (end != ".pt" && end != ".pth" && end != ".bin")
    fail<error>(who, ": ends in \"", end, "\"; .safetensors, .pt, .pth or .bin is wanted");
  std::map<std::string, std::size_t> place;
  for (const auto& name : detail::names_in(all.metadata, detail::order_key, who))
    place.emplace(name, place.size());
  if (!place.empty())
    std::stable_sort(all.arrays.begin(), all.arrays.end(), [&](const auto& a, const auto& b) {
      const auto i = place.find(a.name), j = place.find(b.name);
      return (i == place.end() ? place.size() : i->second) <
             (j == place.end() ? place.size() : j->second);
    });
  write_torch_file(path, all.arrays, all.dicts);
}

}  // namespace mlmamba
