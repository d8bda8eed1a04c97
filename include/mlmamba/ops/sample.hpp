// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The next token of each row from its logits: greedy, temperature, top-k, top-p, min-p, repetition
// penalty.
#pragma once

#include <string>

#include "mlmamba/core/check.hpp"
#include "mlmamba/core/context.hpp"
#include "mlmamba/core/sampling.hpp"

namespace mlmamba::ops {

/// Chooses a token for each row:
///
///   z = float(x), penalised where seen -> the top k -> p_i >= min_p max p, p = softmax(z)
///     -> z / temperature -> in order of falling z, those with less than top_p before them
///     -> softmax -> one uniform draw, walked in order of id
///
/// Then the chosen token counts as seen, and the draw is counted: a recorded step that has this op
/// goes on from token to token by itself.
///
/// Shapes    x (T, V), V > 0; rules, draws, index, unfit (T); seen (T, V / 32 rounded up)
/// Layout    unit stride over v
/// Rules     sampling_rule(options) for each row; a vocabulary above V is V
/// Draws     in and out: how many numbers of the stream (seed, 0) the row has used
/// Seen      in and out: bit v % 32 of word v / 32 says that token v is penalised
/// Empty     seen: nothing is penalised
/// Ties      the lowest id, in greedy choice and at each limit
/// Unfit     -1 if the row can be chosen from; else the first place with NaN or +infinity, or 0 if
///           all are -infinity ("never"). Then index is 0, nothing is drawn, and nothing marked
/// Numerics  masses are whole numbers (token_weight), which have one sum in any order: the same
///           seed and logits give the same tokens on every backend, in every batch
/// Source    Keskar et al. 2019, arXiv:1909.05858 (penalty); Holtzman et al. 2020, arXiv:1904.09751
///           (top-p); Nguyen et al. 2024, arXiv:2407.01082 (min-p, here before the temperature)
template <engine E, class X = typename E::accum>
struct sample {
  static constexpr const char* name = "sample";
  view<const X, 2, typename E::memory> x{};
  view<const sampling_rule, 1, typename E::memory> rules{};
  view<std::uint64_t, 1, typename E::memory> draws{};
  view<std::uint32_t, 2, typename E::memory> seen{};
  out_index<E, 1> index{}, unfit{};

  static constexpr index_t most = index_t{1} << 30;
  static index_t words(index_t tokens) { return (tokens + 31) / 32; }

  void check() const {
    const shape<1> rows{{x.size[0]}};
    check::given(name, "x", x);
    check::that(x.size[1] > 0 && x.size[1] <= most, name,
                "x has " + std::to_string(x.size[1]) + " columns; wanted are 1 to 2^30");
    check::size(name, "rules", rules, rows);
    check::size(name, "draws", draws, rows);
    check::size_if_given(name, "seen", seen, shape<2>{{rows.n[0], words(x.size[1])}});
    check::size(name, "index", index, rows);
    check::size(name, "unfit", unfit, rows);
    check::unit_stride(name, "x", x);
    check::unit_stride(name, "seen", seen);
  }
  double flops() const { return 20 * double(x.count()); }
  double bytes() const { return check::total_bytes(x, rules, draws, seen, index, unfit); }
};

}  // namespace mlmamba::ops
