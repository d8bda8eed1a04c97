// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Rows to choose tokens from: logits of several kinds, options of every one, on any engine.
#pragma once

#include <cmath>
#include <limits>
#include <vector>

#include "mlmamba/mlmamba.hpp"
#include "mlmamba/text/sampler.hpp"

namespace mlmamba::test {

inline constexpr float inf = std::numeric_limits<float>::infinity();

/// Rows of logits with options for each; where the choices stand. On any engine.
template <class E, class X = typename E::accum>
struct rows_of {
  using memory = typename E::memory;
  tensor<X, 2, memory> x;
  tensor<sampling_rule, 1, memory> rules;
  tensor<std::uint64_t, 1, memory> draws;
  tensor<std::uint32_t, 2, memory> seen;
  tensor<std::int32_t, 1, memory> index, unfit;

  rows_of(const std::vector<std::vector<float>>& logits, const std::vector<sampling>& options,
          bool remember = true) {
    const index_t n = index_t(logits.size()), v = index_t(logits[0].size());
    tensor<X, 2> host({n, v});
    tensor<sampling_rule, 1> r({n});
    for (index_t i = 0; i < n; ++i) {
      for (index_t k = 0; k < v; ++k) host(i, k) = X(logits[std::size_t(i)][std::size_t(k)]);
      r(i) = sampling_rule(options[std::size_t(i)]);
    }
    x = tensor<X, 2, memory>({n, v});
    rules = tensor<sampling_rule, 1, memory>({n});
    from_host(x.view(), std::as_const(host).view());
    from_host(rules.view(), std::as_const(r).view());
    draws = tensor<std::uint64_t, 1, memory>({n});
    if (remember) seen = tensor<std::uint32_t, 2, memory>({n, (v + 31) / 32});
    index = unfit = tensor<std::int32_t, 1, memory>({n});
  }
  std::vector<std::int32_t> choose(context_of<E>& ctx) {
    run(ctx,
        ops::sample<E, X>{
            .x = x, .rules = rules, .draws = draws, .seen = seen, .index = index, .unfit = unfit});
    return read(index);
  }
  template <class T, int R>
  static std::vector<T> read(const tensor<T, R, memory>& t) {
    if (!t) return {};
    const auto h = to_host(t.view());
    return {h.data(), h.data() + h.count()};
  }
};

/// Logits of one of several kinds.
inline std::vector<float> logits_of(int kind, index_t n, random_stream& r) {
  std::vector<float> z(std::size_t(n), 0.0f);
  for (float& y : z) switch (kind) {
      case 0:  // as of a language model
        y = float(3 * r.normal() - 5);
        break;
      case 1:  // of few values: many ties, and zeros of both signs
        y = float(r.below(4)) * (r.below(2) ? 0.25f : -0.25f);
        break;
      case 2:  // all equal
        y = -1.5f;
        break;
      case 3:  // most of them never
        y = r.below(8) ? -inf : float(r.normal());
        break;
      case 4:  // close together: one bin of a kernel's first look
        y = float(40 + 1e-3 * r.normal());
        break;
      case 5:  // a few hundred times the same, and what is next to it
        y = r.below(3) ? 2.0f : float(2 + 1e-6 * double(r.below(5)));
        break;
      default:  // far apart
        y = float(std::exp(20 * r.normal()) * (r.below(2) ? 1 : -1));
    }
  z[r.below(std::uint64_t(n))] = 2.5f;
  return z;
}
inline sampling options_of(random_stream& r, index_t n) {
  sampling o;
  const double temperatures[] = {0.3, 0.8, 1, 1.7, 30, 1e-3, 1e300, 0};
  o.temperature = temperatures[r.below(8)];
  if (r.below(2)) o.top_k = std::int32_t(1 + r.below(r.below(2) ? 60 : 2 * std::uint64_t(n)));
  const double masses[] = {0, 1, 0.5, 0.9, 0.99, 1e-9};
  o.top_p = r.below(2) ? masses[r.below(6)] : r.uniform();
  const double shares[] = {0, 0, 0.05, 0.5, 1};
  o.min_p = shares[r.below(5)];
  if (r.below(2)) o.repetition_penalty = r.below(2) ? 1.3 : 0.7;
  if (r.below(3) == 0) o.vocabulary = std::int32_t(1 + r.below(std::uint64_t(n)));
  o.seed = r.bits();
  return o;
}

inline constexpr index_t widths[] = {1, 2, 5, 31, 32, 33, 100, 257, 1000, 2049, 5003, 9001, 70001};

}  // namespace mlmamba::test
