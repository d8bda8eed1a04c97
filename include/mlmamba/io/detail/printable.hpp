// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Text from elsewhere, for messages of one line.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

namespace mlmamba::detail {

/// At most 80 characters of a text from a file or an answer, with ? for what can't be shown.
inline std::string printable(std::string_view text) {
  std::string out(text.substr(0, 80));
  std::replace_if(
      out.begin(), out.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return out + (text.size() > 80 ? "..." : "");
}

}  // namespace mlmamba::detail
