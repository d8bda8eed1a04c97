// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Published vision backbones by id: their towers, where the weights are, how pictures are prepared.
#pragma once

#include <array>
#include <string_view>

#include "mlmamba/io/image_transform.hpp"
#include "mlmamba/models/registry/lookup.hpp"
#include "mlmamba/models/vit_config.hpp"

namespace mlmamba {

/// One tower of a backbone.
struct vision_tower {
  std::string_view name;  ///< its part in parameter names: "dino_featurizer"
  vit_config config;
  std::string_view repository;    ///< on the hub
  index_t stored_image_size = 0;  ///< whose grid the stored positions have; 0: that of the config
};

/// One or two towers whose channels are joined in this order.
struct vision_backbone {
  std::string_view id;
  std::string_view title;             ///< for people
  std::array<vision_tower, 2> tower;  ///< the second is unused if it has no name

  constexpr std::size_t towers() const { return tower[1].name.empty() ? 1 : 2; }
  /// Channels of a token.
  constexpr index_t d_vision() const {
    return tower[0].config.d_model + (towers() == 2 ? tower[1].config.d_model : 0);
  }
  constexpr index_t grid() const { return tower[0].config.grid(); }
  constexpr index_t patches() const { return tower[0].config.patches(); }
};

/// How pictures are prepared for a tower of this family and size.
///
/// CLIP-B/16 is published with a crop that leaves a margin (shorter edge 248 of 224); the original
/// removes such margins of SigLIP and ImageNet towers, and keeps this one.
inline image_transform transform_of(const vit_config& c,
                                    resize_strategy strategy = resize_strategy::naive) {
  const std::string_view family =
      c.kind == vit_kind::dinov2_reg4 ? std::string_view("dinov2") : name_of(c.kind);
  auto t = image_transform::of_tower(family, static_cast<int>(c.image_size), strategy);
  if (c.kind == vit_kind::clip && c.patch_size == 16 && c.image_size == 224) t.shorter_edge = 248;
  return t;
}

namespace preset {

// CLIP beside DINOv2: the original builds that tower without quick GELU, though its weights were
// trained with it. The entry repeats the original; set `activation` for what the weights want.
inline constexpr vit_config clip_vit_l_336_in_dinoclip = [] {
  vit_config c = clip_vit_l_336;
  c.activation = activation::gelu;
  return c;
}();

namespace detail {
inline constexpr std::string_view dinov2_repository = "timm/vit_large_patch14_reg4_dinov2.lvd142m";
constexpr vision_tower dinov2(std::string_view name, const vit_config& c) {
  return {name, c, dinov2_repository, 518};  // stored positions: 37 x 37 patches
}
constexpr vision_tower alone(const vit_config& c, std::string_view repository) {
  return {"featurizer", c, repository};
}
}  // namespace detail

/// The SigLIP repositories are those of timm's image towers, with plain names; the original (timm
/// up to 1.0.12) fetches the same weights in OpenCLIP's packaging, with the text tower.
inline constexpr std::array<vision_backbone, 12> vision_backbones{{
    {"clip-vit-b",
     "CLIP ViT-B/16 @ 224px",
     {{detail::alone(clip_vit_b, "timm/vit_base_patch16_clip_224.openai"), {}}}},
    {"clip-vit-l",
     "CLIP ViT-L/14 @ 224px",
     {{detail::alone(clip_vit_l, "timm/vit_large_patch14_clip_224.openai"), {}}}},
    {"clip-vit-l-336px",
     "CLIP ViT-L/14 @ 336px",
     {{detail::alone(clip_vit_l_336, "timm/vit_large_patch14_clip_336.openai"), {}}}},
    {"siglip-vit-b16-224px",
     "SigLIP ViT-B/16 @ 224px",
     {{detail::alone(siglip_b16_224, "timm/vit_base_patch16_siglip_224.webli"), {}}}},
    {"siglip-vit-b16-256px",
     "SigLIP ViT-B/16 @ 256px",
     {{detail::alone(siglip_b16_256, "timm/vit_base_patch16_siglip_256.webli"), {}}}},
    {"siglip-vit-b16-384px",
     "SigLIP ViT-B/16 @ 384px",
     {{detail::alone(siglip_b16_384, "timm/vit_base_patch16_siglip_384.webli"), {}}}},
    {"siglip-vit-so400m",
     "SigLIP ViT-SO/14 @ 224px",
     {{detail::alone(siglip_so400m_224, "timm/vit_so400m_patch14_siglip_224.webli"), {}}}},
    {"siglip-vit-so400m-384px",
     "SigLIP ViT-SO/14 @ 384px",
     {{detail::alone(siglip_so400m_384, "timm/vit_so400m_patch14_siglip_384.webli"), {}}}},
    {"dinov2-vit-l", "DINOv2 ViT-L/14 @ 224px", {{detail::dinov2("featurizer", dinov2_l_224), {}}}},
    {"in1k-vit-l",
     "ImageNet ViT-L/16 @ 224px",
     {{detail::alone(in1k_vit_l, "timm/vit_large_patch16_224.augreg_in21k_ft_in1k"), {}}}},
    {"dinoclip-vit-l-336px",
     "DINOv2 ViT-L/14 + CLIP ViT-L/14 @ 336px",
     {{detail::dinov2("dino_featurizer", dinov2_l_336),
       {"clip_featurizer", clip_vit_l_336_in_dinoclip, "timm/vit_large_patch14_clip_336.openai"}}}},
    {"dinosiglip-vit-so-384px",
     "DINOv2 ViT-L/14 + SigLIP ViT-SO/14 @ 384px",
     {{detail::dinov2("dino_featurizer", dinov2_l_384),
       {"siglip_featurizer", siglip_so400m_384, "timm/vit_so400m_patch14_siglip_384.webli"}}}},
}};
static_assert(vision_backbones[11].d_vision() == 2176 && vision_backbones[11].patches() == 729);

/// Errors: error that lists the ids there are.
inline const vision_backbone& vision_backbone_of(std::string_view id) {
  return registry::get("vision backbone", vision_backbones, id);
}

}  // namespace preset
}  // namespace mlmamba
