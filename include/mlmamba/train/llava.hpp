// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Data sets of LLaVA's form: a JSON list of conversations, with pictures in a folder.
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/core/random.hpp"
#include "mlmamba/io/image.hpp"
#include "mlmamba/io/json.hpp"
#include "mlmamba/io/mapped_file.hpp"
#include "mlmamba/train/source.hpp"

namespace mlmamba::train {

/// A list of conversations, and the folder that their pictures' paths start from.
struct llava_paths {
  std::filesystem::path annotations, images;
};

/// A data set by name: what is aligned with, and what is fine-tuned with.
struct llava_set {
  std::string_view name, finetune_file;

  llava_paths align(const std::filesystem::path& root) const {
    const auto folder = root / "download" / "llava-laion-cc-sbu-558k";
    return {folder / "chat.json", folder};
  }
  llava_paths finetune(const std::filesystem::path& root) const {
    const auto folder = root / "download" / "llava-v1.5-instruct";
    return {folder / finetune_file, folder};
  }
};

/// The original's data sets; all align with the same.
inline constexpr std::array<llava_set, 5> llava_sets{{
    {"llava-v15", "llava_v1_5_mix665k.json"},
    {"llava-multimodal", "llava_v1_5_stripped625k.json"},  // without conversations of text alone
    {"llava-lvis4v", "llava_v1_5_lvis4v_mix888k.json"},
    {"llava-lrv", "llava_v1_5_lrv_mix1008k.json"},
    {"llava-lvis4v-lrv", "llava_v1_5_lvis4v_lrv_mix1231k.json"},
}};

/// Errors    error that lists the names there are
inline const llava_set& llava_set_of(std::string_view name) {
  std::string names;
  for (const llava_set& s : llava_sets) {
    if (s.name == name) return s;
    names.append(names.empty() ? "" : ", ").append(s.name);
  }
  fail("data set \"", name, "\"; one of ", names, " is wanted");
}

/// The picture of a record, "" without one.
inline std::string checked_picture(const json& record, const std::string& who) {
  const std::string path = json_get_or<std::string>(record, "image", "", who);
  const std::filesystem::path below(path);
  bool leaves = below.is_absolute();
  for (const auto& part : below) leaves = leaves || part == "..";
  if (leaves) fail<io_error>(who, ": image \"", path, "\"; a path below the folder is wanted");
  return path;
}

namespace detail {

/// Calls f(number, text) for each object of a JSON list; only where objects begin and end is looked
/// at, the rest is f's to check. Errors: io_error naming the record.
template <class F>
void for_each_record(std::string_view text, const std::string& who, F&& f) {
  std::size_t at = text.starts_with("\xEF\xBB\xBF") ? 3 : 0;  // Windows marks UTF-8 so
  std::uint64_t number = 0;
  const auto next = [&] {
    while (at < text.size() && std::string_view(" \t\n\r").find(text[at]) != std::string_view::npos)
      ++at;
    return at < text.size() ? text[at] : '\0';
  };
  const auto wanted = [&](const char* what) {
    fail<io_error>(who, ": record ", number, ": byte ", at, " of ", text.size(), ": ", what,
                   " is wanted");
  };
  if (next() != '[') fail<io_error>(who, ": not a list; a list of conversations is wanted");
  ++at;
  for (; number > 0 || next() != ']'; ++number) {
    if (next() != '{') wanted("an object");
    const std::size_t begin = at;
    std::size_t depth = 0;
    for (bool quoted = false; at < text.size(); ++at) {
      const char c = text[at];
      if (quoted && c == '\\') {
        ++at;
      } else if (c == '"') {
        quoted = !quoted;
      } else if (!quoted) {
        depth += c == '{';
        if (c == '}' && --depth == 0) break;
      }
    }
    if (at >= text.size()) at = text.size(), wanted("the end of the object");
    f(number, text.substr(begin, ++at - begin));
    if (next() == ']') break;
    if (text.size() == at || text[at] != ',') wanted("a comma or the end of the list");
    ++at;
  }
  ++at;
  if (next() != '\0' || at != text.size())
    fail<io_error>(who, ": byte ", at, " of ", text.size(), ": nothing more is wanted");
}

/// The records of a LLaVA file: their texts one after the other, and lengths; no object per text.
class llava_records {
 public:
  explicit llava_records(const std::filesystem::path& file) {
    const std::string who = file.string();
    const mapped_file mapped(file);
    hash_ = hash(mapped.text());
    texts_.reserve(mapped.text().size());  // pages that are not written cost nothing
    for_each_record(mapped.text(), who, [&](std::uint64_t i, std::string_view text) {
      std::string here = who + ": record " + std::to_string(i);
      const json record = parse_json(text, here);
      if (json_has(record, "id"))
        here += " (id " + mlmamba::detail::json_excerpt(record.at("id")) + ")";
      if (text.size() > std::numeric_limits<std::uint32_t>::max())
        fail<io_error>(here, ": ", text.size(), " bytes; fewer than 2^32 are wanted");
      const auto turns = read_turns(record, here);
      records_.push_back({texts_.size(), lengths_.size(), std::uint32_t(count_words(turns))});
      add(checked_picture(record, here));
      for (const example::turn& t : turns) add(t.text);
    });
    if (records_.empty()) fail<io_error>(who, ": an empty list; at least one record is wanted");
    lengths_.shrink_to_fit(), records_.shrink_to_fit();
  }

  std::uint64_t size() const { return records_.size(); }
  std::uint64_t hash_of_file() const { return hash_; }
  std::uint64_t words(std::uint64_t i) const { return at(i).words; }
  std::string_view picture(std::uint64_t i) const {
    return std::string_view(texts_).substr(at(i).text, lengths_[at(i).length]);
  }
  std::vector<example::turn> turns(std::uint64_t i) const {
    std::vector<example::turn> out;
    const std::size_t end =
        i + 1 < size() ? at(i + 1).length : lengths_.size();  // one past its last
    std::size_t text = at(i).text + lengths_[at(i).length];
    for (std::size_t k = at(i).length + 1; k < end; text += lengths_[k++])
      out.push_back({texts_.substr(text, lengths_[k]), out.size() % 2 == 0});
    return out;
  }

 private:
  struct place {
    std::size_t text, length;  // where its picture's path and its turns begin
    std::uint32_t words;
  };

  const place& at(std::uint64_t i) const { return records_.at(static_cast<std::size_t>(i)); }
  void add(std::string_view text) {
    texts_.append(text);
    lengths_.push_back(static_cast<std::uint32_t>(text.size()));
  }

  std::uint64_t hash_ = 0;
  std::string texts_;
  std::vector<std::uint32_t> lengths_;
  std::vector<place> records_;
};

}  // namespace detail

/// A LLaVA-style data set: a list of {"id"?, "image"?: path below `images`, "conversations":
/// [...]}. The JSON is read at once, a record at a time: in memory are its texts, 4 bytes for each
/// of them and 24 for a record. Pictures are read when they are asked for. Records without an image
/// are text only. The name has a hash of the JSON's bytes, so that a run is not resumed with edited
/// texts; pictures are not looked at for that.
///
/// Errors    io_error naming file and record; a picture path that leaves `images` is refused
inline data_source read_llava(const std::filesystem::path& file,
                              const std::filesystem::path& images) {
  const auto records = std::make_shared<const detail::llava_records>(file);
  char digest[24];
  std::snprintf(digest, sizeof digest, ":%016llx",
                static_cast<unsigned long long>(records->hash_of_file()));
  data_source out;
  out.name = file.filename().string() + ":" + std::to_string(records->size()) + digest;
  out.size = records->size();
  out.get = [records, images, who = file.string()](std::uint64_t i) {
    example e{records->turns(i), std::nullopt};
    const std::string_view picture = records->picture(i);
    if (picture.empty()) return e;
    try {
      e.picture = read_image(images / picture);
    } catch (const io_error& error) {
      fail<io_error>(who, ": record ", i, ": ", error.what());
    }
    return e;
  };
  out.turns = [records](std::uint64_t i) { return records->turns(i); };
  out.has_picture = [records](std::uint64_t i) { return !records->picture(i).empty(); };
  out.words = [records](std::uint64_t i) { return records->words(i); };
  out.picture = [records, images, who = file.string()](std::uint64_t i) -> picture_file {
    const std::string_view picture = records->picture(i);
    if (picture.empty()) return {};
    return {images / picture, who + ": record " + std::to_string(i)};
  };
  return out;
}

}  // namespace mlmamba::train
