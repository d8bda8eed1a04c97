// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Text as Python's str sees it, where published scores depend on it: lower, split, digits.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <utf8proc.h>

#include "mlmamba/text/detail/utf8.hpp"
#include "mlmamba/text/prompt.hpp"

namespace mlmamba::detail {

/// The characters of UTF-8; what is not UTF-8 becomes U+FFFD.
inline std::u32string characters(std::string_view text) {
  std::u32string out;
  for (std::size_t at = 0; at < text.size();) {
    const utf8_step step = utf8_next(text, at);
    out += step.state == utf8_state::valid ? char32_t(step.character) : U'\uFFFD';
    at += step.bytes;
  }
  return out;
}
inline std::string utf8_of(std::u32string_view text) {
  std::string out;
  for (const char32_t c : text) append_character(c, out);
  return out;
}

/// Character by character, which is str.lower but for two letters: U+0130, which becomes two
/// characters, and a sigma at the end of a word.
inline std::string lower_case(std::string_view text) {
  std::string out;
  for (const char32_t c : characters(text))
    append_character(static_cast<std::uint32_t>(utf8proc_tolower(utf8proc_int32_t(c))), out);
  return out;
}

/// What the regular expression \d matches.
inline bool is_digit(char32_t c) {
  return utf8proc_category(utf8proc_int32_t(c)) == UTF8PROC_CATEGORY_ND;
}

/// str.split(): the parts between runs of white space.
inline std::vector<std::string> split_words(std::string_view text) {
  std::vector<std::string> out;
  bool in_word = false;
  for (const char32_t c : characters(text)) {
    if (is_stripped(c)) {
      in_word = false;
      continue;
    }
    if (!in_word) out.emplace_back();
    in_word = true;
    append_character(c, out.back());
  }
  return out;
}

/// str.replace.
inline std::string replaced(std::string_view text, std::string_view what, std::string_view by) {
  std::string out(text);
  for (std::size_t at = 0; (at = out.find(what, at)) != std::string::npos; at += by.size())
    out.replace(at, what.size(), by);
  return out;
}

}  // namespace mlmamba::detail
