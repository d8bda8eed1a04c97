// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Chooses a token on the host.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "mlmamba/core/sampling.hpp"

namespace mlmamba {

struct token_candidate {
  float z;  // logit after the penalty
  std::int32_t id;
  std::uint64_t weight;  // see token_weight

  friend bool operator<(const token_candidate& a, const token_candidate& b) {  // the better first
    return a.z != b.z ? a.z > b.z : a.id < b.id;
  }
};

struct chosen_token {
  std::int32_t id;
  std::int32_t unfit;  // -1; or why nothing can be chosen, see ops::sample
};

/// The choice that ops::sample describes, for one row. `logit(i)` is that of token i of n,
/// `seen(i)` says whether it is penalised; `room` has space for n candidates. A draw that is made
/// is counted.
template <class Logit, class Seen>
chosen_token choose_token(const sampling_rule& rule, index_t n, Logit&& logit, Seen&& seen,
                          std::uint64_t& draws, token_candidate* room) {
  constexpr float limit = std::numeric_limits<float>::infinity();
  token_candidate best{-limit, 0, 0};
  for (index_t i = 0; i < n; ++i) {
    float z = logit(i);
    if (!(z < limit)) return {0, std::int32_t(i)};
    if (rule.penalty != 1 && seen(i)) z = penalised(z, rule.penalty);
    if (z > best.z) best = {z, std::int32_t(i), 0};
    if (!rule.greedy) room[i] = {z, std::int32_t(i), 0};
  }
  if (best.z == -limit) return {0, 0};
  if (rule.greedy) return {best.id, -1};

  token_candidate* end = room + n;
  bool ordered = true;  // by id
  if (rule.top_k > 0 && rule.top_k < n) {
    std::nth_element(room, room + rule.top_k - 1, end);
    end = room + rule.top_k;
    ordered = false;
  }
  const double least = double(best.z) + rule.least;
  end = std::remove_if(room, end, [&](const token_candidate& c) { return double(c.z) < least; });
  const int bits = weight_bits(n);
  std::uint64_t mass = 0;
  for (token_candidate* c = room; c != end; ++c)
    mass += c->weight = token_weight(c->z, best.z, rule.scale, bits, weight_table.data());
  if (rule.limits_mass()) {
    const std::uint64_t wanted = rule.wanted(mass);
    // A heap gives the best ones without sorting the rest of the vocabulary.
    const auto worse = [](const token_candidate& a, const token_candidate& b) { return b < a; };
    std::make_heap(room, end, worse);
    token_candidate* first = end;
    for (mass = 0; mass < wanted; mass += first->weight) std::pop_heap(room, first--, worse);
    room = first;
    ordered = false;
  }
  if (!ordered) std::sort(room, end, [](const auto& a, const auto& b) { return a.id < b.id; });
  std::uint64_t left = multiply_high(random_bits(rule.seed, 0, draws++), mass);
  while (left >= room->weight) left -= (room++)->weight;
  return {room->id, -1};
}

}  // namespace mlmamba
