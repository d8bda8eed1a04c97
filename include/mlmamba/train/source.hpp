// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Where examples come from: anything that counts.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "mlmamba/io/progress.hpp"
#include "mlmamba/train/conversation.hpp"

namespace mlmamba::train {

/// Where the picture of an example or a question is.
struct picture_file {
  std::filesystem::path path{};  ///< "": it has none
  std::string whose{};           ///< for messages: "chat.json: record 3"
};

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
  std::function<picture_file(std::uint64_t)> picture{};  ///< where it is; empty: in no file
};

/// Are the picture files of 0 .. count - 1 there? They are looked for, not into; if that takes
/// longer than some seconds, it is shown.
///
/// Errors    io_error naming the record and the file
inline void check_pictures(const std::function<picture_file(std::uint64_t)>& picture,
                           std::uint64_t count, std::FILE* to = stderr) {
  if (!picture) return;
  const auto begin = std::chrono::steady_clock::now();
  std::optional<progress> shown;
  for (std::uint64_t i = 0; i < count; ++i) {
    const picture_file p = picture(i);
    std::error_code code;
    if (!p.path.empty() && !std::filesystem::is_regular_file(p.path, code))
      fail<io_error>(p.whose, ": ", p.path.string(), ": ",
                     code ? code.message() : std::string("no file"), "; a picture is wanted");
    if (!shown && i % 1000 == 0 &&
        std::chrono::steady_clock::now() - begin > std::chrono::seconds(3))
      shown.emplace("looking for picture", index_t(count), index_t(i), 100000, to);
    if (shown) (*shown)(index_t(i + 1), "");
  }
}
inline void check_pictures(const data_source& s) { check_pictures(s.picture, s.size); }

/// Words of a conversation, "<image>" included, as lengths are counted for grouping: what white
/// space separates, as Python's str.split has it (the ideographic space too).
inline std::uint64_t count_words(const std::vector<example::turn>& turns) {
  std::uint64_t n = 0;
  for (const auto& t : turns) {
    bool in_word = false;
    for (std::size_t at = 0; at < t.text.size();) {
      const mlmamba::detail::utf8_step step = mlmamba::detail::utf8_next(t.text, at);
      const bool blank = step.state == mlmamba::detail::utf8_state::valid &&
                         mlmamba::detail::is_stripped(step.character);
      n += !blank && !in_word;
      in_word = !blank;
      at += std::max<std::size_t>(step.bytes, 1);
    }
  }
  return n;
}

}  // namespace mlmamba::train
