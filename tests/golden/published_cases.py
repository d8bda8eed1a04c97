# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# Whole tiny models in the layouts in which models are published, as PyTorch writes them, with their answers beside:
# published/NAME is the folder of a model, published/NAME_answers.safetensors what it answers.
import json

import torch
import torch.nn.functional as F

import connector_cases as connectors
import plain_models as models
import vision_cases as vision
from fixture import HERE, Draw, write

KINDS = {"dino": "dinov2-reg4", "siglip": "siglip"}
SIZES = {"dino": dict(img_size=24, patch_size=7, embed_dim=12, depth=3, num_heads=2, mlp_ratio=4.0),
         "siglip": dict(img_size=24, patch_size=7, embed_dim=10, depth=2, num_heads=2, mlp_ratio=3.7362)}


def single(tensors):
    """float32 copies with storages of their own; tensors that are one stay one."""
    made = {}
    return {k: made.setdefault(id(v), v.detach().to(torch.float32).clone()) for k, v in tensors.items()}


def folder(name):
    path = HERE / "published" / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def save_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def greedy(logits_of, ids, count, vocab):
    """As models.greedy, with a margin that float32 keeps."""
    start = ids.shape[1]
    for _ in range(count):
        best = logits_of(ids)[0, -1].topk(2)
        if best.values[0] - best.values[1] < 0.01 or best.indices[0] >= vocab:
            raise models.Unclear
        ids = torch.cat([ids, best.indices[:1][None]], 1)
    return ids[:, start:]


def towers(r, stored_grid):
    """(stored weights, pixels, features) of both towers."""
    stored, pixels, features = {}, {}, []
    for name, kind in KINDS.items():
        vit = vision.tower(kind, r, **SIZES[name])
        stored[name] = vision.stored_weights(vit, stored_grid if name == "dino" else None, kind, r)
        side = SIZES[name]["img_size"]
        pixels[name] = r.normal(1, 3, side, side)
        features.append(vision.patches_of(vit, pixels[name], SIZES[name]["depth"]))
    return stored, pixels, torch.cat(features, -1)


def clear_draw(name, draw, count=32, L=7):
    """The first draw of a model whose `count` greedy tokens are clear, and its answers."""
    for salt in range(300):
        r = Draw(name, salt)
        model = draw(r)
        ids = r.integers(1, L, high=model["vocab"])

        def logits_of(text):
            embedded = F.embedding(text, model["language"]["backbone.embedding.weight"])
            if "tokens" in model:
                embedded = torch.cat([model["tokens"], embedded], 1)
            return models.lm_embedded(model["language"], embedded, model["llm"])

        try:
            chosen = greedy(logits_of, ids, count, model["vocab"])
        except models.Unclear:
            continue
        print(f"{name}: draw {salt}")
        return model, {"in.input_ids": ids, "out.logits": logits_of(ids), "out.greedy": chosen}
    raise AssertionError(name)


def original_config(model_id, arch, llm_id, llm):
    """The original's config.json, and in it the sizes of the parts, which are none of the published ones."""
    model = {"type": model_id, "model_id": model_id, "arch_specifier": arch,
             "vision_backbone_id": "dinosiglip-vit-so-384px", "llm_backbone_id": llm_id,
             "image_resize_strategy": "resize-naive", "llm_max_length": 2048, "finetune_epochs": 1,
             "finetune_max_steps": None, "finetune_learning_rate": 2e-5}
    model.update({t: vision.config_of(KINDS[t], SIZES[t]) for t in KINDS}, llm=llm)
    return {"dataset": {"type": "llava-lvis4v-lrv", "dataset_id": "llava-lvis4v-lrv"}, "hf_token": ".hf_token",
            "model": model, "pretrained_checkpoint": None, "run_id": "tiny+stage-finetune+x7", "seed": 7,
            "stage": "finetune", "trackers": ["jsonl"], "wandb_entity": None, "wandb_project": "mlmamba"}


def ml_mamba():
    """The original's folder. Towers in timm/: DINOv2 with positions of another grid, SigLIP as OpenCLIP packs it."""
    llm = {"d_model": 16, "d_intermediate": 0, "n_layer": 2, "vocab_size": 45, "attn_layer_idx": [], "attn_cfg": {},
           "ssm_cfg": {"layer": "Mamba2", "headdim": 8, "d_state": 8, "chunk_size": 8}, "rms_norm": True,
           "residual_in_fp32": True, "fused_add_norm": True, "pad_vocab_size_multiple": 16, "tie_embeddings": True}

    def draw(r):
        stored, pixels, features = towers(r, 5)
        connector = connectors.random_connector(r, features.shape[-1], 16, llm["ssm_cfg"])
        return {"stored": stored, "pixels": pixels, "connector": connector, "vocab": 45, "llm": llm,
                "language": models.random_lm2(r, llm), "tokens": connectors.connect(connector, features, llm["ssm_cfg"])[2]}

    model, answers = clear_draw("published_ml_mamba", draw)
    path = folder("ml_mamba")
    (path / "checkpoints").mkdir(exist_ok=True)
    parts = {"llm_backbone": single(model["language"])}
    for part in ("mlp", "bidirectional_mamba", "projector"):
        parts[part] = single({k[len(part) + 1:]: v for k, v in model["connector"].items() if k.startswith(part + ".")})
    torch.save({"model": parts}, path / "checkpoints" / "latest-checkpoint.pt")
    save_json(path / "config.json", original_config("mlmamba+3b", "no-align+fused-gelu-mlp", "mamba2-2.7b", llm))
    from safetensors.torch import save_file
    (path / "timm").mkdir(exist_ok=True)
    save_file(single(model["stored"]["dino"]), path / "timm" / "vit_large_patch14_reg4_dinov2.lvd142m.safetensors")
    siglip = path / "timm" / "siglip"
    siglip.mkdir(exist_ok=True)
    packed = {"visual.trunk." + k: v for k, v in single(model["stored"]["siglip"]).items()}
    packed.update({"text.token_embedding.weight": torch.zeros(3, 2), "logit_scale": torch.tensor(1.0)})
    torch.save(packed, siglip / "open_clip_pytorch_model.bin")
    answers.update({"in.pixels." + t: p for t, p in model["pixels"].items()}, **{"out.tokens": model["tokens"]})
    write("published/ml_mamba_answers", "ml_mamba", {}, answers)


def random_lm1(r, config):
    """Random weights of a Mamba-1 language model under state-spaces names."""
    d, ssm, w = config["d_model"], config["ssm_cfg"], {}
    inner, state, rank = 2 * d, ssm.get("d_state", 16), -(-d // 16)
    w["backbone.embedding.weight"] = r.normal(models.padded_vocab(config), d, std=0.5)
    for i in range(config["n_layer"]):
        at = f"backbone.layers.{i}."
        w[at + "norm.weight"] = r.normal(d, mean=1.0, std=0.2)
        at += "mixer."
        w[at + "in_proj.weight"] = r.normal(2 * inner, d, std=d**-0.5)
        w[at + "conv1d.weight"], w[at + "conv1d.bias"] = r.normal(inner, 1, 4, std=0.5), r.normal(inner, std=0.3)
        w[at + "x_proj.weight"] = r.normal(rank + 2 * state, inner, std=inner**-0.5)
        w[at + "dt_proj.weight"] = r.normal(inner, rank, std=rank**-0.5)
        w[at + "dt_proj.bias"] = r.normal(inner, mean=-1.0)
        w[at + "A_log"], w[at + "D"] = r.uniform(inner, state, low=0.0, high=2.0), r.normal(inner, mean=1.0, std=0.3)
        w[at + "out_proj.weight"] = r.normal(d, inner, std=inner**-0.5)
    w["backbone.norm_f.weight"] = r.normal(d, mean=1.0, std=0.2)
    w["lm_head.weight"] = w["backbone.embedding.weight"]
    return w


def meta_names(stored, r):
    """DINOv2 as its authors store it: the class token has a position of its own, first in pos_embed."""
    position = r.normal(1, 1, stored["cls_token"].shape[-1], std=0.7)
    out = {k: v for k, v in stored.items() if k not in ("cls_token", "pos_embed", "reg_token")}
    out["cls_token"], out["register_tokens"] = stored["cls_token"] - position, stored["reg_token"]
    out["pos_embed"] = torch.cat([position, stored["pos_embed"]], 1)
    out["mask_token"] = torch.zeros(1, position.shape[-1])
    return out


def cobra():
    """Cobra's layout: Mamba-1 with the prefix llm., no mlp, no bidirectional_mamba. Towers in vision/."""
    llm = {"d_model": 16, "n_layer": 2, "vocab_size": 45, "ssm_cfg": {"layer": "Mamba1", "d_state": 8},
           "rms_norm": True, "residual_in_fp32": True, "fused_add_norm": True, "pad_vocab_size_multiple": 8}

    def draw(r):
        stored, pixels, features = towers(r, None)
        w, d, width = {}, 16, features.shape[-1]
        for i, (rows, columns) in enumerate(((4 * width, width), (d, 4 * width), (d, d))):
            connectors.linear(r, w, f"projector.projector.{2 * i}", rows, columns)
        return {"stored": stored, "pixels": pixels, "connector": w, "vocab": 45, "llm": llm,
                "language": random_lm1(r, llm), "tokens": connectors.project(w, features, "fused-gelu-mlp"),
                "meta": meta_names(stored["dino"], r)}

    model, answers = clear_draw("published_cobra", draw)
    path = folder("cobra")
    (path / "checkpoints").mkdir(exist_ok=True)
    (path / "vision").mkdir(exist_ok=True)
    torch.save({"model": {"projector": single({k[10:]: v for k, v in model["connector"].items()}),
                          "llm_backbone": single({"llm." + k: v for k, v in model["language"].items()})}},
               path / "checkpoints" / "latest-checkpoint.pt")
    save_json(path / "config.json", original_config("cobra+3b", "no-align+fused-gelu-mlp", "mamba-2.8b-zephyr", llm))
    torch.save(single(model["meta"]), path / "vision" / "dino.pth")
    torch.save(single(model["stored"]["siglip"]), path / "vision" / "siglip.bin")
    answers.update({"in.pixels." + t: p for t, p in model["pixels"].items()}, **{"out.tokens": model["tokens"]})
    write("published/cobra_answers", "ml_mamba", {}, answers)


def state_spaces():
    """config.json and pytorch_model.bin, the latter a state_dict in bf16 with lm_head on the embedding's storage."""
    llm = {"d_model": 24, "d_intermediate": 0, "n_layer": 2, "vocab_size": 61, "attn_layer_idx": [], "attn_cfg": {},
           "ssm_cfg": {"layer": "Mamba2", "headdim": 8, "d_state": 16, "chunk_size": 8}, "rms_norm": True,
           "residual_in_fp32": True, "fused_add_norm": True, "pad_vocab_size_multiple": 16, "tie_embeddings": True}

    def draw(r):
        made = {}
        language = {k: made.setdefault(id(v), v.to(torch.bfloat16).double())
                    for k, v in models.random_lm2(r, llm).items()}
        return {"language": language, "vocab": 61, "llm": llm}

    model, answers = clear_draw("published_state_spaces", draw)
    path = folder("state_spaces")
    made = {}
    stored = {k: made.setdefault(id(v), v.to(torch.bfloat16).clone()) for k, v in model["language"].items()}
    torch.save(stored, path / "pytorch_model.bin")
    save_json(path / "config.json", llm)
    write("published/state_spaces_answers", "mamba2_lm", {}, answers)


def falcon():
    """FalconMamba of transformers, in two shards: RMS norms without weight on dt, B and C."""
    from lm_cases import keep_double
    from transformers import FalconMambaConfig, FalconMambaForCausalLM
    sizes = dict(hidden_size=16, num_hidden_layers=2, state_size=8, expand=2, conv_kernel=4, vocab_size=64,
                 tie_word_embeddings=False, mixer_rms_eps=0.05, pad_token_id=0, bos_token_id=0, eos_token_id=0)
    for salt in range(300):
        r = Draw("published_falcon", salt)
        model = FalconMambaForCausalLM(FalconMambaConfig(**sizes)).double().eval()
        with torch.no_grad():
            for name, p in model.named_parameters():
                if name.endswith("A_log"):
                    p.copy_(r.uniform(*p.shape, low=0.0, high=2.0))
                elif name.endswith(".D") or "norm" in name:
                    p.copy_(r.normal(*p.shape, mean=1.0, std=0.25))
                elif name.endswith("dt_proj.bias"):
                    p.copy_(r.normal(*p.shape, mean=-1.0))
                elif name.endswith("bias") or "conv1d" in name or "embed" in name or "lm_head" in name:
                    p.copy_(r.normal(*p.shape, std=0.5))
                else:
                    p.copy_(r.normal(*p.shape, std=p.shape[-1]**-0.5))
        ids = r.integers(1, 7, high=64)

        def logits_of(tokens):
            with torch.no_grad(), keep_double():
                return model(tokens, use_cache=False).logits

        try:
            chosen = greedy(logits_of, ids, 32, 64)
            break
        except models.Unclear:
            chosen = None
    assert chosen is not None
    path = folder("falcon")
    model.float().save_pretrained(path, max_shard_size="10KB")
    (path / "generation_config.json").unlink(missing_ok=True)
    model.double()
    write("published/falcon_answers", "mamba_lm", {}, {"in.input_ids": ids, "out.logits": logits_of(ids),
                                                       "out.greedy": chosen})


def make():
    with torch.no_grad():
        ml_mamba()
        cobra()
        state_spaces()
        falcon()
