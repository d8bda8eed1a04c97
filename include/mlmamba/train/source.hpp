// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Where examples come from: a LLaVA-style file with its pictures, or anything that counts.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/core/random.hpp"
#include "mlmamba/io/image.hpp"
#include "mlmamba/io/json.hpp"
#include "mlmamba/io/mapped_file.hpp"
#include "mlmamba/train/conversation.hpp"

namespace mlmamba::train {

/// Examples by number. The functions are called from several threads at once, and what they return
/// depends on the number only.
struct data_source {
  std::string name{};      ///< what it is, for a resumed run to compare
  std::uint64_t size = 0;  ///< how many; 0: endless, each number is a fresh example
  std::function<example(std::uint64_t)> get{};
  std::function<std::vector<example::turn>(std::uint64_t)>
      turns;                                          ///< without the picture; optional
  std::function<bool(std::uint64_t)> has_picture;     ///< without reading it; empty: all have one
  std::function<std::uint64_t(std::uint64_t)> words;  ///< length in words; empty: all alike
};

/// Words of a conversation, "<image>" included, as lengths are counted for grouping.
inline std::uint64_t count_words(const std::vector<example::turn>& turns) {
  std::uint64_t n = 0;
  for (const auto& t : turns) {
    bool in_word = false;
    for (const char c : t.text) {
      const bool blank = c == ' ' || (c >= '\t' && c <= '\r');
      n += !blank && !in_word;
      in_word = !blank;
    }
  }
  return n;
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

/// A LLaVA-style data set: a list of {"image"?: path below `images`, "conversations": [...]}. The
/// JSON is read at once; pictures when they are asked for. Records without an image are text only.
/// Its name has a hash of the JSON's bytes, so that a run is not resumed with edited texts;
/// pictures are not looked at for that.
///
/// Errors    io_error naming file and record; a picture path that leaves `images` is refused
inline data_source read_llava(const std::filesystem::path& file,
                              const std::filesystem::path& images) {
  struct record {
    std::vector<example::turn> turns;
    std::string picture;
  };
  const std::string who = file.string();
  auto records = std::make_shared<std::vector<record>>();
  std::uint64_t bytes = 0;
  {
    const mapped_file mapped(file);
    bytes = hash(mapped.text());
    const json list = parse_json(mapped.text(), who);
    if (!list.is_array()) fail<io_error>(who, ": not a list; a list of conversations is wanted");
    for (std::size_t i = 0; i < list.size(); ++i) {
      const std::string here = who + ": record " + std::to_string(i);
      records->push_back({read_turns(list[i], here), checked_picture(list[i], here)});
    }
  }
  if (records->empty()) fail<io_error>(who, ": an empty list; at least one record is wanted");
  data_source out;
  char digest[24];
  std::snprintf(digest, sizeof digest, ":%016llx", static_cast<unsigned long long>(bytes));
  out.name = file.filename().string() + ":" + std::to_string(records->size()) + digest;
  out.size = records->size();
  out.get = [records, images](std::uint64_t i) {
    const record& r = records->at(static_cast<std::size_t>(i));
    example e{r.turns, std::nullopt};
    if (!r.picture.empty()) e.picture = read_image(images / r.picture);
    return e;
  };
  out.turns = [records](std::uint64_t i) { return records->at(static_cast<std::size_t>(i)).turns; };
  out.has_picture = [records](std::uint64_t i) {
    return !records->at(static_cast<std::size_t>(i)).picture.empty();
  };
  out.words = [records](std::uint64_t i) {
    return count_words(records->at(static_cast<std::size_t>(i)).turns);
  };
  return out;
}

}  // namespace mlmamba::train
