// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Chats as text: the templates that models were tuned with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "mlmamba/core/error.hpp"
#include "mlmamba/text/detail/byte_level.hpp"
#include "mlmamba/text/detail/utf8.hpp"

namespace mlmamba {

/// The template of a chat.
///
///             human turn                                             gpt turn              between
///   zephyr    <|user|>\n{m}<|endoftext|>\n<|assistant|>\n            {m}<|endoftext|>      \n
///   mamba     In: {m}\nOut:                                          {m}<|endoftext|>      \n
///   pure      In: {m}\nOut:                                          {m}</s>               nothing
///   plain     {m}\n                                                  {m}<|endoftext|>      nothing
///
/// "Out: " ends in a blank; `pure` strips white space from the end of the whole prompt, so not
/// there. `plain` has the fewest tokens, for small models of one's own.
enum class chat_format : std::uint8_t { zephyr, mamba, pure, plain };

inline std::string_view name_of(chat_format format) {
  constexpr std::string_view names[] = {"zephyr", "mamba", "pure", "plain"};
  return names[static_cast<std::size_t>(format)];
}
inline chat_format chat_format_of(std::string_view name) {
  for (auto format :
       {chat_format::zephyr, chat_format::mamba, chat_format::pure, chat_format::plain})
    if (name_of(format) == name) return format;
  fail<error>("chat format \"", name, "\"; zephyr, mamba, pure or plain is wanted");
}

enum class chat_role : std::uint8_t { human, gpt };

namespace detail {

/// What Python's str.strip takes away: White_Space and the four information separators.
inline bool is_stripped(std::uint32_t c) { return is_space(c) || (c >= 0x1C && c <= 0x1F); }

inline std::string_view strip_end(std::string_view text) {
  while (!text.empty()) {
    std::size_t at = text.size() - 1;
    while (at > 0 && text.size() - at < 4 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80)
      --at;
    const utf8_step step = utf8_next(text, at);
    if (step.state != utf8_state::valid || at + step.bytes != text.size() ||
        !is_stripped(step.character))
      break;
    text = text.substr(0, at);
  }
  return text;
}
inline std::string_view strip(std::string_view text) {
  while (!text.empty()) {
    const utf8_step step = utf8_next(text, 0);
    if (step.state != utf8_state::valid || !is_stripped(step.character)) break;
    text.remove_prefix(step.bytes);
  }
  return strip_end(text);
}

}  // namespace detail

/// Builds the text of a chat turn by turn.
///
/// Messages  every "<image>" is removed, then white space at both ends; an empty gpt message
///           becomes one blank. The picture itself is not text: it goes before the whole prompt
/// Errors    error if human and gpt do not take turns, human first
/// Source    the original's prompt builders
class prompt_builder {
 public:
  explicit prompt_builder(chat_format format = chat_format::zephyr) : format_(format) {}

  chat_format format() const { return format_; }
  /// What closes an answer.
  static std::string_view end_of_answer(chat_format format) {
    return format == chat_format::pure ? "</s>" : "<|endoftext|>";
  }
  int turns() const { return turns_; }

  /// Appends a turn and returns the text that it added: training tokenises turn by turn.
  std::string add_turn(chat_role role, std::string_view message) {
    if ((role == chat_role::human) != (turns_ % 2 == 0))
      fail<error>("prompt: turn ", turns_ + 1, " is by ",
                  role == chat_role::human ? "human" : "gpt",
                  "; human and gpt take turns, human first");
    std::string clean(message);
    constexpr std::string_view image = "<image>";
    for (std::size_t at = 0; (at = clean.find(image, at)) != std::string::npos;)
      clean.erase(at, image.size());
    clean = std::string(detail::strip(clean));
    std::string turn;
    if (role == chat_role::gpt) {
      turn = (clean.empty() ? " " : clean).append(end_of_answer(format_));
    } else {
      if (turns_ > 0 && (format_ == chat_format::zephyr || format_ == chat_format::mamba))
        turn = "\n";
      turn += wrapped(clean);
    }
    text_ += turn;
    ++turns_;
    return turn;
  }

  /// The chat so far.
  std::string prompt() const { return finished(text_); }

  /// The chat with one more question that is not kept: as it is, not cleaned, and without the line
  /// break before it. So the original does, and its evaluations rely on it.
  std::string potential_prompt(std::string_view message) const {
    return finished(text_ + wrapped(message));
  }

 private:
  std::string wrapped(std::string_view message) const {
    if (format_ == chat_format::zephyr)
      return std::string("<|user|>\n").append(message).append("<|endoftext|>\n<|assistant|>\n");
    if (format_ == chat_format::plain) return std::string(message).append("\n");
    return std::string("In: ").append(message).append("\nOut: ");
  }
  std::string finished(const std::string& text) const {
    return format_ == chat_format::pure ? std::string(detail::strip_end(text)) : text;
  }

  chat_format format_;
  int turns_ = 0;
  std::string text_;
};

}  // namespace mlmamba
