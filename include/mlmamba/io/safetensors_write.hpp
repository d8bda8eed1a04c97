// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Writing the safetensors format: checked first, then written aside and renamed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mlmamba/core/error.hpp"
#include "mlmamba/io/json.hpp"
#include "mlmamba/io/safetensors.hpp"
#include "mlmamba/io/write_file.hpp"

namespace mlmamba {

/// Writes the arrays and the metadata to `path`, atomically: afterwards the file is complete, or
/// what was there before.
///
/// Layout    the header is padded with blanks to 8 bytes, and the arrays are ordered by element
///           size, widest first (else as given), so each begins at a multiple of its element size.
///           The same arguments give the same bytes
/// Errors    io_error for a name given twice, a name or text that is not UTF-8, bytes that don't
///           match dtype and shape, or a place that can't be written
inline void write_safetensors(const std::filesystem::path& path,
                              std::span<const safetensors_entry> entries,
                              const std::map<std::string, std::string>& metadata = {}) {
  const std::string who = path.string();
  std::vector<const safetensors_entry*> order;
  for (const safetensors_entry& entry : entries) order.push_back(&entry);
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return bytes_of(a->type) > bytes_of(b->type);
  });
  json header = json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::uint64_t next = 0;
  for (const safetensors_entry* entry : order) {
    const auto want = detail::byte_count(entry->type, entry->shape);
    if (!want || *want != entry->bytes.size())
      fail<io_error>(who, ": \"", entry->name, "\" has ", entry->bytes.size(), " bytes; ",
                     name_of(entry->type), " ", shape_text(entry->shape), " has ",
                     want ? std::to_string(*want) : std::string("more than can be addressed"));
    if (entry->name == "__metadata__" || header.contains(entry->name))
      fail<io_error>(who, ": two arrays named \"", entry->name, "\" (or a reserved name)");
    header[entry->name] = {{"dtype", name_of(entry->type)},
                           {"shape", entry->shape},
                           {"data_offsets", {next, next + *want}}};
    next += *want;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const json::exception&) {
    fail<io_error>(who, ": a name or a metadata text is not UTF-8");
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string length(8, '\0');
  for (std::size_t i = 0; i < 8; ++i)
    length[i] = static_cast<char>(static_cast<unsigned char>(text.size() >> (8 * i)));
  atomic_file file(path);
  file.append(length);
  file.append(text);
  for (const safetensors_entry* entry : order) file.append(entry->bytes);
  file.commit();
}

}  // namespace mlmamba
