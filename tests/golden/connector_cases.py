# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# Fixtures of ML-Mamba's connector and of a whole tiny ML-Mamba, written plainly in float64.
import json

import torch
import torch.nn.functional as F

import plain_models as models
import vision_cases as vision
from fixture import Draw, write


def linear(r, w, name, rows, columns):
    w[name + ".weight"] = r.normal(rows, columns, std=columns**-0.5)
    w[name + ".bias"] = r.normal(rows, std=0.2)


def affine(r, w, name, width):
    w[name + ".weight"], w[name + ".bias"] = r.normal(width, mean=1.0, std=0.2), r.normal(width, std=0.2)


PROJECTOR = {"fused-gelu-mlp": (4, 1, 1), "gelu-mlp": (1, 1), "fused-ldpnet": (4, 1)}  # widths of the linears over d


def random_connector(r, vision_dim, d, ssm_cfg, arch="fused-gelu-mlp"):
    w = {}
    linear(r, w, "mlp.0", d, vision_dim)
    for i in range(2):
        at = f"bidirectional_mamba.layers.{i}."
        models.random_mixer2(r, w, at + "mixer.", d, ssm_cfg, ("", "_b"))
        for name in ("w1", "w2", "w3"):
            linear(r, w, at + "mlp." + name, d, d)
        affine(r, w, at + "norm", d)
    affine(r, w, "bidirectional_mamba.norm_f", d)
    if arch == "linear":
        linear(r, w, "projector.projector", d, d)
        return w
    columns = d
    for i, times in enumerate(PROJECTOR[arch]):
        linear(r, w, f"projector.projector.{2 * i}", times * d, columns)
        columns = times * d
    if arch == "fused-ldpnet":
        w["projector.projector.4.peg.0.weight"] = r.normal(d, 1, 3, 3, std=0.3)
        w["projector.projector.4.peg.0.bias"] = r.normal(d, std=0.2)
    return w


def project(w, h, arch):
    if arch == "linear":
        return F.linear(h, w["projector.projector.weight"], w["projector.projector.bias"])
    for i in range(len(PROJECTOR[arch])):
        h = F.linear(F.gelu(h) if i else h, w[f"projector.projector.{2 * i}.weight"],
                     w[f"projector.projector.{2 * i}.bias"])
    if arch == "fused-ldpnet":
        grid, width = int(h.shape[1]**0.5), h.shape[2]
        map2d = F.adaptive_avg_pool2d(h.transpose(1, 2).reshape(-1, width, grid, grid), 14)
        map2d = map2d + F.conv2d(map2d, w["projector.projector.4.peg.0.weight"],
                                 w["projector.projector.4.peg.0.bias"], padding=1, groups=width)
        h = map2d.flatten(2).transpose(1, 2)
    return h


def connect(w, patches, ssm_cfg, arch="fused-gelu-mlp"):
    """The outputs of stem, scan module and projector."""
    stem = F.gelu(F.linear(patches, w["mlp.0.weight"], w["mlp.0.bias"]))
    h, d = stem, stem.shape[-1]
    for i in range(2):
        at = f"bidirectional_mamba.layers.{i}."
        h = h + models.mixer2_bidirectional(w, at + "mixer.", h, ssm_cfg)
        x = F.layer_norm(h, (d,), w[at + "norm.weight"], w[at + "norm.bias"], 1e-5)
        gate, value = (F.linear(x, w[f"{at}mlp.{n}.weight"], w[f"{at}mlp.{n}.bias"]) for n in ("w1", "w2"))
        h = h + F.linear(F.silu(gate) * value, w[at + "mlp.w3.weight"], w[at + "mlp.w3.bias"])
    scanned = F.layer_norm(h, (d,), w["bidirectional_mamba.norm_f.weight"], w["bidirectional_mamba.norm_f.bias"], 1e-5)
    return stem, scanned, project(w, scanned, arch)


def connector(name, vision_dim=20, d=32, grid=3, B=1, arch="fused-gelu-mlp", state_arch=False, **ssm):
    ssm_cfg = {"layer": "Mamba2", "headdim": 8, "d_state": 16, "chunk_size": 4, **ssm}
    r = Draw(name)
    w = random_connector(r, vision_dim, d, ssm_cfg, arch)
    patches = r.normal(B, grid * grid, vision_dim)
    stem, scanned, tokens = connect(w, patches, ssm_cfg, arch)
    options = {"vision_dim": str(vision_dim), "llm_dim": str(d), "grid": str(grid), "ssm_cfg": json.dumps(ssm_cfg)}
    if state_arch:
        options["arch_specifier"] = "no-align+" + arch if arch != "linear" else arch
    tensors = {"weight." + k: v for k, v in w.items()}
    tensors.update({"in.patches": patches, "out.mlp": stem, "out.bidirectional_mamba": scanned, "out.tokens": tokens})
    write(name, "mamba2_scan_connector", options, tensors)


def ml_mamba(name, arch="fused-gelu-mlp", d=16, vocab=45, L=7, count=8, connector_entry=None, stored_grid=None, **ssm):
    """Two towers, connector, language model; out.tokens are the connector's, out.logits those of all positions."""
    ssm_cfg = {"layer": "Mamba2", "headdim": 8, "d_state": 8, "chunk_size": 8, **ssm}
    sizes = {"dino": dict(img_size=24, patch_size=7, embed_dim=12, depth=3, num_heads=2, mlp_ratio=4.0),
             "siglip": dict(img_size=24, patch_size=7, embed_dim=10, depth=2, num_heads=2, mlp_ratio=3.7362)}
    kinds = {"dino": "dinov2-reg4", "siglip": "siglip"}
    llm = {"d_model": d, "d_intermediate": 0, "n_layer": 2, "vocab_size": vocab, "ssm_cfg": ssm_cfg,
           "attn_layer_idx": [], "attn_cfg": {}, "rms_norm": True, "residual_in_fp32": True, "fused_add_norm": True,
           "pad_vocab_size_multiple": 16, "tie_embeddings": True}
    for salt in range(200):
        r, weights, pixels, features = Draw(name, salt), {}, {}, []
        for tower, kind in kinds.items():
            vit = vision.tower(kind, r, **sizes[tower])
            stored = vision.stored_weights(vit, stored_grid if tower == "dino" else None, kind, r)
            weights.update({f"vision.{tower}.{k}": v for k, v in stored.items() if not k.startswith("attn_pool.")})
            pixels[tower] = r.normal(1, 3, sizes[tower]["img_size"], sizes[tower]["img_size"])
            features.append(vision.patches_of(vit, pixels[tower], sizes[tower]["depth"]))
        features = torch.cat(features, -1)
        w = random_connector(r, features.shape[-1], d, ssm_cfg, arch)
        language = models.random_lm2(r, llm)
        ids = r.integers(1, L, high=vocab)
        _, _, tokens = connect(w, features, ssm_cfg, arch)

        def logits_of(text):
            embedded = language["backbone.embedding.weight"][text]
            return models.lm_embedded(language, torch.cat([tokens, embedded], 1), llm)

        try:
            chosen = models.greedy(logits_of, ids, count, vocab)
            break
        except models.Unclear:
            chosen = None
    assert chosen is not None, name
    config = {t: vision.config_of(kinds[t], sizes[t]) for t in kinds}
    config.update(llm=llm, connector=connector_entry or {"type": "mamba2_scan_connector", "n_layer": 2},
                  arch_specifier="no-align+" + arch)
    tensors = {"weight." + k: v for k, v in {**weights, **w}.items()}
    tensors.update({"weight.llm_backbone." + k: v for k, v in language.items()})
    tensors.update({"in.pixels." + t: p for t, p in pixels.items()})
    tensors.update({"in.input_ids": ids, "out.features": features, "out.tokens": tokens, "out.logits": logits_of(ids),
                    "out.greedy": chosen})
    write(name, "ml_mamba", {"config": json.dumps(config)}, tensors)


def train_step(name, stage, d=8, vocab=13, L=9, B=2):
    """Loss, and of every parameter that a stage trains the gradient and what one AdamW step makes of it."""
    ssm_cfg = {"layer": "Mamba2", "headdim": 4, "d_state": 4, "chunk_size": 4}
    sizes = {"dino": dict(img_size=8, patch_size=4, embed_dim=4, depth=2, num_heads=2, mlp_ratio=2.0),
             "siglip": dict(img_size=4, patch_size=2, embed_dim=6, depth=2, num_heads=1, mlp_ratio=2.0)}
    kinds = {"dino": "dinov2-reg4", "siglip": "siglip"}
    llm = {"d_model": d, "d_intermediate": 0, "n_layer": 1, "vocab_size": vocab, "ssm_cfg": ssm_cfg,
           "attn_layer_idx": [], "attn_cfg": {}, "rms_norm": True, "residual_in_fp32": True, "fused_add_norm": True,
           "pad_vocab_size_multiple": 16, "tie_embeddings": True}
    # Biases of attention's keys change nothing: their gradients are rounding errors, whose signs a small eps would show.
    rule = dict(lr=1e-2, betas=(0.9, 0.999), eps=1e-3 if stage == "full-finetune" else 1e-8)
    def draw(salt):
        r, towers, pixels = Draw(name, salt), {}, {}
        for tower, kind in kinds.items():
            towers[tower] = vision.tower(kind, r, **sizes[tower])
            pixels[tower] = r.normal(B, 3, sizes[tower]["img_size"], sizes[tower]["img_size"])
        w = random_connector(r, sum(s["embed_dim"] for s in sizes.values()), d, ssm_cfg)
        language = models.random_lm2(r, llm)
        language.pop("lm_head.weight")  # the embedding
        ids = r.integers(B, L, high=vocab)
        labels = torch.where(r.uniform(B, L) < 0.25, torch.tensor(-100), ids)
        labels[:, 0] = -100 if stage != "align" else ids[:, 0]  # a caption's first token is the last patch's to say
        labels[1, L - 2:] = -100  # padding
        parameters = {"llm_backbone." + k: v for k, v in language.items()}
        parameters.update(w)
        for tower, vit in towers.items():
            parameters.update({f"vision.{tower}.{k}": p for k, p in vit.named_parameters()
                               if vision.is_used(k, sizes[tower]["depth"])})
        trained = {k: p for k, p in parameters.items()
                   if {"vision": stage == "full-finetune", "llm_backbone": stage != "align"}.get(k.split(".")[0], True)}
        for k, p in parameters.items():
            p.requires_grad_(k in trained)

        def backward():
            for p in trained.values():
                p.grad = None
            features = torch.cat([vision.patches(towers[t], pixels[t], sizes[t]["depth"]) for t in kinds], -1)
            _, _, tokens = connect(w, features, ssm_cfg)
            table = language["backbone.embedding.weight"]
            logits = models.lm_embedded({**language, "lm_head.weight": table}, torch.cat([tokens, table[ids]], 1), llm)
            whole = torch.cat([torch.full((B, tokens.shape[1]), -100), labels], 1)
            loss = F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), whole[:, 1:].reshape(-1))
            loss.backward()
            return loss.detach()

        return towers, pixels, ids, labels, parameters, trained, backward

    def sensitivity(salt):
        """How many times larger the worst gradient's relative change is than that of all parameters."""
        _, _, _, _, parameters, trained, backward = draw(salt)
        backward()
        if not models.adamw_is_clear(trained, rule):
            return float("inf")
        before = {k: p.grad for k, p in trained.items()}
        r = Draw(name + " noise", salt)
        with torch.no_grad():
            for p in parameters.values():
                p.mul_(1 + 1e-6 * r.normal(*p.shape))
        backward()
        return max((trained[k].grad - g).norm() / g.norm() for k, g in before.items()) / 1e-6

    salt = min(range(100), key=sensitivity)  # what rounding disturbs least
    towers, pixels, ids, labels, parameters, trained, backward = draw(salt)
    loss = backward()
    assert models.adamw_is_clear(trained, rule), name
    assert all(p.grad is None for k, p in parameters.items() if k not in trained)
    before = {n: p.detach().clone() for n, p in parameters.items()}
    decayed = [n for n, p in trained.items() if p.dim() > 1 and not n.endswith(".bias")]
    groups = [{"params": [p for n, p in trained.items() if (n in decayed) == on], "weight_decay": 0.1 * on}
              for on in (True, False)]
    torch.optim.AdamW(groups, **rule).step()
    config = {t: vision.config_of(kinds[t], sizes[t]) for t in kinds}
    config.update(llm=llm, connector={"type": "mamba2_scan_connector", "n_layer": 2},
                  arch_specifier="no-align+fused-gelu-mlp")
    tensors = {"weight." + n: v for n, v in before.items()}
    # The last block and norm of a tower are in its file, and nothing reads them.
    for tower, vit in towers.items():
        tensors.update({f"weight.vision.{tower}.{k}": p.detach() for k, p in vit.named_parameters()
                        if not k.startswith("attn_pool.") and f"weight.vision.{tower}.{k}" not in tensors})
    tensors["weight.llm_backbone.lm_head.weight"] = before["llm_backbone.backbone.embedding.weight"]
    tensors.update({"out.dweight." + n: p.grad for n, p in trained.items()})
    tensors.update({"out.updated." + n: p.detach() for n, p in trained.items()})
    tensors.update({"in.pixels." + t: p for t, p in pixels.items()})
    tensors.update({"in.input_ids": ids, "in.labels": labels, "out.loss": loss.reshape(1)})
    adamw = {**rule, "weight_decay": 0.1, "decayed": decayed}
    write(name, "ml_mamba", {"config": json.dumps(config), "stage": stage, "adamw": json.dumps(adamw),
                             "tolerance": 1e-5}, tensors)
    print(f"{name}: draw {salt}, sensitivity {sensitivity(salt):.1f}, {len(trained)} of {len(parameters)} parameters")


def make():
    train_step("ml_mamba_train_step_finetune", "finetune")
    train_step("ml_mamba_train_step_align", "align")
    train_step("ml_mamba_train_step_full_finetune", "full-finetune")
    with torch.no_grad():
        connector("mamba2_scan_connector_grid3", d=24)
        connector("mamba2_scan_connector_grid5_batch2", grid=5, d=16, B=2)
        connector("mamba2_scan_connector_grid1", grid=1, d=16, headdim=16)
        connector("mamba2_scan_connector_groups2", d=16, ngroups=2, d_state=8)
        connector("mamba2_scan_connector_arch_gelu_mlp", d=16, arch="gelu-mlp", state_arch=True, d_state=8)
        connector("mamba2_scan_connector_arch_linear", d=16, arch="linear", state_arch=True, d_state=8)
        connector("mamba2_scan_connector_arch_ldpnet_grid5", d=8, grid=5, arch="fused-ldpnet", state_arch=True,
                  d_state=8)
        connector("mamba2_scan_connector_arch_ldpnet_grid15", d=8, grid=15, vision_dim=6, arch="fused-ldpnet",
                  state_arch=True, d_state=8)
        ml_mamba("ml_mamba_two_towers")
        ml_mamba("ml_mamba_stored_grid5_name_only_connector", d=8, L=1, stored_grid=5,
                 connector_entry="mamba2_scan_connector")
