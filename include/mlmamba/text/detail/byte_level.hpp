// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The printable alphabet of byte-level vocabularies, and the split of text into words before BPE.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <utf8proc.h>

#include "mlmamba/text/detail/unicode_age.hpp"
#include "mlmamba/text/detail/utf8.hpp"

namespace mlmamba::detail {

/// GPT-2 writes each byte as a character that can be seen: printable Latin-1 as itself, the 68
/// other bytes as U+0100 onward, in order.
struct byte_alphabet {
  std::array<std::uint16_t, 256> character{};
  std::array<std::int16_t, 324> byte{};  // -1: no byte is written so

  byte_alphabet() {
    byte.fill(-1);
    std::uint16_t next = 256;
    for (std::uint16_t b = 0; b < 256; ++b) {
      const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b != 173);
      character[b] = printable ? b : next++;
      byte[character[b]] = static_cast<std::int16_t>(b);
    }
  }
  static const byte_alphabet& get() {
    static const byte_alphabet table;
    return table;
  }

  std::string spelled(std::string_view bytes) const {
    std::string out;
    for (const char c : bytes) append_character(character[static_cast<unsigned char>(c)], out);
    return out;
  }
  /// The bytes that `token` spells. A token with any other character stands for itself.
  std::string bytes(std::string_view token) const {
    std::string out;
    for (std::size_t at = 0; at < token.size();) {
      const utf8_step step = utf8_next(token, at);
      if (step.state != utf8_state::valid || step.character >= byte.size() ||
          byte[step.character] < 0)
        return std::string(token);
      out += static_cast<char>(byte[step.character]);
      at += step.bytes;
    }
    return out;
  }
};

enum class character_class : std::uint8_t { space, letter, number, other };

/// White_Space of Unicode, which is what \s means in the engines that run these patterns.
inline bool is_space(std::uint32_t c) {
  return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

inline character_class classify(std::uint32_t c) {
  if (is_space(c)) return character_class::space;
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO)
    return character_class::letter;
  if (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO)
    return character_class::number;
  if (category == UTF8PROC_CATEGORY_CN) {
    if (is_newer_letter(c)) return character_class::letter;
    if (is_newer_number(c)) return character_class::number;
  }
  return character_class::other;
}

/// \w of Unicode (technical standard 18): letters, marks, decimal digits, connectors, joiners.
inline bool is_word(std::uint32_t c) {
  if (c == 0x200C || c == 0x200D) return true;
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_ND) return true;
  if (category == UTF8PROC_CATEGORY_NL || category == UTF8PROC_CATEGORY_PC) return true;
  // Circled and squared letters: symbols by category, alphabetic by property.
  return (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
         (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
}

inline character_class class_at(std::string_view text, std::size_t at, std::size_t& bytes) {
  static const auto ascii = [] {
    std::array<character_class, 128> table{};
    for (std::uint32_t c = 0; c < 128; ++c) table[c] = classify(c);
    return table;
  }();
  const auto first = static_cast<unsigned char>(text[at]);
  if (first < 128) {
    bytes = 1;
    return ascii[first];
  }
  const utf8_step step = utf8_next(text, at);
  bytes = step.bytes;
  return classify(step.character);
}

/// The end of the word that begins at `text[at]` (valid UTF-8, at < size), by GPT-2's pattern
///
///   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
///
/// Every character falls under one of its parts, so words follow each other without gaps.
inline std::size_t word_end(std::string_view text, std::size_t at) {
  const char first = text[at];
  if (first == '\'' && at + 1 < text.size()) {
    const char a = text[at + 1], b = at + 2 < text.size() ? text[at + 2] : '\0';
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return at + 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return at + 3;
  }
  std::size_t bytes = 0, next = at;
  character_class kind = class_at(text, at, bytes);
  if (kind != character_class::space ||
      (first == ' ' && at + 1 < text.size() &&
       (kind = class_at(text, at + 1, bytes)) != character_class::space)) {
    next = (first == ' ' ? at + 1 : at) + bytes;  // a run of one kind, after at most one blank
    while (next < text.size() && class_at(text, next, bytes) == kind) next += bytes;
    return next;
  }
  // A run of white space leaves its last character to the word after it, if there is one.
  std::size_t last = at;
  while (next < text.size() && class_at(text, next, bytes) == character_class::space) {
    last = next;
    next += bytes;
  }
  return next < text.size() && last > at ? last : next;
}

}  // namespace mlmamba::detail
