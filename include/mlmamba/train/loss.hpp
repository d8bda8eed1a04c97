// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The loss of next-token prediction: cross-entropy of shifted labels, and its gradient.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "mlmamba/ops/cross_entropy.hpp"

namespace mlmamba::train {

inline constexpr std::int32_t ignored = -100;  ///< the label of what is not learned

/// How the losses of tokens become the loss of an update.
enum class normalisation : std::uint8_t {
  tokens,         ///< mean over all labelled tokens of the update, however it is cut
  mean_of_means,  ///< mean over micro-batches of each one's mean, as the original has it
};

inline std::string_view name_of(normalisation n) {
  return n == normalisation::tokens ? "tokens" : "mean-of-means";
}
inline normalisation normalisation_of(std::string_view name) {
  for (auto n : {normalisation::tokens, normalisation::mean_of_means})
    if (name_of(n) == name) return n;
  fail("loss: normalisation \"", name, "\"; tokens or mean-of-means is wanted");
}

/// What each position of a sequence shall predict: the label of the next one.
///
///   y[b,s] = labels[b, s + 1 - prefix] where that is a column, else `ignored`
///
/// Shapes    labels (B, L); y (B, prefix + L). `prefix` positions (the picture) stand before the
///           text and have no labels of their own; the last of them predicts the first text token
/// Layout    contiguous, on the host
inline tensor<std::int32_t, 2> shift_labels(view<const std::int32_t, 2> labels, index_t prefix) {
  const index_t batch = labels.size[0], length = labels.size[1];
  tensor<std::int32_t, 2> y({batch, prefix + length});
  for (index_t b = 0; b < batch; ++b)
    for (index_t s = 0; s < prefix + length; ++s) {
      const index_t at = s + 1 - prefix;
      y(b, s) = at >= 0 && at < length ? labels(b, at) : ignored;
    }
  return y;
}

/// Labels that count: those that some position predicts. Without a prefix nothing predicts the
/// first column.
inline index_t labelled(view<const std::int32_t, 2> labels, index_t prefix) {
  index_t n = 0;
  for (index_t b = 0; b < labels.size[0]; ++b)
    for (index_t t = prefix > 0 ? 0 : 1; t < labels.size[1]; ++t) n += labels(b, t) != ignored;
  return n;
}

/// Sum of the cross-entropies of a micro-batch, and the gradient of `scale` times that sum.
///
///   sum     = sum_{b,s} -log softmax(logits[b,s,:])[label[b,s]]     where label is not `ignored`
///   dlogits = scale dsum / dlogits
///
/// Shapes    logits (B, S, V), becomes dlogits; label (B, S), what each position shall predict
/// Numerics  each token's loss in accum, their sum in double in ascending order
template <engine E>
double cross_entropy_gradient(context_of<E>& ctx, out<E, 3> logits,
                              view<const std::int32_t, 2> label, double scale) {
  ops::check::size("cross_entropy_gradient", "label", label,
                   shape<2>{{logits.size[0], logits.size[1]}});
  auto frame = ctx.scratch.make_frame();
  const index_t n = label.count();
  const auto wanted = ctx.scratch.template make<std::int32_t, 1>(shape<1>{{n}});
  from_host(wanted, label.flat());
  const out_accum<E, 1> each = ctx.template make_accum<E, 1>({{n}});
  run(ctx, ops::cross_entropy<E>{
               .logits = rows(logits), .label = wanted, .loss = each, .ignore_index = ignored});
  run(ctx, ops::cross_entropy_backward<E>{.logits = rows(logits),
                                          .label = wanted,
                                          .dlogits = rows(logits),
                                          .scale = typename E::real(scale),
                                          .ignore_index = ignored});
  const auto host = to_host(each);
  double sum = 0;
  for (index_t i = 0; i < n; ++i) sum += double(math::real(host.data()[i]));
  return sum;
}

}  // namespace mlmamba::train
