// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// How near a model comes to another one, token by token: divergence, agreement, drift of the state.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>
#include <vector>

#include "mlmamba/models/mamba_lm.hpp"

namespace mlmamba {

/// Of one model against a reference that read the same tokens.
struct fidelity {
  struct drift_point {
    index_t step;
    double error;  ///< |state - reference's| / |reference's|, over all recurrent states
  };
  index_t steps = 0;
  double mean_kl = 0;  ///< of the next token's probabilities, in nats: KL(reference || model)
  double worst_kl = 0;
  double agreement = 0;  ///< share of steps at which both find the same token the likeliest
  std::vector<drift_point> drift;
};

namespace detail {

/// Logarithms of the probabilities.
template <class Logits>
std::vector<double> log_probabilities(const Logits& logits, index_t n) {
  std::vector<double> v;
  for (index_t i = 0; i < n; ++i) v.push_back(double(logits(0, i)));
  const double most = *std::max_element(v.begin(), v.end());
  double sum = 0;
  for (double x : v) sum += std::exp(x - most);
  for (double& x : v) x -= most + std::log(sum);
  return v;
}

/// |a - b| / |b| over all leaves of two states, perhaps of other types. Infinite if one has no
/// number.
template <class A, class B>
double state_error(A& a, B& b) {
  std::vector<double> wanted;
  nn::for_each_leaf(b, [&](const std::string&, auto& t) {
    for (index_t i = 0; i < t.count(); ++i) wanted.push_back(double(t.data()[i]));
  });
  double error = 0, norm = 0;
  auto want = wanted.begin();
  nn::for_each_leaf(a, [&](const std::string&, auto& t) {
    for (index_t i = 0; i < t.count(); ++i, ++want) {
      const double e = double(t.data()[i]) - *want;
      error += e * e, norm += *want * *want;
    }
  });
  return norm > 0 ? std::sqrt(error / norm) : std::sqrt(error);
}

inline std::size_t sampled(const std::vector<double>& log_p, double u) {
  for (std::size_t i = 0; i < log_p.size(); ++i)
    if ((u -= std::exp(log_p[i])) < 0) return i;
  return log_p.size() - 1;
}

}  // namespace detail

/// Both models read `start` (at least one token), then what the reference writes, sampled at
/// temperature 1 from `seed`, until they have read `steps` tokens. Their states begin as given
/// (after a picture, say). `vocabulary`: how many ids there are, padding left out. The drift is
/// noted at 1, 2, 5, 10, 20, 50, ... steps and at the last. The engines of the two may differ in
/// precision.
template <class Reference, class Model>
fidelity compare_models(context_of<typename Model::engine_type>& ctx, const Reference& reference,
                        const Model& model,
                        std::pair<typename Reference::state, typename Model::state> states,
                        std::span<const std::int32_t> start, index_t vocabulary, index_t steps,
                        std::uint64_t seed) {
  using E = typename Model::engine_type;
  if (start.empty()) fail<error>("compare_models: no token to start from; at least one is wanted");
  fidelity f;
  random_stream r{seed, 0, 0};
  tensor<std::int32_t, 1> id({1});
  id(0) = start[0];
  index_t next_note = 1, decade = 1;
  double agreed = 0, sum = 0;
  for (; f.steps < steps;) {
    auto frame = ctx.scratch.make_frame();
    const in_index<E, 1> ids(std::as_const(id).view());
    const auto p = detail::log_probabilities(reference.step(ctx, ids, states.first), vocabulary);
    const auto q = detail::log_probabilities(model.step(ctx, ids, states.second), vocabulary);
    double kl = 0;
    for (std::size_t i = 0; i < p.size(); ++i) kl += std::exp(p[i]) * (p[i] - q[i]);
    const auto likeliest = [](const std::vector<double>& v) {
      return std::max_element(v.begin(), v.end()) - v.begin();
    };
    agreed += !std::isnan(kl) && likeliest(p) == likeliest(q);
    sum += kl;
    if (std::isnan(kl) || kl > f.worst_kl) f.worst_kl = kl;  // std::max would forget NaN
    ++f.steps;
    const double u = r.uniform(0, 1);
    id(0) = f.steps < index_t(start.size()) ? start[std::size_t(f.steps)]
                                            : std::int32_t(detail::sampled(p, u));
    if (f.steps != next_note && f.steps != steps) continue;
    f.drift.push_back({f.steps, detail::state_error(states.second, states.first)});
    if (f.steps == next_note) {
      next_note = next_note == decade       ? 2 * decade
                  : next_note == 2 * decade ? 5 * decade
                                            : 10 * decade;
      if (next_note == 10 * decade) decade *= 10;
    }
  }
  f.mean_kl = steps > 0 ? sum / double(steps) : 0;
  f.agreement = steps > 0 ? agreed / double(steps) : 1;
  return f;
}

}  // namespace mlmamba
