// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// How probable given answers are: from the first token alone, nothing is generated.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "mlmamba/text/detail/read_prompts.hpp"
#include "mlmamba/text/generate.hpp"

namespace mlmamba {

/// The token of each answer. Errors: error if an answer is not exactly one token of a model with
/// this vocabulary, or there are none.
inline std::vector<std::int32_t> answer_tokens(const tokenizer& words,
                                               std::span<const std::string> answers,
                                               index_t vocabulary) {
  if (answers.empty()) fail<error>("answer_probabilities: no answers; at least one is wanted");
  std::vector<std::int32_t> ids;
  for (const std::string& a : answers) {
    const auto one = words.encode(a);
    if (one.size() != 1)
      fail<error>("answer_probabilities: \"", a, "\" is ", one.size(),
                  " tokens; answers of one token are wanted");
    if (one[0] >= vocabulary)
      fail<error>("answer_probabilities: \"", a, "\" is token ", one[0], "; the model knows 0 to ",
                  vocabulary - 1);
    ids.push_back(one[0]);
  }
  return ids;
}

/// Softmax over the logits (V) of these tokens, which is that over the vocabulary renormalised.
///
/// Numerics  in double, the largest logit subtracted
/// Errors    error if the logits are not finite
inline std::vector<double> probabilities_among(std::span<const float> logits,
                                               std::span<const std::int32_t> tokens) {
  std::vector<double> probability;
  double best = -std::numeric_limits<double>::infinity(), sum = 0;
  for (const std::int32_t id : tokens) best = std::max(best, double(logits[std::size_t(id)]));
  for (const std::int32_t id : tokens) {
    probability.push_back(std::exp(double(logits[std::size_t(id)]) - best));
    sum += probability.back();
  }
  if (!(sum > 0) || !std::isfinite(sum))
    fail<error>("answer_probabilities: the logits are not finite; are the weights?");
  for (double& x : probability) x /= sum;
  return probability;
}

/// How probable each answer is as the first token after the prompt, among the given ones. One
/// prefill, no generation.
///
/// Errors    those of answer_tokens and probabilities_among
template <text_model Model>
std::vector<double> answer_probabilities(context_of<typename Model::engine_type>& ctx,
                                         const Model& model, const tokenizer& words,
                                         const prompt& p, std::span<const std::string> answers,
                                         const generate_options& o = {}) {
  o.check();
  const auto ids = answer_tokens(words, answers, model.vocabulary());
  auto state = model.make_state(1);
  detail::read_pictures(ctx, model, p.pixels, 1, state);
  return probabilities_among(
      detail::read_ids(ctx, model, words.encode(p.text), 1, o.prefill_tokens, state), ids);
}

/// The same for many prompts, each after row i of `before` (its picture, or nothing); row i is what
/// it is alone where the backend's rows are independent.
template <text_model Model>
std::vector<std::vector<double>> answer_probabilities_after(
    context_of<typename Model::engine_type>& ctx, const Model& model, const tokenizer& words,
    const typename Model::state& before, std::span<const std::vector<std::int32_t>> prompts,
    std::span<const std::string> answers, const generate_options& o = {}) {
  o.check();
  const auto ids = answer_tokens(words, answers, model.vocabulary());
  const std::size_t v = std::size_t(model.vocabulary());
  std::vector<std::vector<double>> all(prompts.size());
  detail::read_prompts(
      ctx, model, prompts, o.prefill_tokens, before,
      [&](const std::vector<index_t>& at, const std::vector<float>& logits, const auto&) {
        for (std::size_t i = 0; i < at.size(); ++i)
          all[std::size_t(at[i])] = probabilities_among(std::span(logits).subspan(i * v, v), ids);
      });
  return all;
}

}  // namespace mlmamba
