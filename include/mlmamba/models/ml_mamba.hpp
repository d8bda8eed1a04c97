// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The multimodal model: vision encoder, connector, language model, composed by type.
#pragma once

#include <concepts>
#include <string>
#include <utility>

#include "mlmamba/models/connector.hpp"
#include "mlmamba/models/vision_encoder.hpp"
#include "mlmamba/nn/functional.hpp"

namespace mlmamba {

/// All parts are on one engine.
template <class Part, class... Others>
concept same_engine = (std::same_as<typename Part::engine_type, typename Others::engine_type> &&
                       ...);

/// Reads embeddings, gives logits, and carries a state from token to token.
template <class L>
concept language_model = nn::module<L> &&
    requires(L& m, const L& c, context_of<typename L::engine_type>& ctx,
             in<typename L::engine_type, 3> x, in_index<typename L::engine_type, 2> ids,
             in_index<typename L::engine_type, 1> row, typename L::saved& s,
             typename L::state& st) {
  { c.d_model() } -> std::same_as<index_t>;
  { c.vocabulary() } -> std::same_as<index_t>;
  { c.embed(ctx, ids, s) } -> std::same_as<out<typename L::engine_type, 3>>;
  { c.embed(ctx, ids) } -> std::same_as<out<typename L::engine_type, 3>>;
  { c.forward(ctx, x, s) } -> std::same_as<out<typename L::engine_type, 3>>;
  { m.backward(ctx, x, s) } -> std::same_as<out<typename L::engine_type, 3>>;
  m.embed_backward(ctx, x, s);
  { c.make_state(index_t{}) } -> std::same_as<typename L::state>;
  { c.prefill(ctx, x, st) } -> std::same_as<out_accum<typename L::engine_type, 2>>;
  { c.step(ctx, row, st) } -> std::same_as<out_accum<typename L::engine_type, 2>>;
};

/// A vision encoder, a connector and a language model.
///
///   tokens = projector(vision_backbone(pictures));   logits = llm_backbone([tokens ; E(ids)])
///
/// The picture comes first, with nothing before it. A batch is either of pictures with text or of
/// text alone (no pictures given); rows of both kinds in one batch are refused.
///
/// Shapes    pictures: one (B, 3, S, S) per tower; ids (B, L); logits (B, T + L, V), T the tokens
///           of the picture
/// Names     vision_backbone.*, llm_backbone.*; the connector's below projector.*, but those of
///           scan_connector beside them: mlp.*, bidirectional_mamba.*, projector.*
/// Training  parts without gradients (nn::freeze) are run without keeping activations where no
///           gradient has to pass through them
/// Source    Huang et al. 2024, arXiv:2407.19832
template <vision_encoder Vision, connector Connector, language_model Language>
requires same_engine<Vision, Connector, Language>
struct ml_mamba {
  using engine_type = typename Language::engine_type;
  using E = engine_type;
  using vision_type = Vision;
  using connector_type = Connector;
  using language_type = Language;
  using state = typename Language::state;

  Vision vision_backbone;
  Connector connector;
  Language llm_backbone;

  explicit ml_mamba(Vision v, Connector c, Language l)
      : vision_backbone(std::move(v)), connector(std::move(c)), llm_backbone(std::move(l)) {
    if constexpr (requires { connector.shape; }) {
      if (!(connector.shape == shape_for(vision_backbone, llm_backbone)))
        fail<shape_error>(
            "ml_mamba: the connector maps ", connector.shape.d_vision, " to ",
            connector.shape.d_model, " channels on a grid of ", connector.shape.grid_rows, " x ",
            connector.shape.grid_cols, "; wanted is ", vision_backbone.d_vision(), " to ",
            llm_backbone.d_model(), " on ", vision_backbone.grid(), " x ", vision_backbone.grid());
    }
  }
  /// With a connector made for the two.
  explicit ml_mamba(Vision v, Language l)
      : ml_mamba(std::move(v), Connector(shape_for(v, l)), std::move(l)) {}

  static connector_shape shape_for(const Vision& v, const Language& l) {
    return {v.d_vision(), l.d_model(), v.grid(), v.grid()};
  }

  static void fields(auto& self, auto&& f) {
    f("vision_backbone", self.vision_backbone);
    if constexpr (requires { Connector::names_are_top_level; }) {
      Connector::fields(self.connector, f);
    } else {
      f("projector", self.connector);
    }
    f("llm_backbone", self.llm_backbone);
  }
  static void initialise(auto& self, random_stream r) {
    nn::initialise(self.vision_backbone, r.fork("vision_backbone"));
    nn::initialise(self.connector, r.fork("projector"));
    nn::initialise(self.llm_backbone, r.fork("llm_backbone"));
  }

  // --- training

  struct saved {
    typename Vision::saved vision;
    typename Connector::saved connector;
    typename Language::saved language;
    index_t image_tokens = 0;
    bool through_vision = false, through_connector = false;
  };

  out<E, 3> forward(context_of<E>& ctx, pictures<E> x, in_index<E, 2> ids, saved& s) const {
    s.through_vision = !x.empty() && has_gradients(vision_backbone);
    s.through_connector = !x.empty() && (s.through_vision || has_gradients(connector));
    const in<E, 3> text = llm_backbone.embed(ctx, ids, s.language);
    if (x.empty()) {
      s.image_tokens = 0;
      return llm_backbone.forward(ctx, text, s.language);
    }
    check_batch(x, ids.size[0]);
    const in<E, 3> features = s.through_vision ? vision_backbone.forward(ctx, x, s.vision)
                                               : vision_backbone.encode(ctx, x);
    const in<E, 3> image =
        s.through_connector ? connector.forward(ctx, features, s.connector) : tokens(ctx, features);
    s.image_tokens = image.size[1];
    return llm_backbone.forward(ctx, join(ctx, image, text), s.language);
  }

  /// Adds to the gradients of every part that has some.
  void backward(context_of<E>& ctx, in<E, 3> dlogits, const saved& s) {
    auto frame = ctx.scratch.make_frame();
    const in<E, 3> d = llm_backbone.backward(ctx, dlogits, s.language);
    const index_t t = s.image_tokens;
    llm_backbone.embed_backward(ctx, t == 0 ? d : in<E, 3>(part(ctx, d, t, d.size[1] - t)),
                                s.language);
    if (!s.through_connector) return;
    const in<E, 3> dfeatures = connector.backward(ctx, part(ctx, d, 0, t), s.connector);
    if (s.through_vision) vision_backbone.backward(ctx, dfeatures, s.vision);
  }

  // --- inference

  /// What the towers see: (B, grid^2, d_vision).
  out<E, 3> features(context_of<E>& ctx, pictures<E> x) const {
    return vision_backbone.encode(ctx, x);
  }
  /// What the language model is given of it: (B, T, d_model). A connector with a member tokens()
  /// (T) is run in a frame of its own.
  out<E, 3> tokens(context_of<E>& ctx, in<E, 3> features) const {
    typename Connector::saved s;
    if constexpr (requires {
                    { connector.tokens() } -> std::same_as<index_t>;
                  }) {
      out<E, 3> y = ctx.template make<E, 3>({{features.size[0], connector.tokens(), d_model()}});
      auto frame = ctx.scratch.make_frame();
      nn::assign(ctx, y, connector.forward(ctx, features, s));
      return y;
    } else {  // how many there will be is not known before: what the connector made stays
      return connector.forward(ctx, features, s);
    }
  }

  /// Embeddings [picture ; text] for `prefill`; either may be left out (no pictures, L = 0).
  out<E, 3> embed(context_of<E>& ctx, pictures<E> x, in_index<E, 2> ids) const {
    if (x.empty()) return llm_backbone.embed(ctx, ids);
    check_batch(x, ids.size[0]);
    const in<E, 3> image = tokens(ctx, features(ctx, x));
    return join(ctx, image, llm_backbone.embed(ctx, ids));
  }
  out<E, 3> embed(context_of<E>& ctx, in_index<E, 2> ids) const {
    return llm_backbone.embed(ctx, ids);
  }

  state make_state(index_t batch) const { return llm_backbone.make_state(batch); }
  out_accum<E, 2> prefill(context_of<E>& ctx, in<E, 3> embedded, state& st) const {
    return llm_backbone.prefill(ctx, embedded, st);
  }
  out_accum<E, 2> prefill(context_of<E>& ctx, pictures<E> x, in_index<E, 2> ids, state& st) const {
    return llm_backbone.prefill(ctx, embed(ctx, x, ids), st);
  }
  out_accum<E, 2> step(context_of<E>& ctx, in_index<E, 1> ids, state& st) const {
    return llm_backbone.step(ctx, ids, st);
  }
  index_t d_model() const { return llm_backbone.d_model(); }
  index_t vocabulary() const { return llm_backbone.vocabulary(); }

 private:
  template <class M>
  static bool has_gradients(const M& m) {
    bool found = false;
    nn::for_each_parameter(m, [&](const std::string&, const auto& p) { found |= bool(p.grad); });
    return found;
  }
  static void check_batch(pictures<E> x, index_t rows) {
    for (const in<E, 4>& p : x)
      if (p.size[0] != rows)
        fail<shape_error>("ml_mamba: ", p.size[0], " pictures and ", rows,
                          " rows of text; wanted is a picture for each row, or none at all");
  }
  static out<E, 3> join(context_of<E>& ctx, in<E, 3> image, in<E, 3> text) {
    const index_t t = image.size[1], l = text.size[1];
    out<E, 3> y = ctx.template make<E, 3>({{text.size[0], t + l, text.size[2]}});
    nn::assign(ctx, y.slice(1, 0, t), image);
    nn::assign(ctx, y.slice(1, t, l), text);
    return y;
  }
  static out<E, 3> part(context_of<E>& ctx, in<E, 3> x, index_t from, index_t n) {
    return nn::to<typename E::value>(ctx, x.slice(1, from, n));
  }
};

}  // namespace mlmamba
