// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Vision transformers of the DINOv2, SigLIP, CLIP and ImageNet kinds, up to their feature block.
#pragma once

#include <cmath>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/models/position_embedding.hpp"
#include "mlmamba/models/vision_encoder.hpp"
#include "mlmamba/models/vit_config.hpp"
#include "mlmamba/nn/patch_embedding.hpp"
#include "mlmamba/nn/vit_block.hpp"

namespace mlmamba {

/// A tower whose output is the raw residual stream after its feature block (the second to last of
/// the published tower), without the prefix tokens and without a final norm.
///
///   x = patches + positions, behind the prefix tokens;   x = norm_pre(x) if there is one
///   x = block_i(x) for i up to the feature block;        y = x without the prefix
///
/// Shapes    pictures (B, 3, S, S), normalised; y (B, (S/p)^2, D), row-major
/// Numerics  the residual stream in accum, rounded once to y
/// Names     as timm's VisionTransformer
/// Source    Dosovitskiy et al. 2021, arXiv:2010.11929; for the feature, Karamcheti et al. 2024,
///           arXiv:2402.07865
template <engine E>
struct vit {
  using engine_type = E;
  using config_type = vit_config;
  using A = typename E::accum;
  using token = nn::parameter<E, 3, A>;  // matrices of this shape are never multiplied: wide
  static constexpr int towers = 1;

  vit_config config;
  token cls_token, reg_token;  // (1, 1, D), (1, R, D) or absent
  token pos_embed;             // (1, positions, D)
  nn::patch_embedding<E> patch_embed;
  nn::layer_norm<E, nn::wide> norm_pre;
  std::vector<nn::vit_block<E>> blocks;

  explicit vit(const vit_config& c)
      : config(checked(c)),
        pos_embed({1, c.positions(), c.d_model}),
        patch_embed(c.patch_size, c.d_model, c.patch_bias),
        norm_pre(c.d_model, c.epsilon) {
    if (c.class_token) cls_token = token({1, 1, c.d_model});
    if (c.registers > 0) reg_token = token({1, c.registers, c.d_model});
    for (index_t i = 0; i < c.blocks(); ++i)
      blocks.emplace_back(nn::vit_block_config{c.d_model, c.heads, c.mlp_hidden, c.epsilon,
                                               c.activation, c.qkv_bias, c.layer_scale});
  }
  static void fields(auto& self, auto&& f) {
    f("cls_token", self.cls_token), f("reg_token", self.reg_token);
    f("pos_embed", self.pos_embed), f("patch_embed", self.patch_embed);
    if (self.config.pre_norm) f("norm_pre", self.norm_pre);
    f("blocks", self.blocks);
  }
  /// Tokens and positions: normal with deviation 0.02 (the class token 1e-6); the parts by their
  /// own rules.
  static void initialise(auto& self, random_stream r) {
    random_stream c = r.fork("cls_token"), g = r.fork("reg_token"), p = r.fork("pos_embed");
    if (self.cls_token) nn::fill(self.cls_token, [&] { return 1e-6 * c.normal(); });
    if (self.reg_token) nn::fill(self.reg_token, [&] { return 1e-6 * g.normal(); });
    nn::fill(self.pos_embed, [&] { return 0.02 * p.normal(); });
    nn::initialise(self.patch_embed, r.fork("patch_embed"));
    nn::initialise(self.norm_pre, r.fork("norm_pre"));
    nn::initialise(self.blocks, r.fork("blocks"));
  }

  struct saved {
    typename nn::patch_embedding<E>::saved patches;
    typename nn::layer_norm<E, nn::wide>::saved norm_pre;
    std::vector<typename nn::vit_block<E>::saved> blocks;
  };

  index_t grid() const { return config.grid(); }
  index_t d_vision() const { return config.d_model; }

  out<E, 3> forward(context_of<E>& ctx, in<E, 4> x, saved& s) const {
    in_accum<E, 3> h = embed(ctx, x, s);
    s.blocks.resize(blocks.size());
    for (std::size_t i = 0; i < blocks.size(); ++i) h = blocks[i].forward(ctx, h, s.blocks[i]);
    return features(ctx, h);
  }
  out<E, 3> forward(context_of<E>& ctx, pictures<E> x, saved& s) const {
    return forward(ctx, only(x), s);
  }

  /// As forward, bit for bit, with the memory of one block.
  out<E, 3> encode(context_of<E>& ctx, in<E, 4> x) const {
    out<E, 3> y = ctx.template make<E, 3>({{x.size[0], config.patches(), config.d_model}});
    auto all = ctx.scratch.make_frame();
    const index_t t = config.prefix() + config.patches();
    out_accum<E, 3> h = ctx.template make_accum<E, 3>({{x.size[0], t, config.d_model}});
    {
      auto frame = ctx.scratch.make_frame();
      saved s;
      nn::assign(ctx, h, embed(ctx, x, s));
    }
    for (const auto& block : blocks) block.infer(ctx, h);
    drop_prefix(ctx, h, y);
    return y;
  }
  out<E, 3> encode(context_of<E>& ctx, pictures<E> x) const { return encode(ctx, only(x)); }

  void backward(context_of<E>& ctx, in<E, 3> dy, const saved& s) {
    auto frame = ctx.scratch.make_frame();
    backward_to_pixels(ctx, dy, s, false);
  }

  /// The same, and the gradient of the pixels if it is wanted.
  out<E, 4> backward_to_pixels(context_of<E>& ctx, in<E, 3> dy, const saved& s, bool want = true) {
    using V = typename E::value;
    const index_t b = dy.size[0], p = config.prefix(), n = config.patches(), d = config.d_model;
    out_accum<E, 3> dh = ctx.template make_accum<E, 3>({{b, p + n, d}});
    if (p > 0) run(ctx, ops::fill<E>{.y = dh.flat()});  // the prefix has no gradient from above
    nn::assign(ctx, dh.slice(1, p, n), dy);
    for (std::size_t i = blocks.size(); i-- > 0;) dh = blocks[i].backward(ctx, dh, s.blocks[i]);
    if (config.pre_norm) dh = norm_pre.backward(ctx, nn::to<V>(ctx, dh), s.norm_pre);
    const out<E, 3> de = nn::to<V>(ctx, dh);
    const auto gradient = [&](token& to, in<E, 3> from) {
      if (to.grad)
        run(ctx, ops::add_position_backward<E>{.dy = from, .dp = to.grad.view().select(0, 0)});
    };
    gradient(pos_embed, config.embed_prefix ? in<E, 3>(de) : in<E, 3>(de.slice(1, p, n)));
    gradient(cls_token, de.slice(1, 0, config.class_token ? 1 : 0));
    gradient(reg_token, de.slice(1, p - config.registers, config.registers));
    if (p == 0) return patch_embed.backward(ctx, de, s.patches, want);
    return patch_embed.backward(ctx, nn::to<V>(ctx, de.slice(1, p, n)), s.patches, want);
  }

  /// Stored position embeddings of another grid are resampled to this one's.
  std::optional<std::vector<float>> adapt(std::string_view name,
                                          std::span<const std::int64_t> shape,
                                          std::vector<float> values) const {
    if (shape.size() == 3 && shape[0] == 1) shape = shape.subspan(1);
    if (name != "pos_embed" || shape.size() != 2 || shape[1] != config.d_model) return std::nullopt;
    const index_t prefix = config.positions() - config.patches(), stored = shape[0] - prefix;
    if (stored < 1) return std::nullopt;
    const auto side = static_cast<index_t>(std::llround(std::sqrt(double(stored))));
    if (side * side != stored) return std::nullopt;
    return resample_positions(values, prefix, side, config.grid(), config.d_model);
  }

 private:
  static in<E, 4> only(pictures<E> x) {
    if (x.size() != 1) fail<shape_error>("vit: pictures for ", x.size(), " towers; wanted is one");
    return x[0];
  }

  in_accum<E, 3> embed(context_of<E>& ctx, in<E, 4> x, saved& s) const {
    const index_t b = x.size[0], p = config.prefix(), n = config.patches(), d = config.d_model;
    if (x.size[2] != config.image_size || x.size[3] != config.image_size)
      fail<shape_error>("vit: pictures are ", to_string(x), "; wanted are ", config.image_size,
                        " x ", config.image_size, " pixels");
    const in<E, 3> patches = patch_embed.forward(ctx, x, s.patches);  // (B, n, D)
    out_accum<E, 3> h = ctx.template make_accum<E, 3>({{b, p + n, d}});
    const in_accum<E, 2> positions = pos_embed.value.view().select(0, 0);
    const index_t shift = config.embed_prefix ? p : 0;  // positions of the prefix come first
    for (index_t i = 0; i < b; ++i) {
      const out_accum<E, 2> row = h.select(0, i);
      run(ctx, ops::add<E, A>{.a = positions.slice(0, shift, n),
                              .b = patches.select(0, i),
                              .y = row.slice(0, p, n)});
      put_token(ctx, cls_token, row, 0);
      put_token(ctx, reg_token, row, config.class_token ? 1 : 0);
    }
    if (!config.pre_norm) return h;
    return nn::to<A>(ctx, norm_pre.forward(ctx, h, s.norm_pre));
  }
  void put_token(context_of<E>& ctx, const token& t, out_accum<E, 2> row, index_t at) const {
    if (!t) return;
    const in_accum<E, 2> value = t.value.view().select(0, 0);
    const out_accum<E, 2> to = row.slice(0, at, value.size[0]);
    if (config.embed_prefix) {
      const in_accum<E, 2> positions = pos_embed.value.view().select(0, 0);
      run(ctx, ops::add<E, A, A>{.a = value, .b = positions.slice(0, at, value.size[0]), .y = to});
    } else {
      nn::assign(ctx, to, value);
    }
  }
  void drop_prefix(context_of<E>& ctx, in_accum<E, 3> h, out<E, 3> y) const {
    nn::assign(ctx, y, h.slice(1, config.prefix(), config.patches()));
  }
  out<E, 3> features(context_of<E>& ctx, in_accum<E, 3> h) const {
    out<E, 3> y = ctx.template make<E, 3>({{h.size[0], config.patches(), config.d_model}});
    drop_prefix(ctx, h, y);
    return y;
  }
};

}  // namespace mlmamba
