// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Sampling: which tokens each option leaves, how often they are drawn, and what is refused.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "mlmamba/text/sampler.hpp"

using namespace mlmamba;

namespace {

constexpr float inf = std::numeric_limits<float>::infinity();

std::map<std::int32_t, int> frequencies(sampling options, const std::vector<float>& logits,
                                        int draws = 20000) {
  options.seed = 5;
  sampler s(options);
  std::map<std::int32_t, int> seen;
  for (int i = 0; i < draws; ++i) ++seen[s(logits)];
  return seen;
}
std::vector<std::int32_t> survivors(sampling options, const std::vector<float>& logits) {
  std::vector<std::int32_t> ids;
  for (const auto& [id, count] : frequencies(options, logits, 4000)) ids.push_back(id);
  return ids;
}
std::vector<float> logits_of(std::vector<double> probabilities) {
  std::vector<float> z;
  for (const double p : probabilities) z.push_back(static_cast<float>(std::log(p)));
  return z;
}
using ids_t = std::vector<std::int32_t>;

}  // namespace

TEST_SUITE("sampler_test") {
  TEST_CASE("greedy takes the largest, of equals the lowest id") {
    sampler s;
    CHECK(s(std::vector<float>{1, 3, 2}) == 1);
    CHECK(s(std::vector<float>{1, 3, 3}) == 1);
    CHECK(s(std::vector<float>{-inf, -5, -inf}) == 1);
    CHECK(s(std::vector<float>{7}) == 0);
    CHECK(s.draws() == 0);
    sampler k({.temperature = 1, .top_k = 1});
    CHECK(k(std::vector<float>{2, 2, 1}) == 0);
  }

  TEST_CASE("frequencies are the softmax at the temperature") {
    const std::vector<float> z{0.0f, 1.0f, -1.0f, 2.0f, -inf};
    for (const double t : {0.5, 1.0, 3.0}) {
      double sum = 0;
      for (const float x : z) sum += std::exp(x / t);
      auto seen = frequencies({.temperature = t}, z);
      CHECK(seen.count(4) == 0);
      for (std::int32_t i = 0; i < 4; ++i) {
        const double p = std::exp(z[static_cast<std::size_t>(i)] / t) / sum;
        // Five standard deviations of a binomial count: the seed is fixed, so this never flickers.
        CHECK(std::abs(seen[i] - 20000 * p) <= 5 * std::sqrt(20000 * p * (1 - p)));
      }
    }
  }

  TEST_CASE("top-k keeps k, ties by lowest id") {
    const std::vector<float> z{1, 2, 2, 2, 0};
    CHECK(survivors({.temperature = 1, .top_k = 2}, z) == ids_t{1, 2});
    CHECK(survivors({.temperature = 1, .top_k = 4}, z) == ids_t{0, 1, 2, 3});
    CHECK(survivors({.temperature = 5, .top_k = 99}, z) == ids_t{0, 1, 2, 3, 4});
  }

  TEST_CASE("top-p keeps the most probable until their mass reaches p") {
    const auto z = logits_of({0.15, 0.5, 0.05, 0.3});
    CHECK(survivors({.temperature = 1, .top_p = 0.4}, z) == ids_t{1});
    CHECK(survivors({.temperature = 1, .top_p = 0.6}, z) == ids_t{1, 3});
    CHECK(survivors({.temperature = 1, .top_p = 0.9}, z) == ids_t{0, 1, 3});
    CHECK(survivors({.temperature = 1, .top_p = 0.97}, z) == ids_t{0, 1, 2, 3});
    CHECK(survivors({.temperature = 1, .top_p = 0}, z).size() == 4);
    CHECK(survivors({.temperature = 1, .top_p = 1}, z).size() == 4);
    CHECK(survivors({.temperature = 1, .top_p = 1e-9}, z) == ids_t{1});
    CHECK(survivors({.temperature = 1, .top_p = 0.5}, {0, 0, 0, 0}) == ids_t{0, 1});
    // After top-k the mass is that of the survivors: 0.5 / 0.8 < 0.7.
    CHECK(survivors({.temperature = 1, .top_k = 2, .top_p = 0.6}, z) == ids_t{1});
    CHECK(survivors({.temperature = 1, .top_k = 2, .top_p = 0.7}, z) == ids_t{1, 3});
  }

  TEST_CASE("min-p compares probabilities with the best, whatever token that is") {
    const auto z = logits_of({0.01, 0.5, 0.2, 0.29});
    CHECK(survivors({.temperature = 1, .min_p = 0.5}, z) == ids_t{1, 3});
    CHECK(survivors({.temperature = 1, .min_p = 0.3}, z) == ids_t{1, 2, 3});
    CHECK(survivors({.temperature = 1, .min_p = 0.01}, z) == ids_t{0, 1, 2, 3});
    CHECK(survivors({.temperature = 1, .min_p = 1}, z) == ids_t{1});
    CHECK(survivors({.temperature = 9, .min_p = 0.5}, z) == ids_t{1, 3});  // before the temperature
    std::vector<float> shifted = z;
    for (float& x : shifted) x -= 100;  // logits as such mean nothing
    CHECK(survivors({.temperature = 1, .min_p = 0.3}, shifted) == ids_t{1, 2, 3});
  }

  TEST_CASE("the repetition penalty divides positive and multiplies negative logits, once") {
    sampler s({.repetition_penalty = 2});
    const std::vector<float> up{3, 2, 1}, down{-1, -1.5f, -3};
    CHECK(s(up, ids_t{0}) == 1);
    CHECK(s(up, ids_t{0, 0, 0}) == 1);
    CHECK(s(up, ids_t{0, 1}) == 0);
    CHECK(s(down, ids_t{0}) == 1);
    CHECK(s(down, ids_t{0, 1}) == 0);
    CHECK_THROWS_AS(s(up, ids_t{3}), error);
    CHECK_THROWS_AS(s(up, ids_t{-1}), error);
    CHECK(sampler({.repetition_penalty = 2, .vocabulary = 2})(up, ids_t{2}) == 0);
  }

  TEST_CASE("the vocabulary bounds the choice") {
    sampler s({.vocabulary = 2});
    CHECK(s(std::vector<float>{1, 2, 9}) == 1);
    CHECK(survivors({.temperature = 1, .vocabulary = 2}, {1, 1, 50}) == ids_t{0, 1});
    CHECK(s(std::vector<float>{1, 2, std::nanf("")}) == 1);  // what is beyond is not looked at
    CHECK_THROWS_AS(s(std::vector<float>{1}), shape_error);
  }

  TEST_CASE("a seed is a sequence; a copy or a resume goes on with it") {
    const std::vector<float> z(100, 0.0f);
    const auto run = [&](sampler s, int n) {
      std::vector<std::int32_t> ids;
      for (int i = 0; i < n; ++i) ids.push_back(s(z));
      return ids;
    };
    const sampling options{.temperature = 1, .seed = 11};
    const auto want = run(sampler(options), 40);
    CHECK(run(sampler(options), 40) == want);
    CHECK(run(sampler({.temperature = 1, .seed = 12}), 40) != want);
    sampler first(options);
    for (int i = 0; i < 15; ++i) first(z);
    const ids_t rest(want.begin() + 15, want.end());
    CHECK(run(first, 25) == rest);
    sampler resumed(options);
    resumed.resume_at(first.draws());
    CHECK(run(resumed, 25) == rest);
  }

  TEST_CASE("bad logits and bad options are refused") {
    sampler s;
    CHECK_THROWS_AS(s(std::vector<float>{1, std::nanf(""), 2}), error);
    CHECK_THROWS_AS(s(std::vector<float>{1, inf}), error);
    CHECK_THROWS_AS(s(std::vector<float>{-inf, -inf}), error);
    CHECK_THROWS_AS(s(std::vector<float>{}), shape_error);
    const double nan = std::nan("");
    CHECK_THROWS_AS(sampler({.temperature = -1}), error);
    CHECK_THROWS_AS(sampler({.temperature = nan}), error);
    CHECK_THROWS_AS(sampler({.temperature = INFINITY}), error);
    CHECK_THROWS_AS(sampler({.top_k = -1}), error);
    CHECK_THROWS_AS(sampler({.top_p = 1.5}), error);
    CHECK_THROWS_AS(sampler({.top_p = nan}), error);
    CHECK_THROWS_AS(sampler({.min_p = -0.1}), error);
    CHECK_THROWS_AS(sampler({.repetition_penalty = 0}), error);
    CHECK_THROWS_AS(sampler({.repetition_penalty = nan}), error);
    CHECK_THROWS_AS(sampler({.vocabulary = -2}), error);
  }

  TEST_CASE("extreme but finite logits do not break the arithmetic") {
    const float big = std::numeric_limits<float>::max();
    for (const double t : {1e-300, 1e-3, 1.0, 1e300}) {
      sampler s({.temperature = t, .top_p = 0.9});
      const auto id = s(std::vector<float>{big, -big, 0});
      CHECK(id >= 0);
      CHECK(id < 3);
      if (t <= 1) CHECK(id == 0);
    }
  }
}
