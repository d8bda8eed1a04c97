// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Named arrays in a file: reading the safetensors format without a copy.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "mlmamba/core/error.hpp"
#include "mlmamba/io/json.hpp"
#include "mlmamba/io/mapped_file.hpp"

namespace mlmamba {

/// Element types a file may hold. The two 8-bit floats are recognised so that a file which has
/// them can be opened and listed; nothing here computes with them.
enum class dtype {
  f64,
  f32,
  f16,
  bf16,
  i64,
  i32,
  i16,
  i8,
  u64,
  u32,
  u16,
  u8,
  boolean,
  f8_e4m3,
  f8_e5m2
};

struct dtype_facts {
  dtype type;
  std::string_view name;  // as files spell it
  std::size_t bytes;
};
inline constexpr std::array<dtype_facts, 15> dtype_table{{
    {dtype::f64, "F64", 8},
    {dtype::f32, "F32", 4},
    {dtype::f16, "F16", 2},
    {dtype::bf16, "BF16", 2},
    {dtype::i64, "I64", 8},
    {dtype::i32, "I32", 4},
    {dtype::i16, "I16", 2},
    {dtype::i8, "I8", 1},
    {dtype::u64, "U64", 8},
    {dtype::u32, "U32", 4},
    {dtype::u16, "U16", 2},
    {dtype::u8, "U8", 1},
    {dtype::boolean, "BOOL", 1},
    {dtype::f8_e4m3, "F8_E4M3", 1},
    {dtype::f8_e5m2, "F8_E5M2", 1},
}};
inline constexpr std::string_view name_of(dtype type) {
  return dtype_table[static_cast<std::size_t>(type)].name;
}
inline constexpr std::size_t bytes_of(dtype type) {
  return dtype_table[static_cast<std::size_t>(type)].bytes;
}

/// One array of a file. `bytes` borrows from the file (reading) or from the caller (writing).
struct safetensors_entry {
  std::string name;
  dtype type = dtype::f32;
  std::vector<std::int64_t> shape;  // empty: a scalar
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner = nullptr;  // keeps `bytes` alive; may be empty when writing

  std::int64_t count() const {  // can't overflow in an entry that was read: it was checked there
    std::int64_t n = 1;
    for (std::int64_t size : shape) n *= size;
    return n;
  }
};

/// "(2, 3)", for messages.
inline std::string shape_text(std::span<const std::int64_t> shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

namespace detail {

/// Bytes of an array, or nothing if the product does not fit in 63 bits or a size is negative.
inline std::optional<std::uint64_t> byte_count(dtype type, std::span<const std::int64_t> shape) {
  constexpr std::uint64_t most = std::numeric_limits<std::int64_t>::max();
  std::uint64_t n = bytes_of(type);
  bool empty = false;
  for (std::int64_t size : shape) {
    if (size < 0) return std::nullopt;
    if (size == 0) {
      empty = true;  // later sizes are still checked: 0 x 2^63 is not a shape anyone can index
      continue;
    }
    if (static_cast<std::uint64_t>(size) > most / n) return std::nullopt;
    n *= static_cast<std::uint64_t>(size);
  }
  return empty ? 0 : n;
}

}  // namespace detail

/// A safetensors file, checked whole before any of it is used.
///
///   8 bytes   header length n, little endian, at most 100,000,000
///   n bytes   JSON object: name -> {"dtype", "shape", "data_offsets": [begin, end]}, and
///             optionally "__metadata__": string -> string
///   the rest  the arrays, row-major, little endian
///
/// Checked   the header starts with '{'; no name twice; known dtypes; sizes not negative and their
///           product without overflow; end - begin = bytes of the array; the arrays in order of
///           offset cover the rest of the file exactly, without gap or overlap
/// Errors    io_error naming file, array and both values
/// Source    https://github.com/huggingface/safetensors, format section
class safetensors_file {
 public:
  /// Maps and checks the file `path`. Entries borrow from the mapping and share its ownership: a
  /// tensor that keeps `entry.owner` may point into the file after this object is gone.
  static safetensors_file open(const std::filesystem::path& path) {
    auto mapping = std::make_shared<const mapped_file>(path);
    const auto bytes = mapping->bytes();
    return parse(bytes, path.string(), std::move(mapping));
  }

  /// The same from memory. `owner` keeps `bytes` alive; without one that is the caller's duty.
  static safetensors_file parse(std::span<const std::byte> bytes, std::string who,
                                std::shared_ptr<const void> owner = nullptr) {
    safetensors_file file;
    file.who_ = std::move(who);
    file.owner_ = std::move(owner);
    file.read(bytes);
    return file;
  }

  const std::string& who() const { return who_; }  // the path, for messages
  const std::vector<safetensors_entry>& entries() const { return entries_; }  // in file order
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  const safetensors_entry* find(std::string_view name) const {
    const auto at = by_name_.find(std::string(name));
    return at == by_name_.end() ? nullptr : &entries_[at->second];
  }
  const safetensors_entry& at(std::string_view name) const {
    const safetensors_entry* entry = find(name);
    if (entry == nullptr)
      fail<io_error>(who_, ": there is no \"", name, "\" among its ", entries_.size(), " arrays");
    return *entry;
  }

 private:
  static constexpr std::uint64_t max_header = 100'000'000;  // the format's own limit

  void read(std::span<const std::byte> bytes) {
    if (bytes.size() < 8)
      fail<io_error>(who_, ": ", bytes.size(),
                     " bytes; a safetensors file has at least 8 (is it truncated?)");
    std::uint64_t length = 0;
    for (std::size_t i = 0; i < 8; ++i)
      length |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
    if (length > max_header)
      fail<io_error>(who_, ": header of ", length, " bytes; at most ", max_header,
                     " are allowed (is it a safetensors file?)");
    if (length > bytes.size() - 8)
      fail<io_error>(who_, ": header of ", length, " bytes in a file of ", bytes.size(),
                     "; the file is truncated or not a safetensors file");
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 8,
                                static_cast<std::size_t>(length));
    if (text.empty() || text[0] != '{')
      fail<io_error>(who_, ": the header does not start with '{'; not a safetensors file");
    const json header = parse_json(text, who_, 8);
    const auto data = bytes.subspan(8 + static_cast<std::size_t>(length));
    struct placed {
      std::uint64_t begin, end;
      safetensors_entry entry;
    };
    std::vector<placed> found;
    for (const auto& [name, value] : header.items()) {
      if (name == "__metadata__") {
        if (!value.is_object())
          fail<io_error>(who_, ": \"__metadata__\" is ", detail::json_excerpt(value),
                         "; an object of strings is wanted");
        for (const auto& [key, word] : value.items())
          metadata_[key] = json_to<std::string>(word, who_, "__metadata__." + key);
        continue;
      }
      placed p{0, 0, read_entry(name, value)};
      const auto offsets = json_get<std::vector<std::uint64_t>>(value, "data_offsets", where(name));
      if (offsets.size() != 2)
        fail<io_error>(where(name), ": ", offsets.size(), " data_offsets; 2 are wanted");
      p.begin = offsets[0];
      p.end = offsets[1];
      if (p.begin > p.end || p.end > data.size())
        fail<io_error>(where(name), ": bytes ", p.begin, " to ", p.end, " of ", data.size(),
                       "; a range inside the data is wanted (is the file truncated?)");
      const auto want = detail::byte_count(p.entry.type, p.entry.shape);
      if (!want || *want != p.end - p.begin)
        fail<io_error>(where(name), ": ", p.end - p.begin, " bytes of data; ",
                       name_of(p.entry.type), " ", shape_text(p.entry.shape), " has ",
                       want ? std::to_string(*want) : std::string("more than can be addressed"));
      p.entry.owner = owner_;
      p.entry.bytes = data.subspan(static_cast<std::size_t>(p.begin),
                                   static_cast<std::size_t>(p.end - p.begin));
      found.push_back(std::move(p));
    }
    std::sort(found.begin(), found.end(), [](const placed& a, const placed& b) {
      return std::tie(a.begin, a.end, a.entry.name) < std::tie(b.begin, b.end, b.entry.name);
    });
    std::uint64_t next = 0;
    for (placed& p : found) {
      if (p.begin != next)
        fail<io_error>(where(p.entry.name), ": begins at byte ", p.begin,
                       "; the array before ends at ", next,
                       ", and arrays must follow each other without gap or overlap");
      next = p.end;
      by_name_.emplace(p.entry.name, entries_.size());
      entries_.push_back(std::move(p.entry));
    }
    if (next != data.size())
      fail<io_error>(who_, ": the arrays end at byte ", next, " of ", data.size(),
                     "; nothing may follow them");
  }

  safetensors_entry read_entry(const std::string& name, const json& value) const {
    safetensors_entry entry;
    entry.name = name;
    const auto type = json_get<std::string>(value, "dtype", where(name));
    const auto known = std::find_if(dtype_table.begin(), dtype_table.end(),
                                    [&](const dtype_facts& facts) { return facts.name == type; });
    if (known == dtype_table.end())
      fail<io_error>(where(name), ": dtype ", detail::json_excerpt(type),
                     "; one of F64 F32 F16 BF16 "
                     "I64 I32 I16 I8 U64 U32 U16 U8 BOOL is wanted");
    entry.type = known->type;
    entry.shape = json_get<std::vector<std::int64_t>>(value, "shape", where(name));
    for (const std::int64_t size : entry.shape)
      if (size < 0)
        fail<io_error>(where(name), ": shape ", shape_text(entry.shape), " has a negative size");
    return entry;
  }

  std::string where(const std::string& name) const {
    return who_ + ": " + detail::json_excerpt(name);
  }

  std::string who_;
  std::shared_ptr<const void> owner_;
  std::vector<safetensors_entry> entries_;
  std::map<std::string, std::string> metadata_;
  std::unordered_map<std::string, std::size_t> by_name_;
};

}  // namespace mlmamba
