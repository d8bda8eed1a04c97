// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Steps a model from token to token, and chooses the likeliest ones where it runs.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "mlmamba/nn/functional.hpp"
#include "mlmamba/text/text_model.hpp"

namespace mlmamba::detail {

/// Equally many tokens as rows in, the next ones (or logits) out, again and again. With `greedy`
/// only ids cross to the host, and the next step reads those that the device chose; else the logits
/// do. All steps are the same work on the same memory, which the context may record and replay.
///
/// It is for one state: another one needs another stepper.
template <text_model Model>
class stepper {
 public:
  using E = typename Model::engine_type;

  /// `vocabulary`: only the first so many ids are chosen; 0: all.
  stepper(index_t rows, bool greedy, index_t vocabulary = 0)
      : greedy_(greedy), vocabulary_(vocabulary), ids_({2, rows}) {}
  stepper() = default;

  bool greedy() const { return greedy_; }
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
      if (!greedy_) return;
      const index_t all = logits_.size[1];
      const index_t n = vocabulary_ > 0 && vocabulary_ < all ? vocabulary_ : all;
      nn::largest(ctx, logits_.slice(1, 0, n), read(), ids_.view().select(0, 1));
    });
    if constexpr (requires { ++state.position; })
      if (!called) ++state.position;  // it is the host's, and the host was not asked
    on_device_.clear();
    if (!greedy_) host_ = host_logits(logits_);
  }
  /// The likeliest of each row after the last step. Waits for it. Errors: error if a row has
  /// logits that nothing can be chosen from.
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
  /// The logits (rows, V) after the last step, without `greedy`.
  const std::vector<float>& logits() const { return host_; }

 private:
  out_index<E, 1> read() { return ids_.view().select(0, 0); }

  bool greedy_ = false;
  index_t vocabulary_ = 0;
  tensor<std::int32_t, 2, typename E::memory> ids_;  // (2, rows): ids, and whether they can be
  std::vector<std::int32_t> on_device_;              // the ids there, if the host knows them
  out_accum<E, 2> logits_;                           // where each step leaves them
  std::vector<float> host_;
  typename context_of<E>::recording recording_;
};

}  // namespace mlmamba::detail
