// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Byte pair encoding: which two tokens become one, in which order, and the merging of a word.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <queue>
#include <utility>
#include <vector>

namespace mlmamba::detail {

/// Pairs of token ids to the rank of their merge; an open hash table, since a word asks it for each
/// pair of neighbours.
class merge_table {
 public:
  static constexpr std::uint32_t none = std::numeric_limits<std::uint32_t>::max();

  /// Room for `merges` of them.
  explicit merge_table(std::size_t merges = 0) {
    std::size_t slots = 16;
    while (slots < 2 * merges) slots *= 2;
    slots_.assign(slots, slot{});
    result_.reserve(merges);
  }

  /// The next merge: of all so far, the one with the lowest priority. A pair given again moves to
  /// its new place.
  void add(std::int32_t left, std::int32_t right, std::int32_t result) {
    const auto rank = static_cast<std::uint32_t>(result_.size());
    result_.push_back(result);
    slot& s = slots_[find(key_of(left, right))];
    s.key = key_of(left, right);
    s.rank = rank;
  }
  std::uint32_t rank(std::int32_t left, std::int32_t right) const {
    return slots_[find(key_of(left, right))].rank;
  }
  std::int32_t result(std::uint32_t rank) const { return result_[rank]; }
  std::size_t size() const { return result_.size(); }

  /// Replaces the tokens from `word` to the end of `ids` by their merges: always the pair of lowest
  /// rank, the leftmost of equals.
  void merge(std::vector<std::int32_t>& ids, std::size_t word) const {
    if (ids.size() - word > 48) return merge_long(ids, word);
    // Short words: look at all ranks for each merge. 48 is about where the queue begins to win.
    std::uint32_t ranks[48];
    std::size_t n = ids.size() - word;
    std::int32_t* id = ids.data() + word;
    for (std::size_t i = 0; i + 1 < n; ++i) ranks[i] = rank(id[i], id[i + 1]);
    while (n > 1) {
      std::size_t best = 0;
      for (std::size_t i = 1; i + 1 < n; ++i)
        if (ranks[i] < ranks[best]) best = i;
      if (ranks[best] == none) break;
      id[best] = result(ranks[best]);
      --n;
      for (std::size_t i = best + 1; i < n; ++i) {
        id[i] = id[i + 1];
        ranks[i - 1] = ranks[i];
      }
      if (best > 0) ranks[best - 1] = rank(id[best - 1], id[best]);
      if (best + 1 < n) ranks[best] = rank(id[best], id[best + 1]);
    }
    ids.resize(word + n);
  }

 private:
  struct slot {
    std::uint64_t key = std::numeric_limits<std::uint64_t>::max();
    std::uint32_t rank = none;
  };

  static std::uint64_t key_of(std::int32_t left, std::int32_t right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 |
           static_cast<std::uint32_t>(right);
  }
  /// The slot of the key, or the free one where it would go.
  std::size_t find(std::uint64_t key) const {
    const std::size_t mask = slots_.size() - 1;
    std::size_t at = static_cast<std::size_t>(key * 0x9E3779B97F4A7C15u >> 32) & mask;
    while (slots_[at].rank != none && slots_[at].key != key) at = (at + 1) & mask;
    return at;
  }

  /// The same in n log n steps: a queue of ranks and places, and a list of who is left. An entry is
  /// stale when the rank at its place has changed.
  void merge_long(std::vector<std::int32_t>& ids, std::size_t word) const {
    const std::size_t n = ids.size() - word;
    constexpr std::size_t end = std::numeric_limits<std::size_t>::max();
    std::int32_t* id = ids.data() + word;
    std::vector<std::size_t> next(n), previous(n);
    std::vector<std::uint32_t> ranks(n, none);
    using entry = std::pair<std::uint32_t, std::size_t>;
    std::priority_queue<entry, std::vector<entry>, std::greater<>> queue;
    const auto look = [&](std::size_t i) {
      ranks[i] = next[i] == end ? none : rank(id[i], id[next[i]]);
      if (ranks[i] != none) queue.emplace(ranks[i], i);
    };
    for (std::size_t i = 0; i < n; ++i) {
      next[i] = i + 1 < n ? i + 1 : end;
      previous[i] = i > 0 ? i - 1 : end;
    }
    for (std::size_t i = 0; i < n; ++i) look(i);
    while (!queue.empty()) {
      const auto [best, i] = queue.top();
      queue.pop();
      if (ranks[i] != best) continue;
      const std::size_t gone = next[i];
      id[i] = result(best);
      next[i] = next[gone];
      if (next[i] != end) previous[next[i]] = i;
      ranks[gone] = none;
      look(i);
      if (previous[i] != end) look(previous[i]);
    }
    std::size_t left = 0;
    for (std::size_t i = 0; i != end; i = next[i]) id[left++] = id[i];
    ids.resize(word + left);
  }

  std::vector<slot> slots_;
  std::vector<std::int32_t> result_;
};

}  // namespace mlmamba::detail
