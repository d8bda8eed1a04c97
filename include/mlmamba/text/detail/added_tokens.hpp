// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Tokens that are looked for in the text itself, before it is split into words.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/text/detail/byte_level.hpp"
#include "mlmamba/text/detail/utf8.hpp"

namespace mlmamba::detail {

/// One entry of "added_tokens".
struct added_token {
  std::int32_t id = 0;
  std::string content;
  bool special = false;      // left out when text is decoded without special tokens
  bool single_word = false;  // only where no letter or digit touches it
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // takes the white space after it along
  bool normalized = false;   // looked for after normalisation, not before
};

/// A trie over some of the tokens; it finds the leftmost, and there the longest.
class token_matcher {
 public:
  struct piece {
    std::string_view text;
    std::int32_t id;  // -1: no token, text to go on with
  };

  token_matcher() : nodes_(1) {}

  void add(std::string_view pattern, const added_token& token) {
    if (pattern.empty()) return;
    std::size_t at = 0;
    for (const char c : pattern) {
      std::size_t next = nodes_[at].child(c);
      if (next == 0) {
        next = nodes_.size();
        auto& children = nodes_[at].children;
        children.emplace_back(c, next);
        std::sort(children.begin(), children.end());
        nodes_.emplace_back();
      }
      at = next;
    }
    starts_[static_cast<unsigned char>(pattern[0])] = true;
    nodes_[at].token = static_cast<std::int32_t>(tokens_.size());  // of equals, the last one holds
    tokens_.push_back(token);
  }
  bool empty() const { return tokens_.empty(); }

  /// Cuts `text` at the tokens found. A token whose `rstrip` took in the beginning of the next one
  /// does not keep that one from being found: so do Hugging Face's tokenizers.
  void split(std::string_view text, std::vector<piece>& out) const {
    std::size_t done = 0, at = 0;
    while (at < text.size()) {
      if (!starts_[static_cast<unsigned char>(text[at])]) {
        ++at;
        continue;
      }
      const auto [index, length] = longest(text, at);
      if (index < 0) {
        ++at;
        continue;
      }
      const added_token& token = tokens_[static_cast<std::size_t>(index)];
      std::size_t begin = at, end = at + length;
      at = end;
      if (token.single_word && (word_before(text, begin) || word_after(text, end))) continue;
      if (token.lstrip) begin = std::max(space_before(text, begin), done);
      if (token.rstrip) end = space_after(text, end);
      if (done < begin) out.push_back({text.substr(done, begin - done), -1});
      // Nothing is left of a token whose text the one before it took in as white space.
      if (begin < end) out.push_back({text.substr(begin, end - begin), token.id});
      done = end;
    }
    if (done < text.size()) out.push_back({text.substr(done), -1});
  }

 private:
  struct node {
    std::vector<std::pair<char, std::size_t>> children;  // sorted; 0 is no child, the root is none
    std::int32_t token = -1;

    std::size_t child(char c) const {
      const auto found =
          std::lower_bound(children.begin(), children.end(), std::pair(c, std::size_t{0}));
      return found != children.end() && found->first == c ? found->second : 0;
    }
  };

  std::pair<std::int32_t, std::size_t> longest(std::string_view text, std::size_t from) const {
    std::pair<std::int32_t, std::size_t> best{-1, 0};
    std::size_t at = 0;
    for (std::size_t i = from; i < text.size(); ++i) {
      at = nodes_[at].child(text[i]);
      if (at == 0) break;
      if (nodes_[at].token >= 0) best = {nodes_[at].token, i + 1 - from};
    }
    return best;
  }

  /// The start of the character that ends at `end` (> 0, valid UTF-8).
  static std::size_t back(std::string_view text, std::size_t end) {
    --end;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    return end;
  }
  static bool word_before(std::string_view text, std::size_t at) {
    return at > 0 && is_word(utf8_next(text, back(text, at)).character);
  }
  static bool word_after(std::string_view text, std::size_t at) {
    return at < text.size() && is_word(utf8_next(text, at).character);
  }
  static std::size_t space_before(std::string_view text, std::size_t at) {
    while (at > 0 && is_space(utf8_next(text, back(text, at)).character)) at = back(text, at);
    return at;
  }
  static std::size_t space_after(std::string_view text, std::size_t at) {
    while (at < text.size()) {
      const utf8_step step = utf8_next(text, at);
      if (!is_space(step.character)) break;
      at += step.bytes;
    }
    return at;
  }

  std::vector<node> nodes_;
  std::array<bool, 256> starts_{};
  std::vector<added_token> tokens_;
};

}  // namespace mlmamba::detail
