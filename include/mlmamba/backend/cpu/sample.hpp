// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Choosing tokens on the CPU, row by row.
#pragma once

#include "mlmamba/backend/cpu/workers.hpp"
#include "mlmamba/core/choose_token.hpp"
#include "mlmamba/ops/sample.hpp"

namespace mlmamba::backend {

template <class Isa, class E, class X>
void execute(context<cpu_for<Isa>>& ctx, const ops::sample<E, X>& op) {
  const index_t columns = op.x.size[1];
  detail::for_each_with_scratch<token_candidate>(
      ctx, op.x.size[0], columns, [&](index_t t, token_candidate* room) {
        const X* x = op.x.data + t * op.x.stride[0];
        std::uint32_t* seen = op.seen ? op.seen.data + t * op.seen.stride[0] : nullptr;
        const sampling_rule& rule = op.rules(t);
        const chosen_token chosen = choose_token(
            rule, rule.tokens(columns), [&](index_t v) { return float(accum_t<X>(x[v])); },
            [&](index_t v) { return seen && (seen[v / 32] >> (v % 32) & 1) != 0; }, op.draws(t),
            room);
        op.index(t) = chosen.id;
        op.unfit(t) = chosen.unfit;
        if (seen && chosen.unfit < 0) seen[chosen.id / 32] |= std::uint32_t{1} << (chosen.id % 32);
      });
}

}  // namespace mlmamba::backend
