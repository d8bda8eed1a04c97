// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A conversation about a picture, or about none: questions, answers, and a state that has read
// them.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "mlmamba/text/generate.hpp"
#include "mlmamba/text/prompt.hpp"

namespace mlmamba {

/// One question with what was answered.
struct conversation_turn {
  std::string question, answer;
  bool ended = false;  // by the model itself; else it was cut off by a limit or the listener
  index_t tokens = 0;  // of the answer
};

/// A conversation. The picture is looked at once; each turn costs its own tokens only, since the
/// state goes on where it stood. A value: a copy is a fork that goes its own way. It refers to the
/// context and the model, which must outlive it.
///
/// Text      the model reads what prompt_builder writes for the chat, but answers as the model gave
///           them, with the white space at their ends; an answer that was cut off is closed by the
///           template's end token. Without a format questions are read as they are
/// Errors    those of generate. After an error, and after one that a listener throws, all is as it
///           was before the call
template <text_model Model>
class conversation {
 public:
  using E = typename Model::engine_type;
  using state_type = typename Model::state;

  conversation(context_of<E>& ctx, const Model& model, tokenizer words,
               std::optional<chat_format> format = chat_format::zephyr)
      : ctx_(&ctx), model_(&model), words_(std::move(words)), format_(format) {
    begin();
  }

  /// Starts anew, before a picture if there is one: pixels (1, 3, S, S) per tower, see pixels_of.
  void begin(const std::vector<tensor<float, 4>>& pixels = {}) {
    state_type state = model_->make_state(1);
    detail::read_pictures(*ctx_, *model_, pixels, 1, state);
    start_ = std::move(state);
    restart();
  }
  /// Starts anew before the same picture, which is not looked at again.
  void restart() {
    now_ = {start_, prompt_builder(format_.value_or(chat_format::plain)), {}, {}};
    before_.reset();
  }
  /// Takes the last turn back, if it has not been taken back already; one can be.
  bool undo() {
    if (!before_) return false;
    now_ = std::move(*before_);
    before_.reset();
    return true;
  }

  std::span<const conversation_turn> turns() const { return now_.turns; }
  /// Has read the picture and all turns.
  const state_type& state() const { return now_.state; }
  /// All tokens of the text so far: questions, answers and what the template puts around them.
  std::span<const std::int32_t> tokens() const { return now_.ids; }

  /// Asks, and gives each piece of the answer to `listen` as it is made: whole characters. If it
  /// returns false the answer ends there; what was given is a turn like any other.
  template <class F>
  const conversation_turn& ask(std::string_view question, const generate_options& o, F&& listen) {
    o.check();
    moment next = now_;
    const std::string text =
        format_ ? next.builder.add_turn(chat_role::human, question) : std::string(question);
    read(text, o, next);
    conversation_turn turn{std::string(question), {}, false, 0};
    generation<Model> g(*ctx_, *model_, words_, {}, &next.state, std::move(next.logits), next.ids,
                        o);
    for (std::string_view piece : g) {
      turn.answer += piece;
      if constexpr (std::is_void_v<std::invoke_result_t<F&, std::string_view>>) {
        listen(piece);
      } else {
        if (!listen(piece)) break;
      }
    }
    g.state();  // has it read the last token too
    turn.ended = g.stopped();
    turn.tokens = index_t(g.tokens().size());
    next.ids.insert(next.ids.end(), g.tokens().begin(), g.tokens().end());
    if (format_) {
      next.builder.add_turn(chat_role::gpt, turn.answer);
      const bool closed = !g.tokens().empty() && words_.eos() == g.tokens().back();
      if (!closed) read(prompt_builder::end_of_answer(*format_), o, next);
    }
    next.logits.clear();
    next.turns.push_back(std::move(turn));
    before_ = std::move(now_);
    now_ = std::move(next);
    return now_.turns.back();
  }
  const conversation_turn& ask(std::string_view question, const generate_options& o = {}) {
    return ask(question, o, [](std::string_view) {});
  }

 private:
  /// Where the conversation stands.
  struct moment {
    state_type state;
    prompt_builder builder;
    std::vector<std::int32_t> ids;  // for the repetition penalty, and max_length
    std::vector<conversation_turn> turns;
    std::vector<float> logits{};  // after the last of ids, while a question is asked
  };

  void read(std::string_view text, const generate_options& o, moment& m) const {
    const auto ids = words_.encode(text);
    m.logits = detail::read_ids(*ctx_, *model_, ids, 1, o.prefill_tokens, m.state);
    m.ids.insert(m.ids.end(), ids.begin(), ids.end());
  }

  context_of<E>* ctx_;
  const Model* model_;
  tokenizer words_;
  std::optional<chat_format> format_;
  state_type start_;  // has read the picture
  moment now_;
  std::optional<moment> before_;
};

}  // namespace mlmamba
