// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Orders of examples as PyTorch programs have them, number for number.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "mlmamba/core/engine.hpp"
#include "mlmamba/core/error.hpp"

namespace mlmamba::train {

/// PyTorch's generator on the CPU: the Mersenne twister of the standard, of a seed's low 32 bits.
class torch_generator {
 public:
  explicit torch_generator(std::uint64_t seed) : bits_(static_cast<std::uint32_t>(seed)) {}

  /// torch.randperm(n, generator=...), on the CPU:
  ///
  ///   for i in 0 .. n-2: swap y[i], y[i + bits % (n - i)]
  ///
  /// Errors    error for more than (2^32 - 1) / 20 numbers: PyTorch draws others then
  std::vector<std::uint32_t> permutation(std::size_t n) {
    constexpr std::size_t most = 0xFFFFFFFFu / 20;
    if (n >= most) fail("torch_generator: ", n, " numbers; fewer than ", most, " are wanted");
    std::vector<std::uint32_t> y(n);
    std::iota(y.begin(), y.end(), std::uint32_t{0});
    for (std::size_t i = 0; i + 1 < n; ++i) std::swap(y[i], y[i + bits_() % (n - i)]);
    return y;
  }

 private:
  std::mt19937 bits_;
};

/// What a sampler groups examples by.
struct example_size {
  std::uint32_t words = 0;
  bool picture = false;
};

/// How many examples an update has, over how many processes, and the order's seed.
struct rank_layout {
  index_t batch = 1;  ///< of all ranks together
  index_t ranks = 1;
  std::uint64_t seed = 7;  ///< plus the epoch

  std::size_t share() const { return static_cast<std::size_t>(batch / ranks); }
  void check() const {
    if (batch < 1 || ranks < 1 || batch % ranks != 0)
      fail("sampler: batch ", batch, " over ", ranks, " ranks; equal shares are wanted");
  }
};

/// The order of torch.utils.data.DistributedSampler with shuffle: one permutation, continued from
/// its beginning to whole batches; rank r has the numbers r, r + ranks, ...
///
/// Layout    batch after batch; within one, rank after rank. An epoch's last batch is whole: the
///           original's has as many as are left, to whole rows of ranks
inline std::vector<std::uint32_t> distributed_order(std::size_t examples, const rank_layout& o) {
  o.check();
  if (examples == 0) fail("sampler: no examples; at least one is wanted");
  const std::size_t batch = static_cast<std::size_t>(o.batch),
                    ranks = static_cast<std::size_t>(o.ranks);
  const std::vector<std::uint32_t> all = torch_generator(o.seed).permutation(examples);
  std::vector<std::uint32_t> out((examples + batch - 1) / batch * batch);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::size_t in = i % batch, rank = in % ranks, at = in / ranks;
    out[i - in + rank * o.share() + at] = all[i % examples];
  }
  return out;
}

namespace detail {

/// Numbers `from` (a permutation) in batches: a short last one is filled up with the first of the
/// first, each is sorted by words, most first, and dealt to equal buckets, one for each rank: the
/// next goes to the bucket with the fewest words that is not full.
inline std::vector<std::uint32_t> dealt(std::vector<std::uint32_t> from,
                                        const std::vector<example_size>& sizes,
                                        const rank_layout& o) {
  const std::size_t batch = static_cast<std::size_t>(o.batch), share = o.share(), n = from.size();
  const std::size_t missing = (batch - n % batch) % batch;
  if (n > 0 && missing > std::min(n, batch))
    fail("sampler: ", n, " examples ", sizes[from[0]].picture ? "with a picture" : "of text alone",
         " in batches of ", batch, "; at least half a batch is wanted");
  for (std::size_t i = 0; i < missing && n > 0; ++i) from.push_back(from[i]);
  std::vector<std::uint32_t> out(from.size());
  for (std::size_t at = 0; at < from.size(); at += batch) {
    const auto begin = from.begin() + std::ptrdiff_t(at);
    std::stable_sort(begin, begin + std::ptrdiff_t(batch), [&](std::uint32_t a, std::uint32_t b) {
      return sizes[a].words > sizes[b].words;
    });
    std::vector<std::uint64_t> words(static_cast<std::size_t>(o.ranks)), held(words.size());
    for (std::size_t i = 0; i < batch; ++i) {
      std::size_t to = words.size();
      for (std::size_t r = 0; r < words.size(); ++r)
        if (held[r] < share && (to == words.size() || words[r] < words[to])) to = r;
      out[at + to * share + held[to]++] = from[at + i];
      words[to] += sizes[from[at + i]].words;
    }
  }
  return out;
}

}  // namespace detail

/// An epoch in batches of one modality: permutations of the examples with pictures and of those
/// without, each dealt to batches by length; then all batches are permuted, and the one with the
/// longest example comes first (so that what does not fit in memory fails at once).
///
/// Units     a picture counts as 576 words there, whatever its tokens are; words are not tokens
/// Layout    batch after batch; within one, rank after rank; an example of a short last batch's
///           filling occurs twice
/// Errors    error if no example has a picture, or a modality has less than half a batch
/// Source    the original's sampler ("split modality"), with torch.randperm
inline std::vector<std::uint32_t> split_modality_order(const std::vector<example_size>& sizes,
                                                       const rank_layout& o) {
  o.check();
  std::vector<std::uint32_t> with, without;
  for (std::size_t i = 0; i < sizes.size(); ++i)
    (sizes[i].picture ? with : without).push_back(static_cast<std::uint32_t>(i));
  if (with.empty()) fail("sampler: no example has a picture; at least one is wanted");
  torch_generator random(o.seed);
  const auto permuted = [&](const std::vector<std::uint32_t>& of) {
    std::vector<std::uint32_t> y = random.permutation(of.size());
    for (std::uint32_t& i : y) i = of[i];
    return y;
  };
  const auto first = permuted(with), second = permuted(without);
  std::vector<std::uint32_t> all = detail::dealt(first, sizes, o);
  const std::vector<std::uint32_t> text = detail::dealt(second, sizes, o);
  all.insert(all.end(), text.begin(), text.end());

  const std::size_t batch = static_cast<std::size_t>(o.batch);
  std::vector<std::uint32_t> places = random.permutation(all.size() / batch);
  std::size_t longest = 0;
  std::uint64_t most = 0;
  for (std::size_t p = 0; p < places.size(); ++p)
    for (std::size_t i = 0; i < batch; ++i) {
      const example_size& e = sizes[all[places[p] * batch + i]];
      const std::uint64_t length = std::uint64_t{e.words} + (e.picture ? 576 : 0);
      if (length > most) most = length, longest = p;
    }
  std::swap(places[0], places[longest]);
  std::vector<std::uint32_t> out;
  out.reserve(all.size());
  for (const std::uint32_t p : places)
    out.insert(out.end(), all.begin() + std::ptrdiff_t(p * batch),
               all.begin() + std::ptrdiff_t((p + 1) * batch));
  return out;
}

}  // namespace mlmamba::train
