// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Has a model answer a data set: each picture looked at once, questions in batches.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mlmamba/evaluate/scores.hpp"
#include "mlmamba/text/answer_probabilities.hpp"
#include "mlmamba/text/generate_batch.hpp"
#include "mlmamba/text/prompt.hpp"

namespace mlmamba::evaluate {

struct answer_options {
  chat_format chat = chat_format::zephyr;
  std::vector<image_transform> towers{};
  index_t max_new_tokens = 128;
  index_t batch = 8;  ///< questions at once; each needs four states at the most, 0.7 GB for 2.7B

  void check() const {
    if (batch < 1) fail<error>("evaluate: batch is ", batch, "; 1 or more is wanted");
    generate_options{.max_new_tokens = max_new_tokens}.check();
  }
};

namespace detail {

/// The state of the model after each picture, a row each.
template <seeing_text_model Model>
typename Model::state look_at(context_of<typename Model::engine_type>& ctx, const Model& model,
                              const std::vector<image>& pictures,
                              const std::vector<image_transform>& towers) {
  std::vector<tensor<float, 4>> pixels;
  for (const image_transform& t : towers) {
    tensor<float, 4> x({index_t(pictures.size()), 3, t.size, t.size});
    const std::size_t each = 3 * std::size_t(t.size) * std::size_t(t.size);
    for (std::size_t i = 0; i < pictures.size(); ++i)
      t.write(pictures[i], std::span<float>(x.data() + i * each, each));
    pixels.push_back(std::move(x));
  }
  auto state = model.make_state(index_t(pictures.size()));
  mlmamba::detail::read_pictures(ctx, model, pixels, index_t(pictures.size()), state);
  return state;
}

}  // namespace detail

/// Answers the questions with these numbers, and gives each to done(number, answer) in their order,
/// batch by batch. Texts are greedy, at most max_new_tokens tokens, without white space at their
/// ends; a data set with choices gets their probabilities from the first token after the prompt
/// alone. Prompts are never cut (the original cuts at 2048 tokens, and with them the turn of the
/// assistant). Questions that follow each other about the same picture share its state.
template <seeing_text_model Model>
void answer_questions(context_of<typename Model::engine_type>& ctx, const Model& model,
                      const tokenizer& words, const dataset& set,
                      std::span<const std::size_t> numbers, const answer_options& o,
                      const std::function<void(std::size_t, answer)>& done) {
  o.check();
  const std::size_t batch = std::size_t(o.batch);
  for (std::size_t first = 0; first < numbers.size();) {
    std::size_t last = first;  // as many pictures as have a batch of questions; the last one's all
    std::vector<image> pictures;
    std::vector<index_t> row;  // which picture a question is about
    for (; last < numbers.size(); ++last) {
      const std::string& name = set.questions[numbers[last]].picture;
      if (last == first || name != set.questions[numbers[last - 1]].picture) {
        if (last - first >= batch) break;
        pictures.push_back(set.picture(name));
      }
      row.push_back(index_t(pictures.size()) - 1);
    }
    const auto looked = detail::look_at(ctx, model, pictures, o.towers);
    for (; first < last;) {
      const std::size_t n = std::min(batch, last - first);
      std::vector<std::vector<std::int32_t>> prompts;
      for (std::size_t i = first; i < first + n; ++i) {
        prompt_builder p(o.chat);
        p.add_turn(chat_role::human, set.questions[numbers[i]].message);
        prompts.push_back(words.encode(p.prompt()));
      }
      auto before = gather_rows(looked, std::span(row).subspan(row.size() - (last - first), n));
      if (set.choices.empty()) {
        const auto made = generate_batch_after(ctx, model, words, std::move(before), prompts,
                                               {.max_new_tokens = o.max_new_tokens});
        for (std::size_t i = 0; i < n; ++i)
          done(numbers[first + i],
               {std::string(mlmamba::detail::strip(words.decode(made[i]))), {}});
      } else {
        auto all = answer_probabilities_after(ctx, model, words, before, prompts, set.choices);
        for (std::size_t i = 0; i < n; ++i) done(numbers[first + i], {"", std::move(all[i])});
      }
      first += n;
    }
  }
}

}  // namespace mlmamba::evaluate
