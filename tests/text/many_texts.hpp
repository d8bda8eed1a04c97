// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Any number of texts that try a tokenizer: made here and, byte for byte the same, by
// golden/many_texts.py, so that a checksum of the ids is all that has to be kept.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <string_view>

#include "mlmamba/text/detail/utf8.hpp"

namespace mlmamba::test {

/// splitmix64.
struct text_random {
  std::uint64_t state;

  std::uint64_t next() {
    std::uint64_t z = state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
  }
  std::uint32_t below(std::uint64_t n) { return static_cast<std::uint32_t>(next() % n); }
};

namespace many {

// Letters of one kind each, between which words, numbers and marks begin and end.
inline constexpr std::u32string_view alphabets[] = {
    U"abcdefghijklmnopqrstuvwxyz     ",
    U"aeiou 'stmdrlv",
    U"ABCdeFGh tHE",
    U"0123456789 .,",
    U" \n\t  \r\n",
    U"\u00a0\u2003\u3000\u0085\u2028\u200b\u1680 x",
    U"{}()[]<>=+-*/;:\"'\\|_#@!?",
    U"éüñåøßçæœ e",
    U"東京日本語中文字。、 ",
    U"абвгдежз ё",
    U"ابتثجح ",
    U"½²Ⅷ٣๑一 1",
    U"😀👍🏽❤️☕\u200d ",
    U"\u1100\u1101\u1112\u1161\u1162\u11a7\u11a8\u11ab가각힣 ",
    U"\u0915\u093c\u0947\u09c7\u09be\u0b47\u0b57\u0f71\u0f72 ",
    U"aeoAq\u0300\u0301\u0302\u0303\u0307\u0308\u030a\u0315\u0323\u0327\u0338\u0345\u05ae"};

// Ranges with many characters that the normal form changes or is made of.
inline constexpr std::uint32_t ranges[][2] = {
    {0x0020, 0x024F},   {0x0300, 0x0345},  {0x0370, 0x03FF}, {0x0591, 0x05F4}, {0x0900, 0x0DFF},
    {0x1E00, 0x1FFF},   {0x2000, 0x2BFF},  {0x3000, 0x30FF}, {0xAC00, 0xD7A3}, {0xF900, 0xFAFF},
    {0xFB00, 0xFDFF},   {0xFE00, 0xFFFF},  {0x0020, 0xD7FF}, {0xE000, 0xFFFF}, {0x10000, 0x1FFFF},
    {0x2F800, 0x2FA1F}, {0x20000, 0x323AF}};

inline constexpr std::string_view words[] = {"<|endoftext|>",
                                             "<|padding|>",
                                             "<|endoftext",
                                             "|>",
                                             "<|user|>\n",
                                             "<|assistant|>\n",
                                             "<image>",
                                             "'s",
                                             "'ll",
                                             "'re",
                                             "\r\n",
                                             "\n\n",
                                             " the",
                                             "The",
                                             " question",
                                             " answer",
                                             " photo",
                                             "What",
                                             " is",
                                             " unusual",
                                             " about",
                                             " this",
                                             "?",
                                             " 2024",
                                             "3.14",
                                             " https://",
                                             "e-mail@example.org",
                                             "    return 0;",
                                             "// ",
                                             " don't",
                                             "I'd",
                                             "True",
                                             "False"};

inline constexpr std::string_view around[] = {" ", "a", "1", ".", "\xCC\x81", "  "};

}  // namespace many

/// Text number i: valid UTF-8 but for one in sixteen.
inline std::string many_text(std::uint64_t i) {
  using detail::append_character;
  text_random r{i * 0xD1342543DE82EF95u + 1};
  std::string text;
  if (i % 8 == 0) {  // every character in turn, 16 a text
    const std::uint64_t block = i / 8;
    const std::uint64_t first = block < 0x323B   ? block * 16
                                : block < 0x325A ? 0xE0000 + (block - 0x323B) * 16
                                                 : 0x10FFF0 - (block - 0x325A) * 16;
    for (std::uint64_t c = first; c < first + 16; ++c) {
      if (c >= 0xD800 && c <= 0xDFFF) continue;
      if (r.below(3) == 0) text += many::around[r.below(6)];
      append_character(static_cast<std::uint32_t>(c), text);
    }
    return text;
  }
  for (std::uint32_t pieces = 1 + r.below(6); pieces > 0; --pieces) {
    const std::uint32_t kind = r.below(8);
    if (kind < 3) {
      const auto alphabet = many::alphabets[r.below(std::size(many::alphabets))];
      for (std::uint32_t n = 1 + r.below(14); n > 0; --n)
        append_character(alphabet[r.below(alphabet.size())], text);
    } else if (kind < 5) {
      for (std::uint32_t n = 1 + r.below(4); n > 0; --n)
        text += many::words[r.below(std::size(many::words))];
    } else if (kind == 5) {
      const std::uint32_t(&range)[2] = many::ranges[r.below(std::size(many::ranges))];
      for (std::uint32_t n = 1 + r.below(8); n > 0; --n)
        append_character(range[0] + r.below(range[1] - range[0] + 1), text);
    } else if (kind == 6) {
      text.append(1 + r.below(60), ' ');
    } else {  // one character again and again
      const auto alphabet = many::alphabets[r.below(std::size(many::alphabets))];
      const std::uint32_t c = alphabet[r.below(alphabet.size())];
      for (std::uint32_t n = 1 + r.below(40); n > 0; --n) append_character(c, text);
    }
  }
  if (i % 16 == 15) {  // not UTF-8: bytes replaced, and an end that is cut off
    for (std::uint32_t n = 1 + r.below(4); n > 0; --n) {
      char& changed = text[r.below(text.size())];
      changed = static_cast<char>(static_cast<unsigned char>(r.below(256)));
    }
    text.resize(text.size() - r.below(std::min<std::size_t>(4, text.size())));
  }
  return text;
}

/// FNV-1a over the ids, little endian, each text closed by -1.
struct ids_checksum {
  std::uint64_t value = 0xCBF29CE484222325u;

  void add(std::span<const std::int32_t> ids) {
    for (const std::int32_t id : ids) add(static_cast<std::uint32_t>(id));
    add(0xFFFFFFFFu);
  }

 private:
  void add(std::uint32_t id) {
    for (int k = 0; k < 4; ++k, id >>= 8) value = (value ^ (id & 0xFF)) * 0x100000001B3u;
  }
};

}  // namespace mlmamba::test
