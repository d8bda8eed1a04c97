// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Choosing tokens, plainly: everything is sorted.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "mlmamba/ops/sample.hpp"

namespace mlmamba::backend {

template <class E, class X>
void execute(context<reference>&, const ops::sample<E, X>& op) {
  struct token {
    float z;
    std::int32_t id;
    std::uint64_t weight = 0;
  };
  constexpr float limit = std::numeric_limits<float>::infinity();
  for (index_t t = 0; t < op.x.size[0]; ++t) {
    const sampling_rule& rule = op.rules(t);
    const index_t n = rule.tokens(op.x.size[1]);
    const auto at = [&](index_t v) { return float(math::real(accum_t<X>(op.x(t, v)))); };
    index_t unfit = -1;
    bool any = false;
    for (index_t v = n; v-- > 0;) {
      if (!(at(v) < limit)) unfit = v;
      any = any || at(v) > -limit;
    }
    op.unfit(t) = std::int32_t(unfit < 0 && !any ? 0 : unfit);
    op.index(t) = 0;
    if (op.unfit(t) >= 0) continue;

    std::vector<token> all;
    for (index_t v = 0; v < n; ++v) {
      const bool seen = op.seen && (op.seen(t, v / 32) >> (v % 32) & 1);
      all.push_back({seen ? penalised(at(v), rule.penalty) : at(v), std::int32_t(v)});
    }
    std::sort(all.begin(), all.end(),
              [](const token& a, const token& b) { return a.z != b.z ? a.z > b.z : a.id < b.id; });
    const float best = all[0].z;
    if (rule.greedy) {
      op.index(t) = all[0].id;
    } else {
      std::size_t keep = all.size();
      if (rule.top_k > 0) keep = std::min(keep, std::size_t(rule.top_k));
      while (double(all[keep - 1].z) < double(best) + rule.least) --keep;
      all.resize(keep);
      std::uint64_t mass = 0;
      for (token& c : all)
        mass += c.weight = token_weight(c.z, best, rule.scale, weight_bits(n), weight_table.data());
      if (rule.limits_mass()) {
        const std::uint64_t wanted = rule.wanted(mass);
        mass = 0;
        for (keep = 0; mass < wanted; ++keep) mass += all[keep].weight;
        all.resize(keep);
      }
      std::sort(all.begin(), all.end(), [](const token& a, const token& b) { return a.id < b.id; });
      std::uint64_t left = multiply_high(random_bits(rule.seed, 0, op.draws(t)++), mass);
      auto chosen = all.begin();
      while (left >= chosen->weight) left -= (chosen++)->weight;
      op.index(t) = chosen->id;
    }
    const index_t id = op.index(t);
    if (op.seen) op.seen(t, id / 32) |= std::uint32_t{1} << (id % 32);
  }
}

}  // namespace mlmamba::backend
