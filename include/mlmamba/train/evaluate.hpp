// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Answers of a model to a set of questions: pictures once, states forked, greedy, in batches.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/core/random.hpp"
#include "mlmamba/models/state_rows.hpp"
#include "mlmamba/ops/reduce.hpp"
#include "mlmamba/text/tokenizer.hpp"
#include "mlmamba/train/batch.hpp"
#include "mlmamba/train/step.hpp"
#include "mlmamba/train/vqa_score.hpp"
#include "mlmamba/train/vqa_set.hpp"

namespace mlmamba::train {

/// What the model is shown.
enum class shown : std::uint8_t {
  pictures,  ///< each question's own
  shuffled,  ///< another scene's: what can be answered without looking
  nothing,   ///< text only
};

inline std::string_view name_of(shown s) {
  constexpr std::string_view names[] = {"pictures", "shuffled", "nothing"};
  return names[static_cast<std::size_t>(s)];
}

struct answer_options {
  chat_format chat = chat_format::zephyr;
  std::vector<image_transform> towers{};
  index_t max_tokens = 96;
  index_t scenes_at_once = 16;
  shown show = shown::pictures;
  std::uint64_t seed = 1;  ///< of the shuffling
};

namespace detail {

template <engine E>
in_index<E, 2> device_ids(context_of<E>& ctx, const std::vector<std::int32_t>& ids, index_t rows) {
  const auto to = ctx.scratch.template make<std::int32_t, 2>(
      shape<2>{{rows, index_t(ids.size()) / std::max<index_t>(rows, 1)}});
  from_host(to, view<const std::int32_t, 2>(ids.data(), to.shape()));
  return to;
}

template <engine E>
std::vector<std::int32_t> best_tokens(context_of<E>& ctx, in_accum<E, 2> logits) {
  const auto best = ctx.scratch.template make<std::int32_t, 1>(shape<1>{{logits.size[0]}});
  run(ctx, ops::argmax<E, typename E::accum>{.x = logits, .index = best});
  const auto host = to_host(best);
  return {host.data(), host.data() + host.count()};
}

/// Greedy continuations of equally long prompts, each from its own row of `state`.
template <class Language>
std::vector<std::vector<std::int32_t>> continue_greedily(
    context_of<typename Language::engine_type>& ctx, const Language& lm,
    const std::vector<std::int32_t>& prompts, typename Language::state state, index_t count,
    std::int32_t eos, index_t max_tokens) {
  using E = typename Language::engine_type;
  std::vector<std::vector<std::int32_t>> out(static_cast<std::size_t>(count));
  std::vector<index_t> rows(static_cast<std::size_t>(count));  // whose row i of the state is
  std::iota(rows.begin(), rows.end(), index_t{0});
  std::vector<std::int32_t> next;
  {
    auto frame = ctx.scratch.make_frame();
    next = best_tokens<E>(
        ctx, lm.prefill(ctx, lm.embed(ctx, device_ids<E>(ctx, prompts, count)), state));
  }
  std::vector<bool> done(rows.size(), false);
  for (index_t t = 0; t < max_tokens; ++t) {
    std::vector<index_t> open;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (done[i]) continue;
      if (next[i] == eos) {
        done[i] = true;
        continue;
      }
      out[static_cast<std::size_t>(rows[i])].push_back(next[i]);
      open.push_back(static_cast<index_t>(i));
    }
    if (open.empty() || t + 1 == max_tokens) break;
    if (2 * open.size() <= rows.size()) {  // the finished ones cost as much as the others
      state = gather_rows(state, open);
      std::vector<index_t> kept;
      std::vector<std::int32_t> tokens;
      for (const index_t i : open) {
        kept.push_back(rows[static_cast<std::size_t>(i)]);
        tokens.push_back(next[static_cast<std::size_t>(i)]);
      }
      rows = std::move(kept);
      next = std::move(tokens);
      done.assign(rows.size(), false);
    }
    auto frame = ctx.scratch.make_frame();
    const in_index<E, 2> ids = device_ids<E>(ctx, next, index_t(next.size()));
    next = best_tokens<E>(ctx, lm.step(ctx, in_index<E, 1>(ids.flat()), state));
  }
  return out;
}

/// A permutation in which nobody stays, nor gets the other of his pair (2j, 2j + 1), where there
/// are enough: scenes of a pair are asked the same things with answers turned over.
inline std::vector<std::uint64_t> strangers(std::uint64_t n, std::uint64_t seed) {
  std::vector<std::uint64_t> order(n), out(n);
  std::iota(order.begin(), order.end(), std::uint64_t{0});
  random_stream r = random_stream{seed, 0, 0}.fork("strangers");
  for (std::uint64_t i = n; i > 1; --i) std::swap(order[i - 1], order[r.below(i)]);
  // In a random circle, each gets the next that is no partner of his.
  for (std::uint64_t i = 0; i < n; ++i) out[order[i]] = order[(i + 1) % n];
  for (std::uint64_t i = 0; n > 3 && i < n; ++i)
    for (std::uint64_t k = 0; out[i] / 2 == i / 2 && k < n; ++k)
      if (const std::uint64_t j = (i + 2 + k) % n;
          out[j] / 2 != i / 2 && out[i] / 2 != j / 2 && j / 2 != i / 2)
        std::swap(out[i], out[j]);
  return out;
}

}  // namespace detail

/// Answers to all questions of a set, in its order: greedy, each question asked by itself. A
/// picture is encoded once; the language model's state after it is forked for each of its
/// questions, which are then run together where their prompts are equally long.
///
/// `progress(scenes)` is called after each batch.
template <class Model>
std::vector<answered> answer_all(context_of<typename Model::engine_type>& ctx, const Model& model,
                                 const tokenizer& words, const vqa_set& set,
                                 const answer_options& o,
                                 const std::function<void(std::uint64_t)>& progress = {}) {
  using E = typename Model::engine_type;
  if (!words.eos()) fail("answers: the tokenizer has no token that ends a text; one is wanted");
  const auto& lm = language_of(model);
  std::vector<std::uint64_t> picture_of(set.scenes);
  std::iota(picture_of.begin(), picture_of.end(), std::uint64_t{0});
  if (o.show == shown::shuffled) picture_of = detail::strangers(set.scenes, o.seed);

  std::vector<answered> out;
  for (std::uint64_t first = 0; first < set.scenes; first += std::uint64_t(o.scenes_at_once)) {
    const std::uint64_t n = std::min(set.scenes - first, std::uint64_t(o.scenes_at_once));
    struct asked {
      std::size_t answer;  // where in `out`
      index_t picture;     // row of the pictures' state; -1: none
      std::vector<std::int32_t> prompt;
    };
    std::vector<asked> questions;
    micro_batch pictures;
    std::vector<image> images;
    for (std::uint64_t i = 0; i < n; ++i) {
      const vqa_scene scene = set.get(first + i);
      index_t row = -1;
      if (o.show != shown::nothing) {
        std::optional<image> picture = picture_of[first + i] == first + i
                                           ? scene.picture
                                           : set.get(picture_of[first + i]).picture;
        if (picture) {
          row = static_cast<index_t>(images.size());
          images.push_back(std::move(*picture));
        }
      }
      for (const vqa_question& q : scene.questions) {
        prompt_builder prompt(o.chat);
        const std::string text = prompt.add_turn(chat_role::human, q.text);
        questions.push_back({out.size(), row, words.encode(text)});
        out.push_back({q.type, q.kind, q.truth, ""});
      }
    }
    typename std::remove_cvref_t<decltype(lm)>::state seen = lm.make_state(0);
    if (!images.empty()) {
      auto frame = ctx.scratch.make_frame();
      for (const image_transform& t : o.towers) {
        tensor<float, 4> pixels({index_t(images.size()), 3, t.size, t.size});
        const std::size_t each = 3 * std::size_t(t.size) * std::size_t(t.size);
        for (std::size_t i = 0; i < images.size(); ++i)
          t.write(images[i], std::span<float>(pixels.data() + i * each, each));
        pictures.pictures.push_back(std::move(pixels));
      }
      seen = lm.make_state(index_t(images.size()));
      const auto pixels = detail::device_pictures<E>(ctx, pictures);
      lm.prefill(ctx, model.tokens(ctx, model.features(ctx, pixels)), seen);
    }
    std::map<std::pair<bool, std::size_t>, std::vector<const asked*>> groups;
    for (const asked& q : questions) groups[{q.picture >= 0, q.prompt.size()}].push_back(&q);
    for (const auto& [key, group] : groups) {
      std::vector<std::int32_t> prompts;
      std::vector<index_t> at;
      for (const asked* q : group) {
        prompts.insert(prompts.end(), q->prompt.begin(), q->prompt.end());
        at.push_back(q->picture);
      }
      const index_t count = static_cast<index_t>(group.size());
      auto ids = detail::continue_greedily(ctx, lm, prompts,
                                           key.first ? gather_rows(seen, at) : lm.make_state(count),
                                           count, *words.eos(), o.max_tokens);
      for (std::size_t i = 0; i < group.size(); ++i) {
        // An untrained model may say ids that only pad the vocabulary to a round size.
        std::erase_if(ids[i], [&](std::int32_t id) { return !words.contains(id); });
        out[group[i]->answer].given = words.decode(ids[i]);
      }
    }
    if (progress) progress(first + n);
  }
  return out;
}

}  // namespace mlmamba::train
