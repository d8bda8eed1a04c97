// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Language models of recurrent mixers: embedding, residual blocks, norm, head.
#pragma once

#include "mlmamba/models/mamba_block.hpp"
#include "mlmamba/nn/embedding.hpp"
#include "mlmamba/nn/mamba2.hpp"

namespace mlmamba {

/// A mamba language model.
///
///   r = embedding(ids);  r += mixer_i(norm_i(r)) for each layer;  logits = norm_f(r) head^T
///
/// Shapes    ids (B, L); embeddings (B, L, d_model); logits (B, L, V) with V the padded vocabulary
/// Numerics  the residual stream in accum
/// Names     backbone.embedding.weight, backbone.layers.I.{norm,mixer,norm2,mlp}, backbone.norm_f,
///           lm_head.weight (not there if it is tied to the embedding)
template <engine E, template <class> class Mixer = nn::mamba2>
struct mamba_lm {
  using engine_type = E;
  using A = typename E::accum;
  using V = typename E::value;
  using block = mamba_block<E, Mixer>;
  using mixer_type = Mixer<E>;

  struct backbone_type {
    nn::embedding<E> embedding;
    std::vector<block> layers;
    nn::rms_norm<E, nn::wide> norm_f;
    explicit backbone_type(const mamba_config& c)
        : embedding(c.padded_vocabulary(), c.mixer.d_model),
          norm_f(c.mixer.d_model, c.norm_epsilon) {
      layers.reserve(std::size_t(c.n_layer));
      for (index_t i = 0; i < c.n_layer; ++i) layers.emplace_back(c);
    }
    static void fields(auto& self, auto&& f) {
      f("embedding", self.embedding), f("layers", self.layers), f("norm_f", self.norm_f);
    }
  };

  mamba_config config;
  backbone_type backbone;
  nn::product_weight<E> head;  // absent if tied, unless packed: then a packed embedding
  /// Training keeps only the residual before each block and runs the block again in the backward.
  bool recompute = false;

  explicit mamba_lm(const mamba_config& c) : config(checked(c)), backbone(c) {
    if (!c.tie_embeddings || packs_weights<E>)
      head = nn::product_weight<E>({c.padded_vocabulary(), c.mixer.d_model});
  }
  static void fields(auto& self, auto&& f) {
    f("backbone", self.backbone);
    if (!self.config.tie_embeddings) f("lm_head.weight", self.head);
  }
  static void prepared(auto& self, const weight_formats& formats, const std::string& path) {
    if constexpr (packs_weights<E>) {
      if (!self.config.tie_embeddings) return;
      self.head.format = formats.of(nn::join(path, "lm_head.weight"));
      const auto& table = self.backbone.embedding.weight.value;
      tensor<float, 2> wide(table.shape());
      for (index_t i = 0; i < wide.count(); ++i) wide.data()[i] = float(table.data()[i]);
      nn::set_value(self.head, wide);
    }
  }
  /// As published: residual projections are scaled down by the square root of their number.
  static void initialise(auto& self, random_stream r) {
    nn::initialise(self.backbone, r.fork("backbone"));
    const double residuals = double(self.config.n_layer) * (self.config.d_intermediate > 0 ? 2 : 1);
    random_stream s = r.fork("residual");
    auto scaled = [&](auto& w) {
      // uniform within sqrt(1 / fan_in) (kaiming with a = sqrt 5), divided by sqrt(residuals)
      const double bound = 1 / std::sqrt(double(w.value.size(1)) * residuals);
      nn::fill(w, [&] { return s.uniform(-bound, bound); });
    };
    for (block& b : self.backbone.layers) {
      scaled(b.mixer.out_proj.weight);
      if (!b.mlp.empty()) scaled(b.mlp[0].fc2.weight);
    }
    random_stream h = r.fork("lm_head");
    if (!self.config.tie_embeddings) nn::fill(self.head, [&] { return 0.02 * h.normal(); });
    prepared(self, {self.head_format(), {}}, "");
  }

  /// What the head is packed in.
  weight_format head_format() const {
    if constexpr (packs_weights<E>) return head.format;
    return {};
  }
  index_t d_model() const { return config.mixer.d_model; }
  index_t vocabulary() const { return config.padded_vocabulary(); }

  // --- training

  struct saved {
    typename nn::embedding<E>::saved embedding;
    std::vector<typename block::saved> layers;
    std::vector<in_accum<E, 3>> residuals;  // before each block, if the blocks are run again
    typename nn::rms_norm<E, nn::wide>::saved norm_f;
    in<E, 3> hidden;  // after norm_f
  };

  out<E, 3> embed(context_of<E>& ctx, in_index<E, 2> ids, saved& s) const {
    return backbone.embedding.forward(ctx, ids, s.embedding);
  }
  out<E, 3> embed(context_of<E>& ctx, in_index<E, 2> ids) const {
    typename nn::embedding<E>::saved unused;
    return backbone.embedding.forward(ctx, ids, unused);
  }
  void embed_backward(context_of<E>& ctx, in<E, 3> dembedded, const saved& s) {
    backbone.embedding.backward(ctx, dembedded, s.embedding);
  }

  /// Logits of every token.
  out<E, 3> forward(context_of<E>& ctx, in<E, 3> embedded, saved& s) const {
    in_accum<E, 3> r = nn::to<A>(ctx, embedded);
    s.layers.resize(recompute ? 0 : backbone.layers.size());
    s.residuals.clear();
    for (std::size_t i = 0; i < backbone.layers.size(); ++i) {
      if (!recompute) {
        r = backbone.layers[i].forward(ctx, r, s.layers[i]);
        continue;
      }
      s.residuals.push_back(r);
      const out_accum<E, 3> next = ctx.template make_accum<E, 3>(r.shape());
      auto frame = ctx.scratch.make_frame();
      typename block::saved unused;
      nn::assign(ctx, next, backbone.layers[i].forward(ctx, r, unused));
      r = next;
    }
    s.hidden = backbone.norm_f.forward(ctx, r, s.norm_f);
    return logits(ctx, s.hidden);
  }
  out<E, 3> backward(context_of<E>& ctx, in<E, 3> dlogits, const saved& s) {
    out<E, 3> dembedded = ctx.template make<E, 3>(s.hidden.shape());
    auto frame = ctx.scratch.make_frame();
    out_accum<E, 3> dr = ctx.template make_accum<E, 3>(s.hidden.shape());
    {
      auto inner = ctx.scratch.make_frame();
      nn::parameter<E, 2>& w = head ? head : backbone.embedding.weight;
      if (w.grad)
        run(ctx, ops::gemm<E, A>{.x = rows(dlogits).transposed(),
                                 .w = rows(s.hidden).transposed(),
                                 .y = w.grad,
                                 .accumulate = true});
      out<E, 3> dh = ctx.template make<E, 3>(s.hidden.shape());
      run(ctx,
          ops::gemm<E, V, typename E::weight>{.x = rows(dlogits),
                                              .w = in_weight<E, 2>(w.value.view()).transposed(),
                                              .y = rows(dh)});
      backbone.norm_f.backward_into(ctx, dh, dr, s.norm_f, false);
    }
    for (std::size_t i = backbone.layers.size(); i-- > 0;) {
      if (s.residuals.empty()) {
        backbone.layers[i].backward(ctx, dr, s.layers[i]);
        continue;
      }
      auto inner = ctx.scratch.make_frame();
      typename block::saved again;
      backbone.layers[i].forward(ctx, s.residuals[i], again);
      backbone.layers[i].backward(ctx, dr, again);
    }
    nn::assign(ctx, dembedded, dr);
    return dembedded;
  }

  // --- inference

  /// A value: copy it to fork, compare, save and load it (models/state.hpp).
  struct state {
    std::vector<typename Mixer<E>::state> layers;
    index_t position = 0;  // tokens read, those of a picture included
    static void fields(auto& self, auto&& f) { f("layers", self.layers); }
  };
  state make_state(index_t batch) const {
    state s;
    for (const block& b : backbone.layers) s.layers.push_back(b.mixer.make_state(batch));
    return s;
  }

  /// Continues the state with embeddings (B, L, d); logits (B, V) of the last token, in accum: in
  /// bf16 neighbours would be equal. L = 0: no logits.
  out_accum<E, 2> prefill(context_of<E>& ctx, in<E, 3> embedded, state& st) const {
    out_accum<E, 2> y = ctx.template make_accum<E, 2>({{embedded.size[0], vocabulary()}});
    auto frame = ctx.scratch.make_frame();
    typename block::stream x = block::make_stream(ctx, embedded, config);
    for (std::size_t i = 0; i < backbone.layers.size(); ++i)
      backbone.layers[i].prefill(ctx, x, st.layers[i]);
    st.position += embedded.size[1];
    if (embedded.size[1] == 0) return out_accum<E, 2>{};
    last_logits(ctx, x, y);
    return y;
  }
  /// One token per row: embeddings (B, 1, d) -> logits (B, V).
  out_accum<E, 2> step(context_of<E>& ctx, in<E, 3> embedded, state& st) const {
    out_accum<E, 2> y = ctx.template make_accum<E, 2>({{embedded.size[0], vocabulary()}});
    auto frame = ctx.scratch.make_frame();
    out_accum<E, 3> r = nn::to<A>(ctx, embedded);
    for (std::size_t i = 0; i < backbone.layers.size(); ++i)
      backbone.layers[i].step(ctx, r, st.layers[i]);
    ++st.position;
    last_logits(ctx, {r, {}}, y);
    return y;
  }
  /// One token per row: ids (B) -> logits (B, V).
  out_accum<E, 2> step(context_of<E>& ctx, in_index<E, 1> ids, state& st) const {
    return step(ctx, embed(ctx, ids.split(0, 1)), st);
  }

 private:
  static const mamba_config& checked(const mamba_config& c) {
    const char* p = nullptr;
    if constexpr (requires { Mixer<E>::problem(c.mixer); }) {
      p = problem_with(c, &Mixer<E>::problem);
    } else {
      p = problem_with(c);
    }
    if (p) fail<shape_error>("mamba_lm: ", p);
    return c;
  }
  out<E, 3> logits(context_of<E>& ctx, in<E, 3> hidden) const {
    out<E, 3> y = ctx.template make<E, 3>({{hidden.size[0], hidden.size[1], vocabulary()}});
    head_product(ctx, rows(hidden), rows(y));
    return y;
  }
  template <class Y>
  void head_product(context_of<E>& ctx, in<E, 2> hidden, view<Y, 2, typename E::memory> y) const {
    if constexpr (packs_weights<E>) {
      nn::multiply<E>(ctx, hidden, head, y);
    } else {
      nn::multiply<E>(ctx, hidden, head ? head : backbone.embedding.weight, y);
    }
  }
  void last_logits(context_of<E>& ctx, const typename block::stream& x, out_accum<E, 2> y) const {
    typename nn::rms_norm<E, nn::wide>::saved unused;
    // the last token of each row, made contiguous
    const index_t at = x.sum.size[1] - 1;
    typename block::stream last{.sum = nn::to<A>(ctx, x.sum.slice(1, at, 1))};
    last.pending = x.pending;
    if (x.pending) last.branch = nn::to<V>(ctx, x.branch.slice(1, at, 1));
    last.left = x.left;
    if (x.left.width > 0) last.left.squares = nn::to<A>(ctx, x.left.squares.slice(1, at, 1));
    const in<E, 3> normed = backbone.norm_f.forward(ctx, last.sum, unused, last.take());
    head_product(ctx, rows(normed), y);
  }
};

}  // namespace mlmamba
