// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The next token from logits: greedy, temperature, top-k, top-p, min-p, repetition penalty.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "mlmamba/core/error.hpp"
#include "mlmamba/core/random.hpp"

namespace mlmamba {

/// How the next token is chosen. The default is greedy; a temperature above 0 draws.
struct sampling {
  double temperature = 0;         // divides the logits; 0: the most probable token
  std::int32_t top_k = 0;         // only the k most probable; 0: all; 1: greedy
  double top_p = 1;               // the most probable until their mass reaches p; 0 and 1: all
  double min_p = 0;               // only those at least min_p times as probable as the best; 0: all
  double repetition_penalty = 1;  // of tokens seen: logit < 0 times, else divided by this; 1: none
  std::uint64_t seed = 0;
  std::int32_t vocabulary = 0;  // only tokens below this (padded logits have more); 0: all

  /// Errors: error that names the option, its value and its range.
  void check() const {
    const auto refuse = [](const char* option, auto value, const char* wanted) {
      fail<error>("sampling: ", option, " is ", value, "; ", wanted, " is wanted");
    };
    if (!(temperature >= 0) || std::isinf(temperature))
      refuse("temperature", temperature, "a finite number, 0 or more,");
    if (top_k < 0) refuse("top_k", top_k, "0 (all) or more");
    if (!(top_p >= 0 && top_p <= 1)) refuse("top_p", top_p, "0 to 1");
    if (!(min_p >= 0 && min_p <= 1)) refuse("min_p", min_p, "0 to 1");
    if (!(repetition_penalty >= 0.001 && repetition_penalty <= 1000))
      refuse("repetition_penalty", repetition_penalty, "0.001 to 1000");
    if (vocabulary < 0) refuse("vocabulary", vocabulary, "0 (all) or more");
  }
  bool greedy() const { return temperature == 0 || top_k == 1; }
};

/// Chooses tokens; a value whose whole state are the options and the place in the random stream.
///
///   z = logits, penalised where seen -> the top k -> p_i >= min_p max p, p = softmax(z)
///     -> z / temperature -> sorted by falling p, those with less than top_p before them
///     -> softmax -> one uniform draw, walked in order of id
///
/// Ties      the lowest id, in greedy choice and at each limit
/// Numerics  softmax in double. The same seed and logits give the same tokens on every machine on
///           which exp is the same
/// Errors    error if a logit is NaN or +infinity, or all are -infinity (-infinity is "never");
///           shape_error if there are no logits, or fewer than `vocabulary`
/// Source    Keskar et al. 2019, arXiv:1909.05858 (penalty); Holtzman et al. 2020, arXiv:1904.09751
///           (top-p); Nguyen et al. 2024, arXiv:2407.01082 (min-p, here before the temperature)
class sampler {
 public:
  explicit sampler(sampling options = {}) : options_(options), random_{options.seed, 0, 0} {
    options_.check();
  }

  const sampling& options() const { return options_; }
  /// Draws so far; with the options, all there is to save for an exact resume.
  std::uint64_t draws() const { return random_.counter; }
  void resume_at(std::uint64_t draws) { random_.counter = draws; }

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
    candidates_.resize(n);
    for (std::size_t i = 0; i < n; ++i) {
      if (std::isnan(logits[i]) || logits[i] == std::numeric_limits<float>::infinity())
        fail<error>("sampler: the logit of token ", i, " is ", logits[i],
                    "; finite numbers are wanted (are the weights finite?)");
      candidates_[i] = {logits[i], static_cast<std::int32_t>(i)};
    }
    penalise(seen, logits.size());
    const candidate best = *std::max_element(candidates_.begin(), candidates_.end(), worse);
    if (best.z == -std::numeric_limits<double>::infinity())
      fail<error>("sampler: the logits of all ", n, " tokens are -infinity");
    if (options_.greedy()) return best.id;
    keep_top_k();
    keep_min_p(best.z);
    to_probabilities(best.z);
    keep_top_p();
    return draw();
  }

 private:
  struct candidate {
    double z;  // logit, later probability up to a factor
    std::int32_t id;
  };
  static bool worse(const candidate& a, const candidate& b) {
    return a.z != b.z ? a.z < b.z : a.id > b.id;
  }
  static bool better(const candidate& a, const candidate& b) { return worse(b, a); }

  void penalise(std::span<const std::int32_t> seen, std::size_t all) {
    if (options_.repetition_penalty == 1) return;
    penalised_.assign(candidates_.size(), false);
    for (const std::int32_t id : seen) {
      if (id < 0 || std::cmp_greater_equal(id, all))
        fail<error>("sampler: token ", id, " was seen; one of ", all, " is wanted");
      const auto at = static_cast<std::size_t>(id);
      if (at >= candidates_.size() || penalised_[at]) continue;
      penalised_[at] = true;
      double& z = candidates_[at].z;
      z = z < 0 ? z * options_.repetition_penalty : z / options_.repetition_penalty;
    }
  }
  void keep_top_k() {
    const auto k = static_cast<std::size_t>(options_.top_k);
    if (k == 0 || k >= candidates_.size()) return;
    std::nth_element(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(k) - 1,
                     candidates_.end(), better);
    candidates_.resize(k);
  }
  void keep_min_p(double best) {
    if (options_.min_p == 0) return;
    const double least = best + std::log(options_.min_p);  // p_i / p_max = exp(z_i - best)
    std::erase_if(candidates_, [&](const candidate& c) { return c.z < least; });
  }
  void to_probabilities(double best) {
    for (candidate& c : candidates_) c.z = std::exp((c.z - best) / options_.temperature);
  }
  double mass() {
    // In order of id, so that the sum does not depend on how the survivors were found.
    std::sort(candidates_.begin(), candidates_.end(),
              [](const candidate& a, const candidate& b) { return a.id < b.id; });
    double sum = 0;
    for (const candidate& c : candidates_) sum += c.z;
    return sum;
  }
  void keep_top_p() {
    if (options_.top_p <= 0 || options_.top_p >= 1) return;
    const double wanted = options_.top_p * mass();
    // A heap gives the best ones without sorting the rest of the vocabulary.
    std::make_heap(candidates_.begin(), candidates_.end(), worse);
    double sum = 0;
    auto end = candidates_.end();
    while (sum < wanted && end != candidates_.begin()) {
      std::pop_heap(candidates_.begin(), end, worse);
      sum += (--end)->z;
    }
    candidates_.erase(candidates_.begin(), end);
  }
  std::int32_t draw() {
    double left = random_.uniform() * mass();
    std::int32_t last = candidates_.front().id;
    for (const candidate& c : candidates_) {
      if (c.z == 0) continue;  // exp underflowed, or the logit is -infinity
      last = c.id;
      if (left < c.z) return c.id;
      left -= c.z;
    }
    return last;  // rounding used up the mass
  }

  sampling options_;
  random_stream random_;
  std::vector<candidate> candidates_;  // kept between calls: no allocation per token
  std::vector<bool> penalised_;
};

}  // namespace mlmamba
