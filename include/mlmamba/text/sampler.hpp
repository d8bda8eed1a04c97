// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The next token from logits on the host: greedy, temperature, top-k, top-p, min-p, repetition
// penalty.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "mlmamba/core/choose_token.hpp"

namespace mlmamba {

/// Chooses tokens as ops::sample does; a value whose whole state are the options and the place in
/// the random stream.
///
/// Errors    error if a logit is NaN or +infinity, or all are -infinity (-infinity is "never");
///           shape_error if there are no logits, or fewer than `vocabulary`
class sampler {
 public:
  explicit sampler(sampling options = {}) : options_(options) {
    options_.check();
    rule_ = sampling_rule(options_);
  }

  const sampling& options() const { return options_; }
  /// Draws so far; with the options, all there is to save for an exact resume.
  std::uint64_t draws() const { return draws_; }
  void resume_at(std::uint64_t draws) { draws_ = draws; }
  /// Counts a choice that was made elsewhere.
  void skip() { draws_ += options_.greedy() ? 0 : 1; }

  /// The next token. `seen` are the ids so far, for the repetition penalty.
  std::int32_t operator()(std::span<const float> logits, std::span<const std::int32_t> seen = {}) {
    std::size_t n = logits.size();
    if (options_.vocabulary > 0) {
      if (std::cmp_less(n, options_.vocabulary))
        fail<shape_error>("sampler: ", n, " logits; at least the vocabulary of ",
                          options_.vocabulary, " is wanted");
      n = static_cast<std::size_t>(options_.vocabulary);
    }
    if (n == 0 || std::cmp_greater(n, std::numeric_limits<std::int32_t>::max()))
      fail<shape_error>("sampler: ", n, " logits; 1 to 2^31 - 1 are wanted");
    remember(seen, n, logits.size());
    candidates_.resize(n);
    const chosen_token chosen = choose_token(
        rule_, index_t(n), [&](index_t i) { return logits[std::size_t(i)]; },
        [&](index_t i) { return seen_[std::size_t(i)]; }, draws_, candidates_.data());
    if (chosen.unfit < 0) return chosen.id;
    const float bad = logits[std::size_t(chosen.unfit)];
    if (bad == -std::numeric_limits<float>::infinity())
      fail<error>("sampler: the logits of all ", n, " tokens are -infinity");
    fail<error>("sampler: the logit of token ", chosen.unfit, " is ", bad,
                "; finite numbers are wanted (are the weights finite?)");
  }

 private:
  void remember(std::span<const std::int32_t> seen, std::size_t n, std::size_t all) {
    if (!options_.remembers()) return;
    seen_.assign(n, false);
    for (const std::int32_t id : seen) {
      if (id < 0 || std::cmp_greater_equal(id, all))
        fail<error>("sampler: token ", id, " was seen; one of ", all, " is wanted");
      if (std::cmp_less(id, n)) seen_[static_cast<std::size_t>(id)] = true;
    }
  }

  sampling options_;
  sampling_rule rule_;
  std::uint64_t draws_ = 0;
  std::vector<token_candidate> candidates_;  // kept between calls: no allocation per token
  std::vector<bool> seen_;
};

}  // namespace mlmamba
