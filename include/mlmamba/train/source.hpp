// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Where examples come from: anything that counts.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

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
