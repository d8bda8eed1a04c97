// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// One step of training, as fixtures with in.labels ask for it.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "check_fixture/fixture.hpp"
#include "mlmamba/io/parameters.hpp"
#include "mlmamba/ops/adamw.hpp"
#include "mlmamba/train/loss.hpp"

namespace mlmamba::check_fixture {

/// Loss of next tokens and its gradients under the file's own names; then one AdamW step. With
/// pictures (of an ml_mamba) the text's first token is predicted by the last of theirs.
template <engine E, class Model>
void train_step(fixture& f, context_of<E>& ctx, Model& model, const std::vector<in<E, 4>>& pictures,
                in_index<E, 2> ids, const named_arrays& named, results& out) {
  using M = typename E::memory;
  using A = typename E::accum;
  const auto labels = f.needed<std::int32_t, 2>("in.labels");
  if (labels.size(0) != ids.size[0] || labels.size(1) != ids.size[1])
    fail<io_error>(f.path(), ": in.labels is ", to_string(labels.view()), "; ", to_string(ids),
                   " is wanted");
  nn::allocate_grads(model);
  {
    auto frame = ctx.scratch.make_frame();
    typename Model::saved s;
    index_t prefix = 0;
    const auto logits = [&]() -> mlmamba::out<E, 3> {
      if constexpr (requires { model.vision_backbone; }) {  // an ml_mamba
        const auto y = model.forward(ctx, pictures, ids, s);
        prefix = s.image_tokens;
        return y;
      } else {
        return model.forward(ctx, model.embed(ctx, ids, s), s);
      }
    }();
    const auto wanted = train::shift_labels(labels.view(), prefix);
    const double counted = double(std::max<index_t>(train::labelled(labels.view(), prefix), 1));
    const double sum = train::cross_entropy_gradient<E>(ctx, logits, wanted.view(), 1.0 / counted);
    out["loss"] = {{1}, {sum / counted}, false};
    if constexpr (requires { model.vision_backbone; }) {
      model.backward(ctx, logits, s);
    } else {
      model.embed_backward(ctx, model.backward(ctx, logits, s), s);
    }
  }
  const bool step = f.has_option("adamw");
  const json rule = step ? f.object("adamw") : json::object();
  const std::string who = f.path() + ": adamw";
  const auto betas = json_get_or<std::vector<double>>(rule, "betas", {0.9, 0.999}, who);
  if (betas.size() != 2) fail<io_error>(who, ": betas are not two numbers");
  const auto decayed = json_get_or<std::vector<std::string>>(rule, "decayed", {}, who);
  nn::for_each_parameter(model, [&](const std::string& path, auto& p) {
    using P = std::remove_cvref_t<decltype(p)>;
    if (!p.trainable) return;
    const safetensors_entry& stored = named.by_path.at(path);
    const std::string name = stored.name;  // as the file calls it
    out["dweight." + name] = {stored.shape, numbers(p.grad.view()), true};
    if (!step) return;
    // Weights of less precision are updated as training does it: from a wide copy.
    using T = typename P::value_type;
    const index_t n = p.value.count();
    tensor<A, 1, M> m({n}), v({n}), wide;
    if constexpr (!std::is_same_v<T, A>) {
      wide = tensor<A, 1, M>({n});
      tensor<A, 1> exact({n});
      read_values(stored, std::span<A>(exact.data(), std::size_t(n)));
      from_host(wide.view(), std::as_const(exact).view());
    }
    const bool decays = std::find(decayed.begin(), decayed.end(), name) != decayed.end();
    run(ctx, ops::adamw<E, T>{
                 .weight = p.value.view().flat(),
                 .master = wide,
                 .grad = p.grad.view().flat(),
                 .m = m,
                 .v = v,
                 .learning_rate = json_get_or<double>(rule, "lr", 1e-3, who),
                 .beta1 = betas[0],
                 .beta2 = betas[1],
                 .epsilon = json_get_or<double>(rule, "eps", 1e-8, who),
                 .weight_decay = decays ? json_get_or<double>(rule, "weight_decay", 0, who) : 0});
    out["updated." + name] = {stored.shape, numbers(p.value.view())};
  });
}

}  // namespace mlmamba::check_fixture
