// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// loaded_model on an engine, for every structure that a config.json may ask for.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "chosen_model.hpp"
#include "loaded_model.hpp"

namespace mlmamba::examples {

template <class Model>
class loaded_model_of final : public loaded_model {
 public:
  using context_type = context_of<typename Model::engine_type>;

  loaded_model_of(const checkpoint& files, std::shared_ptr<context_type> ctx,
                  std::vector<image_transform> rule, const load_options& options)
      : ctx_(std::move(ctx)),
        model_(files.load<Model>(options)),
        words_(files.tokenizer()),
        who_(files.who()),
        chat_(json_get_or<std::string>(files.config(), "chat_format", "zephyr", files.who())) {
    towers = std::move(rule);
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
    if constexpr (seeing_text_model<Model>) {
      o.towers = towers;
      o.chat = chat_format_of(chat_);
      evaluate::answer_questions(*ctx_, model_, words_, set, numbers, o, done);
    } else {
      fail<error>("evaluate: ", who_, " can't see; a model with vision towers is wanted");
    }
  }

 private:
  std::shared_ptr<context_type> ctx_;
  Model model_;
  tokenizer words_;
  std::string who_, chat_;
  std::optional<conversation<Model>> conversation_;
};

/// Would no weight lose bits in the types of `Model`? (Wider types than the files' lose none.)
template <class Model>
bool holds_exactly(const checkpoint& files) {
  const json& config = files.config();
  const Model model = published<Model>::make(config, (files.folder() / "config.json").string());
  const auto named =
      published<Model>::arrays(files.arrays_of<Model>(), config, files.who()).by_path;
  bool exact = true;
  nn::for_each_parameter(model, [&](const std::string& path, const auto& p) {
    using T = typename std::remove_cvref_t<decltype(p)>::value_type;
    const auto at = named.find(path);
    if (std::is_same_v<T, bf16> && at != named.end())
      exact = exact && at->second.type == dtype::bf16;
  });
  return exact;
}

template <class E>
std::unique_ptr<loaded_model> load_on(const checkpoint& files, std::shared_ptr<context_of<E>> ctx,
                                      bool only_exact = false, const load_options& options = {}) {
  return with_chosen_model<E>(
      files,
      [&]<class Model>(std::type_identity<Model>,
                       std::vector<image_transform> towers) -> std::unique_ptr<loaded_model> {
        if (only_exact && !holds_exactly<Model>(files)) return nullptr;
        auto model = std::make_unique<loaded_model_of<Model>>(files, std::move(ctx),
                                                              std::move(towers), options);
        using W = typename E::weight;
        model->weights = std::is_same_v<W, bf16>    ? std::string_view("bf16")
                         : std::is_same_v<W, float> ? std::string_view("f32")
                                                    : to_string(options.weights.format.scheme);
        return model;
      });
}

}  // namespace mlmamba::examples
