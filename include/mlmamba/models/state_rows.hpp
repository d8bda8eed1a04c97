// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Rows of batched states: pick, repeat, join.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "mlmamba/nn/module.hpp"

namespace mlmamba {

/// The given rows in the given order; every array of a state has the batch as its first axis. A row
/// may come several times: a prompt that is read once and continued in several ways.
///
/// Errors    shape_error if there is no such row
template <nn::composite State>
State gather_rows(const State& from, std::span<const index_t> at) {
  State to = from;
  nn::for_each_leaf(to, [&](const std::string& path, auto& leaf) {
    using T = std::remove_cvref_t<decltype(leaf)>;
    if (!leaf) return;
    auto n = leaf.shape();
    const index_t rows = n.n[0], width = rows > 0 ? n.count() / rows : 0;
    n.n[0] = index_t(at.size());
    T some(n);
    for (std::size_t i = 0; i < at.size(); ++i) {
      if (at[i] < 0 || at[i] >= rows)
        fail<shape_error>("gather_rows: row ", at[i], " of \"", path, "\"; it has ", rows, " rows");
      allocator<typename T::memory>::copy(some.data() + index_t(i) * width,
                                          leaf.data() + at[i] * width,
                                          std::size_t(width) * sizeof(typename T::value_type));
    }
    leaf = std::move(some);
  });
  return to;
}

/// The rows of all states, one after another; positions are those of the first.
///
/// Errors    shape_error if the states are of different models, or there are none
template <nn::composite State>
State join_rows(std::span<const State* const> states) {
  if (states.empty()) fail<shape_error>("join_rows: no states; at least one is wanted");
  struct part {
    const void* data;
    index_t rows, width;
  };
  std::vector<std::vector<part>> leaves;  // by array, by state
  for (const State* s : states) {
    std::size_t k = 0;
    nn::for_each_leaf(*s, [&](const std::string&, const auto& leaf) {
      const auto n = leaf.shape();
      if (k == leaves.size()) leaves.emplace_back();
      index_t width = 1;
      for (int i = 1; i < std::remove_cvref_t<decltype(leaf)>::rank; ++i) width *= n.n[i];
      leaves[k++].push_back({leaf.data(), n.n[0], width});
    });
  }
  State to = *states[0];
  std::size_t k = 0;
  nn::for_each_leaf(to, [&](const std::string& path, auto& leaf) {
    using T = std::remove_cvref_t<decltype(leaf)>;
    using V = typename T::value_type;
    auto n = leaf.shape();
    const auto& parts = leaves[k++];
    if (parts.size() != states.size())
      fail<shape_error>("join_rows: \"", path, "\" is in ", parts.size(), " of ", states.size(),
                        " states; states of one model are wanted");
    n.n[0] = 0;
    for (const part& p : parts) {
      if (p.width != parts[0].width)
        fail<shape_error>("join_rows: rows of \"", path, "\" have ", parts[0].width, " and ",
                          p.width, " numbers; states of one model are wanted");
      n.n[0] += p.rows;
    }
    T all(n);
    V* at = all.data();
    for (const part& p : parts) {
      allocator<typename T::memory>::copy(at, p.data, std::size_t(p.rows * p.width) * sizeof(V));
      at += p.rows * p.width;
    }
    leaf = std::move(all);
  });
  return to;
}
template <nn::composite State>
State join_rows(std::span<const State> states) {
  std::vector<const State*> all;
  for (const State& s : states) all.push_back(&s);
  return join_rows(std::span<const State* const>(all));
}

}  // namespace mlmamba
