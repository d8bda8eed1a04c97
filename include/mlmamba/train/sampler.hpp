// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Which examples make up the batch of an update: a function of seed and update only.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/core/random.hpp"
#include "mlmamba/train/source.hpp"
#include "mlmamba/train/torch_sampler.hpp"

namespace mlmamba::train {

enum class sampling : std::uint8_t {
  in_order,        ///< 0, 1, 2, ...; for endless sources, whose examples are random themselves
  shuffled,        ///< a new permutation for each epoch
  grouped,         ///< the same, each batch of one modality and of similar lengths
  distributed,     ///< the original's for alignment: distributed_order
  split_modality,  ///< the original's for fine-tuning: split_modality_order
};

inline std::string_view name_of(sampling s) {
  constexpr std::string_view names[] = {"in-order", "shuffled", "grouped", "distributed",
                                        "split-modality"};
  return names[static_cast<std::size_t>(s)];
}
inline sampling sampling_of(std::string_view name) {
  for (auto s : {sampling::in_order, sampling::shuffled, sampling::grouped, sampling::distributed,
                 sampling::split_modality})
    if (name_of(s) == name) return s;
  fail("sampling \"", name,
       "\"; in-order, shuffled, grouped, distributed or split-modality is wanted");
}

/// Numbers of the examples of each batch. Nothing is kept between calls but a cache of one epoch,
/// so a resumed run continues with the update's number alone.
///
/// Order     grouped: a permutation of the examples with pictures and one of those without; each
///           is cut into chunks of several batches, a chunk sorted by length and cut into batches;
///           then the batches of both are permuted. A last short batch is filled up with the first
///           examples of its permutation, so every example occurs. distributed, split_modality: as
///           in torch_sampler.hpp; a batch then lists the examples of one rank after the other
class sampler {
 public:
  /// `chunk_batches` batches are sorted together; 1 as the original has it (which only orders the
  /// examples within a batch). `ranks` share a batch, where the order depends on them.
  sampler(data_source source, index_t batch, sampling how, std::uint64_t seed,
          index_t chunk_batches = 8, index_t ranks = 1)
      : source_(std::move(source)),
        batch_(batch),
        how_(how),
        seed_(seed),
        chunk_(chunk_batches),
        ranks_(ranks) {
    if (batch < 1 || chunk_batches < 1)
      fail("sampler: batch ", batch, ", chunk ", chunk_batches, "; at least 1 is wanted");
    if (source_.size == 0 && how != sampling::in_order)
      fail("sampler: ", name_of(how), " of an endless source; in-order is wanted");
    if (source_.size > std::numeric_limits<std::uint32_t>::max())
      fail("sampler: ", source_.size, " examples; fewer than 2^32 are wanted");
    if (source_.size == 0) return;
    rank_layout{batch, ranks, seed}.check();
    if (how == sampling::grouped || how == sampling::split_modality) {
      for (std::uint64_t i = 0; i < source_.size; ++i)
        (has_picture(i) ? with_ : without_).push_back(static_cast<std::uint32_t>(i));
    } else {
      with_.resize(source_.size);
      std::iota(with_.begin(), with_.end(), std::uint32_t{0});
    }
  }

  /// Batches of an epoch; 0 for an endless source.
  index_t epoch_batches() const { return batches(with_.size()) + batches(without_.size()); }

  std::vector<std::uint64_t> operator()(index_t update) {
    if (update < 0) fail("sampler: update ", update, "; a count from 0 is wanted");
    std::vector<std::uint64_t> out(static_cast<std::size_t>(batch_));
    if (source_.size == 0) {
      std::iota(out.begin(), out.end(), std::uint64_t(update) * std::uint64_t(batch_));
      return out;
    }
    const index_t epoch = update / epoch_batches(), at = update % epoch_batches();
    if (epoch != cached_epoch_) {
      order_ = order_of(epoch);
      cached_epoch_ = epoch;
    }
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = order_[static_cast<std::size_t>(at * batch_) + i];
    return out;
  }

 private:
  index_t batches(std::size_t n) const { return (static_cast<index_t>(n) + batch_ - 1) / batch_; }
  bool has_picture(std::uint64_t i) const { return !source_.has_picture || source_.has_picture(i); }
  std::uint64_t words(std::uint64_t i) const { return source_.words ? source_.words(i) : 0; }

  static void permute(std::vector<std::uint32_t>& v, random_stream r) {
    for (std::size_t i = v.size(); i > 1; --i) std::swap(v[i - 1], v[r.below(i)]);
  }
  /// A permutation of `all`, filled up to whole batches.
  std::vector<std::uint32_t> filled(std::vector<std::uint32_t> all, random_stream r) const {
    if (how_ != sampling::in_order) permute(all, r);
    const std::size_t whole = static_cast<std::size_t>(batches(all.size()) * batch_);
    for (std::size_t i = 0; all.size() < whole; ++i) all.push_back(all[i]);
    return all;
  }

  std::vector<std::uint32_t> order_of(index_t epoch) const {
    const rank_layout layout{batch_, ranks_, seed_ + std::uint64_t(epoch)};
    if (how_ == sampling::distributed)
      return distributed_order(static_cast<std::size_t>(source_.size), layout);
    if (how_ == sampling::split_modality) {
      std::vector<example_size> sizes(static_cast<std::size_t>(source_.size));
      for (std::size_t i = 0; i < sizes.size(); ++i)
        sizes[i] = {static_cast<std::uint32_t>(words(i)), has_picture(i)};
      return split_modality_order(sizes, layout);
    }
    const random_stream r = random_stream{seed_, 0, 0}.fork("sampler").fork(std::to_string(epoch));
    if (how_ != sampling::grouped) return filled(with_, r.fork("all"));
    std::vector<std::uint32_t> all = filled(with_, r.fork("with")),
                               text = filled(without_, r.fork("without"));
    const std::size_t batch = static_cast<std::size_t>(batch_);
    const auto sort_chunks = [&](std::vector<std::uint32_t>& v) {
      const std::size_t chunk = batch * static_cast<std::size_t>(chunk_);
      for (std::size_t at = 0; at < v.size(); at += chunk)
        std::stable_sort(v.begin() + std::ptrdiff_t(at),
                         v.begin() + std::ptrdiff_t(std::min(v.size(), at + chunk)),
                         [&](std::uint32_t a, std::uint32_t b) { return words(a) > words(b); });
    };
    sort_chunks(all);
    sort_chunks(text);
    all.insert(all.end(), text.begin(), text.end());
    std::vector<std::uint32_t> places(all.size() / batch), out;
    std::iota(places.begin(), places.end(), std::uint32_t{0});
    permute(places, r.fork("batches"));
    out.reserve(all.size());
    for (const std::size_t p : places)
      out.insert(out.end(), all.begin() + std::ptrdiff_t(p * batch),
                 all.begin() + std::ptrdiff_t((p + 1) * batch));
    return out;
  }

  data_source source_;
  index_t batch_;
  sampling how_;
  std::uint64_t seed_;
  index_t chunk_, ranks_;
  std::vector<std::uint32_t> with_, without_, order_;
  index_t cached_epoch_ = -1;
};

}  // namespace mlmamba::train
