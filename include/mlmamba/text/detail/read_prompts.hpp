// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Prompts of different lengths, read in groups of equal ones.
#pragma once

#include <map>
#include <span>
#include <utility>
#include <vector>

#include "mlmamba/models/state_rows.hpp"
#include "mlmamba/text/text_model.hpp"

namespace mlmamba::detail {

/// Reads each prompt after row i of `before` (its picture, or nothing). Prompts of equal length
/// are read together; after each group `read(at, logits, state)` is called with the numbers of its
/// prompts, their logits (rows, V) and their states, which it may take.
template <text_model Model, class Read>
void read_prompts(context_of<typename Model::engine_type>& ctx, const Model& model,
                  std::span<const std::vector<std::int32_t>> prompts, index_t prefill_tokens,
                  const typename Model::state& before, Read&& read) {
  std::map<std::size_t, std::vector<index_t>> by_length;
  for (std::size_t i = 0; i < prompts.size(); ++i)
    by_length[prompts[i].size()].push_back(index_t(i));
  for (const auto& [length, at] : by_length) {
    auto state = gather_rows(before, at);
    std::vector<std::int32_t> ids;
    for (const index_t i : at) {
      const auto& p = prompts[std::size_t(i)];
      ids.insert(ids.end(), p.begin(), p.end());
    }
    auto logits = read_ids(ctx, model, ids, index_t(at.size()), prefill_tokens, state);
    read(at, std::move(logits), std::move(state));
  }
}

}  // namespace mlmamba::detail
