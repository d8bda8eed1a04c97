// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Sizes of vision transformers, and those of the published towers by name.
#pragma once

#include <array>
#include <string_view>

#include "mlmamba/core/error.hpp"
#include "mlmamba/core/scalar.hpp"
#include "mlmamba/core/view.hpp"

namespace mlmamba {

/// The families of published towers; they differ in more than sizes.
enum class vit_kind : std::uint8_t { dinov2_reg4, siglip, clip, in1k };

inline constexpr std::string_view name_of(vit_kind k) {
  constexpr std::string_view names[] = {"dinov2-reg4", "siglip", "clip", "in1k"};
  return names[static_cast<std::size_t>(k)];
}

/// What a vision transformer is made of. Pixels are lengths of the (square) picture.
struct vit_config {
  vit_kind kind = vit_kind::siglip;  ///< names the family; the fields below say what it means
  index_t image_size = 224;
  index_t patch_size = 14;
  index_t d_model = 1152;
  index_t depth = 27;  ///< blocks of the published tower; those after the feature block don't exist
  index_t heads = 16;
  index_t mlp_hidden = 4304;
  double epsilon = 1e-6;  ///< of every LayerNorm
  mlmamba::activation activation = mlmamba::activation::gelu;
  bool patch_bias = true;
  bool qkv_bias = true;
  bool class_token = false;
  index_t registers = 0;      ///< more prefix tokens, after the class token
  bool embed_prefix = false;  ///< do prefix tokens have position embeddings? (timm: no_embed_class)
  bool layer_scale = false;   ///< a learned gain per channel after attention and MLP
  bool pre_norm = false;      ///< LayerNorm of the embeddings, before the blocks
  index_t feature_block = -2;  ///< whose output is the feature; negative: from the end of depth

  constexpr index_t grid() const { return image_size / patch_size; }
  constexpr index_t patches() const { return grid() * grid(); }
  constexpr index_t prefix() const { return (class_token ? 1 : 0) + registers; }
  constexpr index_t positions() const { return patches() + (embed_prefix ? prefix() : 0); }
  constexpr index_t head_size() const { return d_model / heads; }
  /// How many blocks are run, and exist.
  constexpr index_t blocks() const {
    return (feature_block < 0 ? depth + feature_block : feature_block) + 1;
  }
};

/// The first thing that makes no sense, or null.
constexpr const char* problem_with(const vit_config& c) {
  if (c.image_size < 1 || c.image_size > 1 << 14) return "image_size is not in 1 to 16384";
  if (c.patch_size < 1 || c.patch_size > c.image_size)
    return "patch_size is not in 1 to image_size";
  if (c.d_model < 1 || c.d_model > 1 << 20) return "d_model is not in 1 to 2^20";
  if (c.depth < 1 || c.depth > 1 << 12) return "depth is not in 1 to 4096";
  if (c.heads < 1 || c.d_model % c.heads != 0) return "heads does not divide d_model";
  if (c.mlp_hidden < 1 || c.mlp_hidden > 1 << 24) return "mlp_hidden is not in 1 to 2^24";
  if (!(c.epsilon >= 0) || c.epsilon > 1) return "epsilon is not in 0 to 1";
  if (c.registers < 0 || c.registers > 1 << 12) return "registers is not in 0 to 4096";
  if (c.blocks() < 0 || c.blocks() > c.depth) return "feature_block is not a block of the tower";
  return nullptr;
}

inline const vit_config& checked(const vit_config& c) {
  if (const char* problem = problem_with(c)) fail<shape_error>("vit_config: ", problem);
  return c;
}

/// The family's switches on a tower of these sizes. `mlp_ratio` as timm has it: the hidden width is
/// int(d_model mlp_ratio).
constexpr vit_config make_vit_config(vit_kind kind, index_t image_size, index_t patch_size,
                                     index_t d_model, index_t depth, index_t heads,
                                     double mlp_ratio = 4) {
  vit_config c;
  c.kind = kind;
  c.image_size = image_size;
  c.patch_size = patch_size;
  c.d_model = d_model;
  c.depth = depth;
  c.heads = heads;
  c.mlp_hidden = static_cast<index_t>(static_cast<double>(d_model) * mlp_ratio);
  switch (kind) {
    case vit_kind::dinov2_reg4:
      c.class_token = true;
      c.registers = 4;
      c.layer_scale = true;
      break;
    case vit_kind::siglip:
      break;
    case vit_kind::clip:
      c.class_token = c.embed_prefix = c.pre_norm = true;
      c.patch_bias = false;
      c.epsilon = 1e-5;
      c.activation = activation::quick_gelu;
      break;
    case vit_kind::in1k:
      c.class_token = c.embed_prefix = true;
      break;
  }
  return c;
}

inline vit_kind vit_kind_of(std::string_view name) {
  for (auto k : {vit_kind::dinov2_reg4, vit_kind::siglip, vit_kind::clip, vit_kind::in1k})
    if (name_of(k) == name) return k;
  if (name == "dinov2") return vit_kind::dinov2_reg4;
  fail<error>("vit: kind \"", name, "\"; dinov2-reg4, siglip, clip or in1k is wanted");
}

namespace preset {

inline constexpr vit_config clip_vit_b = make_vit_config(vit_kind::clip, 224, 16, 768, 12, 12);
inline constexpr vit_config clip_vit_l = make_vit_config(vit_kind::clip, 224, 14, 1024, 24, 16);
inline constexpr vit_config clip_vit_l_336 = make_vit_config(vit_kind::clip, 336, 14, 1024, 24, 16);
inline constexpr vit_config siglip_b16_224 =
    make_vit_config(vit_kind::siglip, 224, 16, 768, 12, 12);
inline constexpr vit_config siglip_b16_256 =
    make_vit_config(vit_kind::siglip, 256, 16, 768, 12, 12);
inline constexpr vit_config siglip_b16_384 =
    make_vit_config(vit_kind::siglip, 384, 16, 768, 12, 12);
inline constexpr vit_config siglip_so400m_224 =
    make_vit_config(vit_kind::siglip, 224, 14, 1152, 27, 16, 3.7362);
inline constexpr vit_config siglip_so400m_384 =
    make_vit_config(vit_kind::siglip, 384, 14, 1152, 27, 16, 3.7362);
inline constexpr vit_config dinov2_l_224 =
    make_vit_config(vit_kind::dinov2_reg4, 224, 14, 1024, 24, 16);
inline constexpr vit_config dinov2_l_336 =
    make_vit_config(vit_kind::dinov2_reg4, 336, 14, 1024, 24, 16);
inline constexpr vit_config dinov2_l_384 =
    make_vit_config(vit_kind::dinov2_reg4, 384, 14, 1024, 24, 16);
inline constexpr vit_config in1k_vit_l = make_vit_config(vit_kind::in1k, 224, 16, 1024, 24, 16);

static_assert(siglip_so400m_384.mlp_hidden == 4304 && siglip_so400m_384.patches() == 729);
static_assert(dinov2_l_384.patches() == 729 && dinov2_l_384.blocks() == 23);
static_assert(!problem_with(clip_vit_b) && !problem_with(siglip_so400m_384));

/// One or two towers of a published vision backbone; `name` is its part in parameter names.
struct vision_tower {
  std::string_view name;
  vit_config config;
};
struct vision_backbone {
  std::string_view id;
  std::array<vision_tower, 2> tower;  // the second is unused if it has no name
};

// CLIP beside DINOv2: the original builds that tower without quick GELU, though its weights were
// trained with it. The entry repeats the original; set `activation` for what the weights want.
inline constexpr vit_config clip_vit_l_336_in_dinoclip = [] {
  vit_config c = clip_vit_l_336;
  c.activation = activation::gelu;
  return c;
}();

inline constexpr std::array<vision_backbone, 12> vision_backbones{{
    {"clip-vit-b", {{{"featurizer", clip_vit_b}, {}}}},
    {"clip-vit-l", {{{"featurizer", clip_vit_l}, {}}}},
    {"clip-vit-l-336px", {{{"featurizer", clip_vit_l_336}, {}}}},
    {"siglip-vit-b16-224px", {{{"featurizer", siglip_b16_224}, {}}}},
    {"siglip-vit-b16-256px", {{{"featurizer", siglip_b16_256}, {}}}},
    {"siglip-vit-b16-384px", {{{"featurizer", siglip_b16_384}, {}}}},
    {"siglip-vit-so400m", {{{"featurizer", siglip_so400m_224}, {}}}},
    {"siglip-vit-so400m-384px", {{{"featurizer", siglip_so400m_384}, {}}}},
    {"dinov2-vit-l", {{{"featurizer", dinov2_l_224}, {}}}},
    {"in1k-vit-l", {{{"featurizer", in1k_vit_l}, {}}}},
    {"dinoclip-vit-l-336px",
     {{{"dino_featurizer", dinov2_l_336}, {"clip_featurizer", clip_vit_l_336_in_dinoclip}}}},
    {"dinosiglip-vit-so-384px",
     {{{"dino_featurizer", dinov2_l_384}, {"siglip_featurizer", siglip_so400m_384}}}},
}};

inline const vision_backbone& vision_backbone_of(std::string_view id) {
  for (const vision_backbone& b : vision_backbones)
    if (b.id == id) return b;
  fail<error>("vision backbone \"", id, "\" is not known; wanted is one such as ",
              vision_backbones.back().id);
}

}  // namespace preset
}  // namespace mlmamba
