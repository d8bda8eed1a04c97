// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// UTF-8: one character at a time, and replacement of what is not UTF-8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdint>
#include <string>
#include <string_view>

namespace mlmamba::detail {

inline constexpr std::string_view replacement_character = "\xEF\xBF\xBD";  // U+FFFD

enum class utf8_state : std::uint8_t { valid, invalid, incomplete };

/// What begins at `text[at]`.
struct utf8_step {
  utf8_state state;
  std::uint8_t bytes;       // of the character, or of the longest part that could have begun one
  std::uint32_t character;  // if valid
};

/// Reads one character (at < text.size()). `invalid` covers the maximal subpart, which Unicode
/// (chapter 3.9, and Rust, Python and browsers) replaces by one U+FFFD; `incomplete` is a proper
/// beginning cut off by the end of the text. Overlong forms and surrogates are invalid.
inline utf8_step utf8_next(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[at + i]); };
  const std::uint8_t lead = byte(0);
  if (lead < 0x80) return {utf8_state::valid, 1, lead};
  std::uint8_t low = 0x80, high = 0xBF;  // the range of the second byte
  int more = 0;
  if (lead >= 0xC2 && lead <= 0xDF) {
    more = 1;
  } else if ((lead & 0xF0) == 0xE0) {
    more = 2;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    more = 3;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {utf8_state::invalid, 1, 0};
  }
  std::uint32_t character = lead & (0x3Fu >> more);
  for (int i = 1; i <= more; ++i) {
    const auto n = static_cast<std::uint8_t>(i);
    if (at + n >= text.size()) return {utf8_state::incomplete, n, 0};
    const std::uint8_t b = byte(n);
    if (b < low || b > high) return {utf8_state::invalid, n, 0};
    low = 0x80;
    high = 0xBF;
    character = character << 6 | (b & 0x3Fu);
  }
  return {utf8_state::valid, static_cast<std::uint8_t>(more + 1), character};
}

/// Appends `text` to `out` with each part that is not UTF-8 replaced by U+FFFD. A part that may
/// still become a character is left for the caller if `keep_tail`, who gets its size.
inline std::size_t append_utf8(std::string_view text, std::string& out, bool keep_tail) {
  std::size_t at = 0, good = 0;  // [good, at) is valid and not yet copied
  while (at < text.size()) {
    const utf8_step step = utf8_next(text, at);
    if (step.state == utf8_state::valid) {
      at += step.bytes;
      continue;
    }
    out.append(text.substr(good, at - good));
    if (step.state == utf8_state::incomplete && keep_tail) return text.size() - at;
    out.append(replacement_character);
    at += step.bytes;
    good = at;
  }
  out.append(text.substr(good));
  return 0;
}

inline bool is_ascii(std::string_view text) {
  unsigned char any = 0;
  for (const char c : text) any = static_cast<unsigned char>(any | static_cast<unsigned char>(c));
  return any < 0x80;
}

inline bool is_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const utf8_step step = utf8_next(text, at);
    if (step.state != utf8_state::valid) return false;
    at += step.bytes;
  }
  return true;
}

inline void append_character(std::uint32_t c, std::string& out) {
  const auto put = [&](std::uint32_t b) {
    out += static_cast<char>(static_cast<unsigned char>(b));
  };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6), put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18), put(0x80 | (c >> 12 & 0x3F)), put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

}  // namespace mlmamba::detail
