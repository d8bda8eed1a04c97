// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Many prompts at once.
#pragma once

#include "mlmamba/models/state_rows.hpp"
#include "mlmamba/text/detail/read_prompts.hpp"
#include "mlmamba/text/generate.hpp"

namespace mlmamba {

/// Ids after each prompt, which follows what row i of `before` has read: a picture that is looked
/// at once for all its questions, or nothing. Prompts of equal length are read together, then all
/// rows are stepped together; a row ends by itself. Row i is what a generation with seed `seed + i`
/// gives, bit for bit where the backend's rows are independent.
///
/// Result    the new ids of each prompt, without the token that ended it
/// Errors    those of generate; error for forced tokens and scores, which only one text has
template <text_model Model>
std::vector<std::vector<std::int32_t>> generate_batch_after(
    context_of<typename Model::engine_type>& ctx, const Model& model, const tokenizer& words,
    typename Model::state before, std::span<const std::vector<std::int32_t>> prompts,
    const generate_options& o = {}) {
  using state_type = typename Model::state;
  o.check();
  if (!o.forced.empty() || o.keep_scores)
    fail<error>(
        "generate_batch: forced tokens or scores are asked for; generate has them, one prompt "
        "at a time");
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
    std::vector<state_type> states;
    detail::read_prompts(
        ctx, model, prompts, o.prefill_tokens, before,
        [&](const std::vector<index_t>& at, const std::vector<float>& y, state_type&& after) {
          for (const index_t i : at) {
            sampling s = o.sampling_for(words.size(), model.vocabulary());
            s.seed += std::uint64_t(i);
            rows.push_back({std::size_t(i), sampler(s), prompts[std::size_t(i)]});
          }
          logits.insert(logits.end(), y.begin(), y.end());
          states.push_back(std::move(after));
        });
    before = {};  // one copy of all states less
    state = join_rows(std::span<const state_type>(states));
  }

  const std::size_t v = std::size_t(model.vocabulary());
  detail::stepper<Model> steps;
  std::span<const std::int32_t> chosen;  // where the model runs; at first there are logits
  for (;;) {
    std::vector<index_t> open;
    std::vector<std::int32_t> next;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      row& r = rows[i];
      if (!r.done) {
        if (!chosen.empty()) r.draw.skip();
        const std::int32_t id =
            chosen.empty() ? r.draw(std::span(logits).subspan(i * v, v), r.seen) : chosen[i];
        r.seen.push_back(id);
        r.done = std::find(stop.begin(), stop.end(), id) != stop.end();
        if (!r.done) made[r.of].push_back(id);
        r.done = r.done || index_t(made[r.of].size()) >= o.most_after(prompts[r.of].size());
        if (!r.done) open.push_back(index_t(i));
      }
      next.push_back(chosen.empty() ? r.seen.back() : chosen[i]);  // of an ended row: whatever
    }
    if (open.empty()) return made;
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
    if (steps.rows() != index_t(rows.size())) {
      std::vector<detail::text_row> how;
      for (const row& r : rows) how.push_back({r.draw, r.seen});
      steps = detail::stepper<Model>(how, model.vocabulary());
    }
    steps.step(ctx, model, next, state);
    chosen = steps.choices();
  }
}

/// The same from pictures: `pixels` are (B, 3, S, S) per tower, one picture for each prompt, or
/// none.
template <text_model Model>
std::vector<std::vector<std::int32_t>> generate_batch(
    context_of<typename Model::engine_type>& ctx, const Model& model, const tokenizer& words,
    std::span<const std::vector<std::int32_t>> prompts, const generate_options& o = {},
    const std::vector<tensor<float, 4>>& pixels = {}) {
  auto before = model.make_state(index_t(prompts.size()));
  detail::read_pictures(ctx, model, pixels, index_t(prompts.size()), before);
  return generate_batch_after(ctx, model, words, std::move(before), prompts, o);
}

}  // namespace mlmamba
