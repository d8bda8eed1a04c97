// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A tokenizer and untrained models, small enough for tests, that say different things.
#pragma once

#include "mlmamba/backend/reference.hpp"
#include "mlmamba/models/connectors/mlp.hpp"
#include "mlmamba/models/mamba_lm.hpp"
#include "mlmamba/models/ml_mamba.hpp"
#include "mlmamba/models/vit.hpp"
#include "mlmamba/text/bpe_trainer.hpp"
#include "mlmamba/text/generate.hpp"

namespace mlmamba::test {

using E = reference_f32;
using lm_type = mamba_lm<E>;
using seeing_type = ml_mamba<vit<E>, mlp_connector<E>, mamba_lm<E>>;

inline const tokenizer& words() {
  static const tokenizer t = [] {
    bpe_trainer trainer({.vocabulary = 300, .least_count = 1});
    trainer.add("is there a bag, coat or shirt at the top left? yes no");
    return tokenizer::parse(trainer.train(), "test");
  }();
  return t;
}
inline mamba_config sizes() {
  mamba_config c;
  c.mixer.d_model = 16;
  c.mixer.headdim = 8;
  c.mixer.d_state = 4;
  c.n_layer = 2;
  c.vocab_size = words().size();
  c.pad_vocab_size_multiple = 64;  // there are logits of no token
  c.tie_embeddings = false;        // else each token would suggest itself
  return c;
}
/// Large weights: an untrained model that says different things.
template <class F>
const mamba_lm<F>& model_on() {
  static const mamba_lm<F> m = [] {
    mamba_lm<F> made(sizes());
    nn::initialise(made, {4, 0, 0});
    random_stream r{8, 0, 0};
    nn::fill(made.head, [&] { return r.normal(); });
    nn::fill(made.backbone.embedding.weight, [&] { return r.normal(); });
    return made;
  }();
  return m;
}
inline const lm_type& model() { return model_on<E>(); }
inline context_of<E>& ctx() {
  static context_of<E> c;
  return c;
}
/// The small model behind a tower that sees pictures of 8 x 8.
inline const seeing_type& seeing_model() {
  static const seeing_type m = [] {
    seeing_type made(vit<E>(make_vit_config(vit_kind::siglip, 8, 4, 8, 2, 2, 2)), lm_type(sizes()));
    nn::initialise(made, {4, 0, 0});
    made.llm_backbone.head = model().head;
    made.llm_backbone.backbone.embedding.weight = model().backbone.embedding.weight;
    return made;
  }();
  return m;
}
/// A picture of noise as that tower takes it.
inline std::vector<tensor<float, 4>> noise_picture(std::uint64_t seed) {
  image picture{9, 7, std::vector<std::uint8_t>(189)};
  random_stream r{seed, 0, 0};
  for (auto& u : picture.rgb) u = std::uint8_t(r.below(256));
  const std::vector<image_transform> rule{{.size = 8}};
  return pixels_of(picture, rule);
}
/// Greedy tokens by forward over everything, again for each token.
inline std::vector<std::int32_t> slowly(std::vector<std::int32_t> ids, int n) {
  std::vector<std::int32_t> made;
  for (int i = 0; i < n; ++i) {
    auto frame = ctx().scratch.make_frame();
    lm_type::saved s;
    const in_index<E, 2> view(ids.data(), shape<2>{{1, index_t(ids.size())}});
    const auto y = model().forward(ctx(), model().embed(ctx(), view, s), s);
    std::int32_t best = 0;
    for (std::int32_t v = 1; v < words().size(); ++v)
      if (y(0, y.size[1] - 1, v) > y(0, y.size[1] - 1, best)) best = v;
    made.push_back(best);
    if (best == *words().eos()) break;
    ids.push_back(best);
  }
  return made;
}
template <class G>
std::vector<std::int32_t> tokens_of(G&& g) {
  g.rest();
  return {g.tokens().begin(), g.tokens().end()};
}

}  // namespace mlmamba::test
