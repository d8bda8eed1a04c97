// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Text from token ids as they come, never half a character.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "mlmamba/text/tokenizer.hpp"

namespace mlmamba {

/// Text from ids one at a time: gives only whole characters, so a piece can be shown at once. The
/// pieces and `finish()` together are `decode` of all the ids.
class stream_decoder {
 public:
  explicit stream_decoder(tokenizer words, bool skip_special = true)
      : words_(std::move(words)), skip_special_(skip_special) {}

  /// The characters that this id completes; often none or several.
  std::string push(std::int32_t id) {
    std::string text;
    if (skip_special_ && words_.is_special(id)) return text;
    held_ += words_.token_bytes(id);
    const std::size_t rest = detail::append_utf8(held_, text, true);
    held_.erase(0, held_.size() - rest);
    return text;
  }
  /// What was held back: U+FFFD if bytes of an unfinished character are left.
  std::string finish() {
    std::string text;
    detail::append_utf8(std::exchange(held_, {}), text, false);
    return text;
  }

 private:
  tokenizer words_;
  bool skip_special_;
  std::string held_;
};

}  // namespace mlmamba
