// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// loaded_model on an engine: a model with its files and its conversation.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "loaded_model.hpp"
#include "made_model.hpp"
#include "mlmamba/evaluate/answer.hpp"

namespace mlmamba::examples {

template <class E>
class loaded_model_of final : public loaded_model {
 public:
  using model_type = any_text_model<E>;

  loaded_model_of(const checkpoint& files, std::shared_ptr<context_of<E>> ctx, model_type model,
                  std::string_view held)
      : ctx_(std::move(ctx)),
        model_(std::move(model)),
        words_(files.tokenizer()),
        who_(files.who()),
        chat_(json_get_or<std::string>(files.config(), "chat_format", "zephyr", files.who())) {
    towers = tower_rules(files.config(), files.who());
    weights = held;
  }

  void open(std::optional<chat_format> format) override {
    conversation_.emplace(*ctx_, model_, words_, format);
  }
  void begin(const std::vector<tensor<float, 4>>& pixels) override { conversation_->begin(pixels); }
  void restart() override { conversation_->restart(); }
  const conversation_turn& ask(std::string_view question, const generate_options& o,
                               const listener& listen) override {
    return conversation_->ask(question, o, listen);
  }
  void answer(const evaluate::dataset& set, std::span<const std::size_t> numbers,
              evaluate::answer_options o,
              const std::function<void(std::size_t, evaluate::answer)>& done) override {
    if (towers.empty())
      fail<error>("evaluate: ", who_, " can't see; a model with vision towers is wanted");
    o.towers = towers;
    o.chat = chat_format_of(chat_);
    evaluate::answer_questions(*ctx_, model_, words_, set, numbers, o, done);
  }

 private:
  std::shared_ptr<context_of<E>> ctx_;
  model_type model_;
  tokenizer words_;
  std::string who_, chat_;
  std::optional<conversation<model_type>> conversation_;
};

/// What a model is made from, of a folder.
inline model_source source_of(const checkpoint& files) {
  return {files.config(), files.who(), [&files] {
            auto all = files.arrays();
            if (has_towers(files.config()))
              add_tower_arrays(all, files.config(), files.places(), files.who());
            return all;
          }};
}

}  // namespace mlmamba::examples
