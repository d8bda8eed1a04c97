// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Text from a model, piece by piece: prompts with or without pictures, greedy or drawn.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/text/detail/stepper.hpp"
#include "mlmamba/text/sampler.hpp"
#include "mlmamba/text/stream_decoder.hpp"
#include "mlmamba/text/text_model.hpp"
#include "mlmamba/text/tokenizer.hpp"

namespace mlmamba {

/// How text is made. Names are those of the original's `generate`, but for:
///
///   do_sample             a temperature above 0. The original's do_sample alone is greedy, since
///                         its top_k stays 1: temperature 1 with top_k 1 is the same here
///   min_p                 relative to the most probable token, as published; the original takes
///                         the logit of token 0
///   teacher_outputs       `forced`, which begins after the prompt
///   eos_token_id          `stop`, besides the tokenizer's own
///   use_cache             always: a picture is read once, then each token once
///
/// No prompt is cut. The original cuts the end of one of more than 2048 tokens, and with it the
/// header of the answer; the state does not grow, so here the whole prompt is read.
struct generate_options {
  index_t max_new_tokens = 256;  // the token that ends the text counts
  index_t max_length = 0;        // of the prompt's text and the new tokens, but one is always made;
                                 // 0: max_new_tokens alone counts
  double temperature = 0;        // these six: see `sampling`; 0 is greedy
  std::int32_t top_k = 0;
  double top_p = 1;
  double min_p = 0;
  double repetition_penalty = 1;  // of tokens of the prompt and of the text so far
  std::uint64_t seed = 0;
  bool stop_at_end_of_text = true;     // at the tokenizer's end token
  std::vector<std::int32_t> stop{};    // end at these tokens too
  std::vector<std::int32_t> forced{};  // the first tokens, whatever the model says
  std::int32_t vocabulary = 0;         // only tokens below this; 0: all that the tokenizer has
  bool keep_scores = false;            // see generation::scores
  bool keep_special = false;           // write special tokens as the tokenizer spells them
  index_t prefill_tokens = 1024;       // longer prompts are read in parts of this many tokens

  void check() const {
    if (max_new_tokens < 0)
      fail<error>("generate: max_new_tokens is ", max_new_tokens, "; 0 or more is wanted");
    if (max_length < 0)
      fail<error>("generate: max_length is ", max_length, "; 0 (no limit) or more is wanted");
    if (vocabulary < 0)
      fail<error>("generate: vocabulary is ", vocabulary, "; 0 (all) or more is wanted");
    if (prefill_tokens < 1)
      fail<error>("generate: prefill_tokens is ", prefill_tokens, "; 1 or more is wanted");
    sampling_for(1, 1).check();
  }
  void check_forced(const tokenizer& words, index_t logits) const {
    for (const std::int32_t id : forced)
      if (!words.contains(id) || id >= logits)
        fail<error>("generate: the forced tokens have ", id, "; one of 0 to ",
                    std::min<index_t>(words.size(), logits) - 1, " is wanted");
  }
  /// New tokens after a prompt of so many.
  index_t most_after(std::size_t prompt) const {
    if (max_length == 0) return max_new_tokens;
    return std::min(max_new_tokens, std::max<index_t>(1, max_length - index_t(prompt)));
  }
  /// For a tokenizer of this size: logits above it are padding of the model's matrices.
  sampling sampling_for(std::int32_t words, index_t logits) const {
    const index_t most = vocabulary > 0 ? std::min(vocabulary, words) : words;
    return {temperature,
            top_k,
            top_p,
            min_p,
            repetition_penalty,
            seed,
            std::int32_t(std::min(most, logits))};
  }
};

/// Text that is made while it is read: an input range of pieces, each a string_view of whole UTF-8
/// characters that is valid until the next piece is asked for.
///
///   for (std::string_view piece : generate(ctx, model, words, "Once")) std::cout << piece;
///
/// It refers to the context and the model, which must outlive it. Errors of the model or the
/// sampler (weights that are not finite) come out of the increment.
template <text_model Model>
class generation {
 public:
  using engine_type = typename Model::engine_type;
  using E = engine_type;
  using state_type = typename Model::state;

  /// From `state`, which has read the prompt `ids` with these logits after it. With `back` the
  /// state stands there, and has read everything when the text has ended.
  generation(context_of<E>& ctx, const Model& model, tokenizer words, state_type state,
             state_type* back, std::vector<float> logits, std::vector<std::int32_t> ids,
             const generate_options& o)
      : ctx_(&ctx),
        model_(&model),
        words_(words),
        decoder_(std::move(words), !o.keep_special),
        options_(o),
        sampler_(o.sampling_for(words_.size(), model.vocabulary())),
        own_(std::move(state)),
        back_(back),
        logits_(std::move(logits)),
        seen_(std::move(ids)),
        prompt_tokens_(seen_.size()) {
    if (o.stop_at_end_of_text && words_.eos()) options_.stop.push_back(*words_.eos());
    o.check_forced(words_, model.vocabulary());
    most_ = o.most_after(prompt_tokens_);
    done_ = most_ == 0;
  }

  class iterator {
   public:
    using value_type = std::string_view;
    using difference_type = std::ptrdiff_t;
    using iterator_concept = std::input_iterator_tag;
    iterator() = default;
    explicit iterator(generation* g) : g_(g) {}
    std::string_view operator*() const { return g_->piece_; }
    iterator& operator++() {
      g_->advance();
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const iterator& i, std::default_sentinel_t) { return i.over(); }

   private:
    bool over() const { return g_->over_; }
    generation* g_ = nullptr;
  };
  iterator begin() {
    if (!begun_) advance();
    return iterator(this);
  }
  std::default_sentinel_t end() const { return {}; }

  /// What is left, as one string.
  std::string rest() {
    std::string all;
    for (std::string_view piece : *this) all += piece;
    return all;
  }

  /// The tokens so far, that which ended the text included.
  std::span<const std::int32_t> tokens() const { return std::span(seen_).subspan(prompt_tokens_); }
  std::size_t prompt_tokens() const { return prompt_tokens_; }  ///< of text
  /// Did the text end by itself (not by max_new_tokens)?
  bool stopped() const { return stopped_; }
  /// With keep_scores: for each of tokens() the logits that it was chosen from, as the model gave
  /// them: before penalty, temperature and limits, cut to `vocabulary` if that is given.
  const std::vector<std::vector<float>>& scores() const { return scores_; }
  /// The state after the prompt and all of tokens().
  const state_type& state() {
    settle();
    return live();
  }

  /// The next token, for those who want no text; nothing when it has ended.
  std::optional<std::int32_t> next_token() {
    if (done_) return std::nullopt;
    settle();
    const std::size_t n = tokens().size();
    if (options_.keep_scores) {
      const auto all = std::ptrdiff_t(logits_.size());
      const auto some = options_.vocabulary > 0 ? std::ptrdiff_t(options_.vocabulary) : all;
      scores_.emplace_back(logits_.begin(), logits_.begin() + std::min(some, all));
    }
    const std::int32_t id = n < options_.forced.size() ? options_.forced[n]
                            : steps_.chooses()         ? steps_.choices()[0]
                                                       : sampler_(logits_, seen_);
    seen_.push_back(id);
    pending_ = true;
    done_ = index_t(n) + 1 >= most_;
    if (std::find(options_.stop.begin(), options_.stop.end(), id) != options_.stop.end()) {
      done_ = stopped_ = true;
      return std::nullopt;
    }
    // The state has to read it anyway: the device does while the text is looked at.
    if (context_of<E>::asynchronous && !done_) settle();
    return id;
  }

 private:
  state_type& live() { return back_ ? *back_ : own_; }

  /// Has the state read the last token.
  void settle() {
    if (!pending_) return;
    // What is chosen next is chosen where the model runs, if nobody wants to see the logits.
    if (!steps_.chooses() && !options_.keep_scores && tokens().size() >= options_.forced.size()) {
      const detail::text_row row{sampler_, seen_};
      steps_ = detail::stepper<Model>(std::span(&row, 1), model_->vocabulary());
    }
    steps_.step(*ctx_, *model_, std::span(&seen_.back(), 1), live());
    if (!steps_.chooses()) logits_ = steps_.logits();
    pending_ = false;
  }
  void advance() {
    begun_ = true;
    piece_.clear();
    while (piece_.empty() && !over_) {
      if (const auto id = next_token()) {
        piece_ = decoder_.push(*id);
      } else if (!flushed_) {
        if (back_) settle();
        piece_ = decoder_.finish();
        flushed_ = true;
      } else {
        over_ = true;
      }
    }
  }

  context_of<E>* ctx_;
  const Model* model_;
  tokenizer words_;
  stream_decoder decoder_;
  generate_options options_;
  sampler sampler_;
  detail::stepper<Model> steps_{1, false};
  state_type own_;
  state_type* back_;
  std::vector<float> logits_;
  std::vector<std::int32_t> seen_;
  std::size_t prompt_tokens_;
  index_t most_ = 0;  // new tokens
  std::vector<std::vector<float>> scores_;
  std::string piece_;
  bool begun_ = false, pending_ = false, done_ = false, flushed_ = false, over_ = false;
  bool stopped_ = false;
};

/// Text after a prompt.
///
/// Errors    error for options out of range, a picture for a model that can't see, a tokenizer of
///           another model; shape_error for an empty prompt
template <text_model Model>
generation<Model> generate(context_of<typename Model::engine_type>& ctx, const Model& model,
                           const tokenizer& words, const prompt& p,
                           const generate_options& o = {}) {
  o.check();
  auto state = model.make_state(1);
  std::vector<std::int32_t> ids = words.encode(p.text);
  detail::read_pictures(ctx, model, p.pixels, 1, state);
  auto logits = detail::read_ids(ctx, model, ids, 1, o.prefill_tokens, state);
  return {ctx, model, words, std::move(state), nullptr, std::move(logits), std::move(ids), o};
}
template <text_model Model>
generation<Model> generate(context_of<typename Model::engine_type>& ctx, const Model& model,
                           const tokenizer& words, std::string_view text,
                           const generate_options& o = {}) {
  return generate(ctx, model, words, prompt{.text = std::string(text)}, o);
}

/// The same after what `state` (one row) has read before: the next turn of a chat costs its own
/// tokens only. When the text has ended, the state has read it whole. Where options or prompt are
/// refused it is as it was.
template <text_model Model>
generation<Model> generate_after(context_of<typename Model::engine_type>& ctx, const Model& model,
                                 const tokenizer& words, typename Model::state& state,
                                 const prompt& p, const generate_options& o = {}) {
  o.check();
  o.check_forced(words, model.vocabulary());
  std::vector<std::int32_t> ids = words.encode(p.text);
  detail::check_ids(model, ids, 1);
  detail::read_pictures(ctx, model, p.pixels, 1, state);
  auto logits = detail::read_ids(ctx, model, ids, 1, o.prefill_tokens, state);
  return {ctx, model, words, {}, &state, std::move(logits), std::move(ids), o};
}

}  // namespace mlmamba
