# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# Fixtures of vision towers: timm's VisionTransformer, small, with the constructor arguments of the published entries.
import json
from functools import partial

import torch

from fixture import Draw, write

# What timm's own entries pass beside the sizes: vit_large_patch14_reg4_dinov2, vit_so400m_patch14_siglip_384,
# vit_large_patch14_clip_quickgelu_336.
KINDS = {"dinov2-reg4": dict(init_values=1e-5, reg_tokens=4, no_embed_class=True),
         "siglip": dict(class_token=False, global_pool="map"),
         "clip": dict(pre_norm=True, act_layer="quick_gelu")}


def norm_eps(kind):
    return 1e-5 if kind == "clip" else 1e-6


def tower(kind, r, scale=1.0, **sizes):
    """A timm model with every parameter random, in float64. A small scale of the embeddings shows the norms' eps."""
    from timm.layers import LayerNorm
    from timm.models.vision_transformer import VisionTransformer
    arguments = {**KINDS[kind], "num_classes": 0, **sizes}
    if kind == "clip":
        arguments["norm_layer"] = partial(LayerNorm, eps=1e-5)
    model = VisionTransformer(**arguments).double().eval()
    assert model.blocks[0].norm1.eps == norm_eps(kind)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                p.copy_(r.normal(*p.shape, mean=1.0, std=0.2))
            elif name.endswith("gamma"):
                p.copy_(r.normal(*p.shape, mean=0.5, std=0.3))
            elif name.endswith("bias") and not name.startswith("patch_embed"):
                p.copy_(r.normal(*p.shape, std=0.2))
            elif name in ("cls_token", "reg_token", "pos_embed", "attn_pool.latent"):
                p.copy_(r.normal(*p.shape, std=0.7 * scale))
            elif name.startswith("patch_embed"):
                p.copy_(r.normal(*p.shape, std=1.5 * scale * p[0].numel()**-0.5))
            else:
                p.copy_(r.normal(*p.shape, std=1.5 * p[0].numel()**-0.5))
    return model


def config_of(kind, sizes):
    """The configuration stored with the weights; what it says beyond the sizes follows from the kind."""
    fixed = {"dinov2-reg4": {"reg_tokens": 4, "no_embed_class": True, "class_token": True, "init_values": 1e-5},
             "siglip": {"reg_tokens": 0, "class_token": False},
             "clip": {"reg_tokens": 0, "class_token": True, "pre_norm": True, "act_layer": "quick_gelu"}}[kind]
    return {"kind": kind, **sizes, **fixed, "layer_norm_eps": norm_eps(kind)}


def stored_weights(model, stored_grid, kind, r):
    """The state dict; with stored_grid its pos_embed is of that grid, and the model's is timm's resampling of it."""
    weights = {k: v.detach().clone() for k, v in model.state_dict().items()}
    if stored_grid:
        from timm.layers import resample_abs_pos_embed
        prefix = 1 if kind == "clip" else 0
        stored = r.normal(1, stored_grid**2 + prefix, model.embed_dim, std=0.7)
        with torch.no_grad():
            model.pos_embed.copy_(resample_abs_pos_embed(stored, list(model.patch_embed.grid_size),
                                                         num_prefix_tokens=prefix))
        weights["pos_embed"] = stored
    return weights


def is_used(name, depth):
    """Whether patches() depends on the parameter: not on those of the last block and what follows it."""
    return not name.startswith(("norm.", "attn_pool.", f"blocks.{depth - 1}."))


def patches(model, pixels, depth):
    """Residual stream after block depth-2 without prefix tokens, with gradients."""
    x = model.norm_pre(model._pos_embed(model.patch_embed(pixels)))
    for block in model.blocks[:depth - 1]:
        x = block(x)
    return x[:, model.num_prefix_tokens:]


def patches_of(model, pixels, depth):
    """Residual stream after block depth-2 without prefix tokens, by timm, checked against its layers run by hand."""
    with torch.no_grad():
        got, = model.get_intermediate_layers(pixels, n=[depth - 2], norm=False)
        by_hand = patches(model, pixels, depth)
    assert torch.allclose(got, by_hand, rtol=1e-12, atol=1e-12)
    return got


def vit(name, kind, B=1, stored_grid=None, scale=1.0, pool=False, **changes):
    sizes = {**dict(img_size=28, patch_size=7, embed_dim=15, depth=3, num_heads=3, mlp_ratio=4.0), **changes}
    r = Draw(name)
    model = tower(kind, r, scale, **sizes)
    weights = stored_weights(model, stored_grid, kind, r)
    pixels = r.normal(B, 3, sizes["img_size"], sizes["img_size"])
    tensors = {"weight." + k: v for k, v in weights.items() if pool or not k.startswith("attn_pool.")}
    tensors.update({"in.pixels": pixels, "out.penultimate_patches": patches_of(model, pixels, sizes["depth"])})
    write(name, "vit", {"kind": kind, "config": json.dumps(config_of(kind, sizes))}, tensors)


def make():
    vit("vit_dinov2_reg4", "dinov2-reg4", B=2)
    vit("vit_dinov2_reg4_patch14_cut_pixels", "dinov2-reg4", img_size=33, patch_size=14, embed_dim=12, num_heads=2)
    vit("vit_dinov2_reg4_stored_grid5", "dinov2-reg4", img_size=21, stored_grid=5, embed_dim=16, num_heads=4)
    vit("vit_dinov2_reg4_stored_grid7_of_4_depth2", "dinov2-reg4", stored_grid=7, depth=2)
    vit("vit_dinov2_reg4_stored_grid3_of_5", "dinov2-reg4", img_size=35, stored_grid=3, embed_dim=16, num_heads=2)
    vit("vit_dinov2_reg4_small_residual", "dinov2-reg4", img_size=14, embed_dim=16, num_heads=2, depth=2, scale=0.003)
    vit("vit_siglip_head10_mlp74_with_pool", "siglip", embed_dim=20, num_heads=2, depth=2, mlp_ratio=3.7362, pool=True)
    vit("vit_siglip_head9_mlp67", "siglip", B=2, embed_dim=18, num_heads=2, mlp_ratio=3.7362)
    vit("vit_siglip_grid5_stored_grid6", "siglip", img_size=35, stored_grid=6, embed_dim=16, num_heads=2)
    vit("vit_siglip_small_residual", "siglip", img_size=14, embed_dim=16, num_heads=2, depth=2, scale=0.003)
    vit("vit_clip", "clip", B=2)
    vit("vit_clip_patch14_img42", "clip", img_size=42, patch_size=14, embed_dim=12, num_heads=2)
    vit("vit_clip_stored_grid5_of_3", "clip", img_size=21, stored_grid=5, embed_dim=16, num_heads=4)
    vit("vit_clip_one_head_one_patch", "clip", img_size=7, embed_dim=8, num_heads=1)
    vit("vit_clip_small_residual", "clip", img_size=14, embed_dim=16, num_heads=2, depth=2, scale=0.01)
