// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The composed normal form of text (NFC), by the tables that tokenizers have.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <string_view>

#include <utf8proc.h>

#include "mlmamba/core/error.hpp"
#include "mlmamba/text/detail/unicode_age.hpp"
#include "mlmamba/text/detail/utf8.hpp"

namespace mlmamba::detail {

/// Appends the composed form of a part in which nothing is left as it is.
inline void append_composed(std::string_view part, std::string& out) {
  if (part.empty()) return;
  utf8proc_uint8_t* composed = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(part.data()),
                   static_cast<utf8proc_ssize_t>(part.size()), &composed,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> owner(composed, std::free);
  if (size == UTF8PROC_ERROR_NOMEM) throw std::bad_alloc();
  if (size < 0) fail<error>("nfc: ", part.size(), " bytes; ", utf8proc_errmsg(size));
  out.append(reinterpret_cast<const char*>(composed), static_cast<std::size_t>(size));
}

/// The composed normal form of valid UTF-8, as Hugging Face's tokenizers make it.
inline std::string nfc(std::string_view text) {
  // utf8proc up to 2.10 swallows U+11A7 after a Hangul syllable, as if it were the trailing
  // consonant number 0. Nothing composes with it, so the text may be cut before it.
  constexpr std::uint32_t not_a_trailing_consonant = 0x11A7;
  std::string out;
  std::size_t done = 0;
  for (std::size_t at = 0; at < text.size();) {
    const utf8_step step = utf8_next(text, at);
    const std::size_t end = at + step.bytes;
    if (is_left_by_nfc(step.character)) {
      append_composed(text.substr(done, at - done), out);
      out.append(text.substr(at, end - at));
      done = end;
    } else if (step.character == not_a_trailing_consonant) {
      append_composed(text.substr(done, at - done), out);
      done = at;
    }
    at = end;
  }
  append_composed(text.substr(done), out);
  return out;
}

}  // namespace mlmamba::detail
