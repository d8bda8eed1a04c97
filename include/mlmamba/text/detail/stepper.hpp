// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Steps a model from token to token, and chooses the next ones where it runs.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "mlmamba/nn/functional.hpp"
#include "mlmamba/text/sampler.hpp"
#include "mlmamba/text/text_model.hpp"

namespace mlmamba::detail {

/// How a row goes on: the choices that were made for it are in the sampler, its tokens in `seen`.
struct text_row {
  const sampler& choice;
  std::span<const std::int32_t> seen;
};

/// Equally many tokens as rows in, the next ones (or logits) out, again and again. If it chooses,
/// only ids cross to the host, and the next step reads those that the device chose; else the logits
/// do. All steps are the same work on the same memory, which the context may record and replay.
///
/// It is for one state: another one needs another stepper.
template <text_model Model>
class stepper {
 public:
  using E = typename Model::engine_type;

  /// The likeliest tokens if `greedy`, else logits. `vocabulary`: only the first so many ids are
  /// chosen; 0: all.
  stepper(index_t rows, bool greedy, index_t vocabulary = 0)
      : chooses_(greedy), vocabulary_(vocabulary), ids_({2, rows}) {}
  /// Chooses for these rows as their samplers would (whose vocabularies are equal), for a model
  /// with so many logits.
  stepper(std::span<const text_row> rows, index_t logits)
      : stepper(index_t(rows.size()), true, rows[0].choice.options().vocabulary) {
    const bool plain = std::all_of(rows.begin(), rows.end(), [](const text_row& r) {
      return r.choice.options().greedy() && !r.choice.options().remembers();
    });
    if (!plain) start_sampling(rows, logits);
  }
  stepper() = default;

  bool chooses() const { return chooses_; }
  index_t rows() const { return ids_ ? ids_.size(1) : 0; }

  /// Has the state read these ids, one per row; with those that the device chose last, nothing is
  /// copied. Afterwards either choices() or logits().
  void step(context_of<E>& ctx, const Model& model, std::span<const std::int32_t> ids,
            typename Model::state& state) {
    if (!std::equal(ids.begin(), ids.end(), on_device_.begin(), on_device_.end())) {
      from_host(read(), view<const std::int32_t, 1>(ids.data(), shape<1>{{index_t(ids.size())}}));
    }
    auto frame = ctx.scratch.make_frame();
    const bool called = ctx.replay(recording_, [&] {
      logits_ = model.step(ctx, in_index<E, 1>(read()), state);
      if (chooses_) choose(ctx);
    });
    if constexpr (requires { ++state.position; })
      if (!called) ++state.position;  // it is the host's, and the host was not asked
    on_device_.clear();
    if (!chooses_) host_ = host_logits(logits_);
  }
  /// The token of each row after the last step. Waits for it. Errors: error if a row has logits
  /// that nothing can be chosen from.
  std::span<const std::int32_t> choices() {
    const auto both = to_host(ids_.view());
    const index_t n = rows();
    for (index_t i = 0; i < n; ++i)
      if (both(1, i) >= 0)
        fail<error>("generate: the logit of token ", both(1, i),
                    " is nan or infinite; finite numbers are wanted (are the weights finite?)");
    on_device_.assign(both.data(), both.data() + n);
    return on_device_;
  }
  /// The logits (rows, V) after the last step, if it does not choose.
  const std::vector<float>& logits() const { return host_; }

 private:
  using memory = typename E::memory;

  void start_sampling(std::span<const text_row> rows, index_t logits) {
    const index_t n = index_t(rows.size()), words = (logits + 31) / 32;
    tensor<sampling_rule, 1> rules({n});
    tensor<std::uint64_t, 1> draws({n});
    tensor<std::uint32_t, 2> seen({n, words});
    bool remember = false;
    for (index_t i = 0; i < n; ++i) {
      const text_row& r = rows[std::size_t(i)];
      rules(i) = sampling_rule(r.choice.options());
      draws(i) = r.choice.draws();
      remember = remember || r.choice.options().remembers();
      for (const std::int32_t id : r.seen)
        if (id >= 0 && id < logits) seen(i, id / 32) |= std::uint32_t{1} << (id % 32);
    }
    copy(rules_, rules);
    copy(draws_, draws);
    if (remember) copy(seen_, seen);
  }
  template <class T, int R>
  static void copy(tensor<T, R, memory>& to, const tensor<T, R>& from) {
    to = tensor<T, R, memory>(from.shape());
    from_host(to.view(), from.view());
  }
  void choose(context_of<E>& ctx) {
    const auto ids = read(), unfit = ids_.view().select(0, 1);
    if (rules_) {
      nn::sample(ctx, logits_, rules_.view(), draws_.view(), seen_.view(), ids, unfit);
    } else {
      const index_t all = logits_.size[1];
      const index_t n = vocabulary_ > 0 && vocabulary_ < all ? vocabulary_ : all;
      nn::largest(ctx, logits_.slice(1, 0, n), ids, unfit);
    }
  }
  out_index<E, 1> read() { return ids_.view().select(0, 0); }

  bool chooses_ = false;
  index_t vocabulary_ = 0;
  tensor<std::int32_t, 2, memory> ids_;     // (2, rows): ids, and whether they can be
  std::vector<std::int32_t> on_device_;     // the ids there, if the host knows them
  tensor<sampling_rule, 1, memory> rules_;  // these three: see ops::sample; absent: the likeliest
  tensor<std::uint64_t, 1, memory> draws_;
  tensor<std::uint32_t, 2, memory> seen_;
  out_accum<E, 2> logits_;  // where each step leaves them
  std::vector<float> host_;
  typename context_of<E>::recording recording_;
};

}  // namespace mlmamba::detail
