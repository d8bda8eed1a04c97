// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Loss and gradients of one micro-batch: of a language model, and of one that sees.
#pragma once

#include <vector>

#include "mlmamba/nn/module.hpp"
#include "mlmamba/ops/elementwise.hpp"
#include "mlmamba/train/batch.hpp"
#include "mlmamba/train/loss.hpp"

namespace mlmamba::train {

/// The language model inside a model: itself, or its `llm_backbone`.
template <class Model>
auto& language_of(Model& m) {
  if constexpr (requires { m.llm_backbone; }) {
    return m.llm_backbone;
  } else {
    return m;
  }
}

namespace detail {

/// Pixels where the engine wants them: on the device, in value.
template <engine E>
in<E, 4> device_pixels(context_of<E>& ctx, const tensor<float, 4>& host) {
  const auto wide = ctx.scratch.template make<float, 4>(host.shape());
  from_host(wide, host.view());
  if constexpr (std::is_same_v<typename E::value, float>) {
    return wide;
  } else {
    const out<E, 4> y = ctx.template make<E, 4>(host.shape());
    run(ctx, ops::copy<typename E::backend, typename E::value, float, 4>{.x = wide, .y = y});
    return y;
  }
}
template <engine E>
std::vector<in<E, 4>> device_pictures(context_of<E>& ctx, const micro_batch& b) {
  std::vector<in<E, 4>> out;
  for (const auto& t : b.pictures) out.push_back(device_pixels<E>(ctx, t));
  return out;
}
template <engine E>
in_index<E, 2> device_tokens(context_of<E>& ctx, const tensor<std::int32_t, 2>& ids) {
  const auto to = ctx.scratch.template make<std::int32_t, 2>(ids.shape());
  from_host(to, ids.view());
  return to;
}
}  // namespace detail

/// Adds the gradient of `scale` times the sum of the token losses of a micro-batch; returns the
/// sum. For a language model, or an ml_mamba.
struct next_token_gradients {
  template <class Model>
  double operator()(context_of<typename Model::engine_type>& ctx, Model& m, const micro_batch& b,
                    double scale) const {
    using E = typename Model::engine_type;
    typename Model::saved s;
    const in_index<E, 2> ids = detail::device_tokens<E>(ctx, b.ids);
    if constexpr (requires { m.vision_backbone; }) {
      const auto pictures = detail::device_pictures<E>(ctx, b);
      const out<E, 3> y = m.forward(ctx, pictures, ids, s);
      const auto wanted = shift_labels(b.labels.view(), s.image_tokens);
      const double sum = cross_entropy_gradient<E>(ctx, y, wanted.view(), scale);
      m.backward(ctx, y, s);
      return sum;
    } else {
      if (b.has_pictures())
        fail("training: a batch with pictures for a model that can't see; text is wanted");
      const out<E, 3> y = m.forward(ctx, m.embed(ctx, ids, s), s);
      const auto wanted = shift_labels(b.labels.view(), 0);
      const double sum = cross_entropy_gradient<E>(ctx, y, wanted.view(), scale);
      m.embed_backward(ctx, m.backward(ctx, y, s), s);
      return sum;
    }
  }
};

}  // namespace mlmamba::train
