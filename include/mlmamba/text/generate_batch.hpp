// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Many prompts at once, and probabilities of given answers.
#pragma once

#include <map>

#include "mlmamba/models/state_rows.hpp"
#include "mlmamba/text/generate.hpp"

namespace mlmamba {

/// Ids after each prompt. Prompts of equal length are read together, then all rows are stepped
/// together; a row ends by itself. Row i is what a generation with seed `seed + i` gives, bit for
/// bit where the backend's rows are independent. `pixels` are (B, 3, S, S) per tower, or none.
///
/// Result    the new ids of each prompt, without the token that ended it
template <text_model Model>
std::vector<std::vector<std::int32_t>> generate_batch(
    context_of<typename Model::engine_type>& ctx, const Model& model, const tokenizer& words,
    std::span<const std::vector<std::int32_t>> prompts, const generate_options& o = {},
    const std::vector<tensor<float, 4>>& pixels = {}) {
  using E = typename Model::engine_type;
  using state_type = typename Model::state;
  o.check();
  std::vector<std::int32_t> stop = o.stop;
  if (o.stop_at_end_of_text && words.eos()) stop.push_back(*words.eos());
  std::vector<std::vector<std::int32_t>> made(prompts.size());
  if (prompts.empty() || o.max_new_tokens == 0) return made;

  struct row {
    std::size_t of;  // which prompt
    sampler draw;
    std::vector<std::int32_t> seen;
    bool done = false;
  };
  std::vector<row> rows;
  std::vector<float> logits;  // (rows, V)
  state_type state;
  {
    auto looked = model.make_state(pixels.empty() ? 0 : index_t(prompts.size()));
    detail::read_pictures(ctx, model, pixels, index_t(prompts.size()), looked);
    std::map<std::size_t, std::vector<index_t>> by_length;
    for (std::size_t i = 0; i < prompts.size(); ++i)
      by_length[prompts[i].size()].push_back(index_t(i));
    std::vector<state_type> states;
    for (const auto& [length, at] : by_length) {
      const index_t n = index_t(at.size());
      states.push_back(pixels.empty() ? model.make_state(n) : gather_rows(looked, at));
      std::vector<std::int32_t> ids;
      for (const index_t i : at) {
        const auto& p = prompts[std::size_t(i)];
        ids.insert(ids.end(), p.begin(), p.end());
        sampling s = o.sampling_for(words.size(), model.vocabulary());
        s.seed += std::uint64_t(i);
        rows.push_back({std::size_t(i), sampler(s), p});
      }
      const auto y = detail::read_ids(ctx, model, ids, n, o.prefill_tokens, states.back());
      logits.insert(logits.end(), y.begin(), y.end());
    }
    state = join_rows(std::span<const state_type>(states));
  }

  const std::size_t v = std::size_t(model.vocabulary());
  for (index_t made_tokens = 1;; ++made_tokens) {
    std::vector<index_t> open;
    std::vector<std::int32_t> next;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      row& r = rows[i];
      if (!r.done) {
        const std::int32_t id = r.draw(std::span(logits).subspan(i * v, v), r.seen);
        r.seen.push_back(id);
        r.done = std::find(stop.begin(), stop.end(), id) != stop.end();
        if (!r.done) made[r.of].push_back(id), open.push_back(index_t(i));
      }
      next.push_back(r.seen.back());
    }
    if (open.empty() || made_tokens >= o.max_new_tokens) return made;
    if (2 * open.size() <= rows.size()) {  // the ended ones cost as much as the others
      state = gather_rows(state, open);
      std::vector<row> left;
      next.clear();
      for (const index_t i : open) {
        left.push_back(std::move(rows[std::size_t(i)]));
        next.push_back(left.back().seen.back());
      }
      rows = std::move(left);
    }
    auto frame = ctx.scratch.make_frame();
    const in_index<E, 2> ids = detail::ids_on<E>(ctx, next, index_t(next.size()));
    logits = detail::host_logits(model.step(ctx, in_index<E, 1>(ids.flat()), state));
  }
}

/// How probable each answer is as the first token after the prompt, among the given ones: a softmax
/// over their logits, which is that over the vocabulary renormalised. One prefill, no generation.
///
/// Errors    error if an answer is not exactly one token, or there are none
template <text_model Model>
std::vector<double> answer_probabilities(context_of<typename Model::engine_type>& ctx,
                                         const Model& model, const tokenizer& words,
                                         const prompt& p, std::span<const std::string> answers,
                                         const generate_options& o = {}) {
  o.check();
  if (answers.empty()) fail<error>("answer_probabilities: no answers; at least one is wanted");
  std::vector<std::int32_t> ids;
  for (const std::string& a : answers) {
    const auto one = words.encode(a);
    if (one.size() != 1)
      fail<error>("answer_probabilities: \"", a, "\" is ", one.size(),
                  " tokens; answers of one token are wanted");
    if (one[0] >= model.vocabulary())
      fail<error>("answer_probabilities: \"", a, "\" is token ", one[0], "; the model knows 0 to ",
                  model.vocabulary() - 1);
    ids.push_back(one[0]);
  }
  auto state = model.make_state(1);
  detail::read_pictures(ctx, model, p.pixels, 1, state);
  const auto logits =
      detail::read_ids(ctx, model, words.encode(p.text), 1, o.prefill_tokens, state);
  std::vector<double> probability;
  double best = -std::numeric_limits<double>::infinity(), sum = 0;
  for (const std::int32_t id : ids) best = std::max(best, double(logits[std::size_t(id)]));
  for (const std::int32_t id : ids) {
    probability.push_back(std::exp(double(logits[std::size_t(id)]) - best));
    sum += probability.back();
  }
  if (!(sum > 0) || !std::isfinite(sum))
    fail<error>("answer_probabilities: the logits are not finite; are the weights?");
  for (double& x : probability) x /= sum;
  return probability;
}

}  // namespace mlmamba
