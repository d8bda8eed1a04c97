# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# Fixtures of language models: transformers' Mamba and Mamba-2 in float64, and options that only state-spaces has.
import contextlib
import json

import torch

import plain_models as models
from fixture import Draw, write


@contextlib.contextmanager
def keep_double():
    """transformers casts parts of Mamba to float32; inside this block float64 tensors stay float64."""
    to_float, to = torch.Tensor.float, torch.Tensor.to

    def keeping_to(self, *args, **kwargs):
        if self.dtype == torch.float64:
            args = tuple(torch.float64 if a is torch.float32 else a for a in args)
            if kwargs.get("dtype") is torch.float32:
                kwargs["dtype"] = torch.float64
        return to(self, *args, **kwargs)

    torch.Tensor.float = lambda self: self if self.dtype == torch.float64 else to_float(self)
    torch.Tensor.to = keeping_to
    try:
        yield
    finally:
        torch.Tensor.float, torch.Tensor.to = to_float, to


def hf_model(kind, hf, r):
    """A transformers model with random float32 weights in float64."""
    from transformers import Mamba2Config, Mamba2ForCausalLM, MambaConfig, MambaForCausalLM
    config = (Mamba2Config if kind == "mamba2_lm" else MambaConfig)(**hf, pad_token_id=0, bos_token_id=0, eos_token_id=0)
    model = (Mamba2ForCausalLM if kind == "mamba2_lm" else MambaForCausalLM)(config).double().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            last = name.rsplit(".", 2)[-2:]
            if last[-1] == "A_log":
                p.copy_(r.uniform(*p.shape, low=0.0, high=2.0))
            elif last[-1] in ("dt_bias",) or last == ["dt_proj", "bias"]:
                p.copy_(r.normal(*p.shape, mean=-1.0))
            elif last[-1] == "D" or "norm" in last[0]:
                p.copy_(r.normal(*p.shape, mean=1.0, std=0.25))
            elif last[-1] == "bias":
                p.copy_(r.normal(*p.shape, std=0.3))
            elif last[0] == "conv1d" or last[0] in ("embeddings", "lm_head"):
                p.copy_(r.normal(*p.shape, std=0.5))
            else:
                p.copy_(r.normal(*p.shape, std=p.shape[-1]**-0.5))
    return model


def names(model, kind, state_spaces):
    """Weights as a checkpoint stores them. A tied head is absent in transformers' form, a copy in state-spaces'."""
    tied = model.config.tie_word_embeddings
    found = {k: v for k, v in model.state_dict().items() if not (tied and k == "lm_head.weight")}
    if state_spaces:
        found = {k.replace("backbone.embeddings.", "backbone.embedding."): v for k, v in found.items()}
        if tied:
            found["lm_head.weight"] = found["backbone.embedding.weight"]
    return found


def state_spaces_config(kind, hf, vocab):
    """The same model in the words of mamba_ssm's config.json."""
    ssm = {"d_state": hf["state_size"], "d_conv": hf["conv_kernel"], "expand": hf["expand"]}
    if kind == "mamba2_lm":
        ssm.update(layer="Mamba2", headdim=hf["head_dim"], ngroups=hf["n_groups"], chunk_size=hf["chunk_size"])
    else:
        ssm.update(layer="Mamba1")
        if hf.get("time_step_rank", "auto") != "auto":
            ssm["dt_rank"] = hf["time_step_rank"]
    if hf.get("use_bias"):
        ssm["bias"] = True
    if not hf.get("use_conv_bias", True):
        ssm["conv_bias"] = False
    return {"d_model": hf["hidden_size"], "d_intermediate": 0, "n_layer": hf["num_hidden_layers"], "vocab_size": vocab,
            "ssm_cfg": ssm, "attn_layer_idx": [], "attn_cfg": {}, "rms_norm": True, "residual_in_fp32": True,
            "fused_add_norm": True, "pad_vocab_size_multiple": 16 if kind == "mamba2_lm" else 8,
            "tie_embeddings": hf["tie_word_embeddings"]}


def hf_config(model, kind, hf, form):
    """config.json as text: all that transformers writes ("saved"), an older one with a bare Infinity, or a short one."""
    if form == "saved":
        return model.config.to_json_string()
    architecture = {"mamba2_lm": "Mamba2ForCausalLM", "mamba_lm": "MambaForCausalLM"}[kind]
    out = {"architectures": [architecture], "model_type": kind[:-3], "layer_norm_epsilon": 1e-5,
           **hf, "hidden_act": "silu", "residual_in_fp32": True, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
    if form == "infinity":
        out["time_step_limit"] = [0.0, float("inf")]
    return json.dumps(out)


MAMBA2 = dict(hidden_size=32, num_hidden_layers=2, num_heads=8, head_dim=8, state_size=16, n_groups=1, expand=2,
              conv_kernel=4, chunk_size=8, vocab_size=64, tie_word_embeddings=True)
MAMBA1 = dict(hidden_size=24, num_hidden_layers=2, state_size=8, expand=2, conv_kernel=4, vocab_size=64,
              tie_word_embeddings=True)


def prepared(name, kind, hf, B, L, salt):
    r = Draw(name, salt)
    model = hf_model(kind, hf, r)
    ids = r.integers(B, L, high=hf["vocab_size"])
    with torch.no_grad(), keep_double():
        logits = model(ids, use_cache=False).logits
    assert logits.dtype == torch.float64
    ss = state_spaces_config(kind, hf, hf["vocab_size"])
    if hf.get("time_step_limit"):
        ss["ssm_cfg"]["dt_limit"] = hf["time_step_limit"]
    with torch.no_grad():
        mine = models.lm(names(model, kind, True), ids, ss, hf.get("layer_norm_epsilon", 1e-5))
    assert (mine - logits).abs().max() < 1e-10, (name, (mine - logits).abs().max())
    return r, model, ids, logits


def generate(name, kind, B=2, L=21, count=12, form="huggingface", vocab=None,
             config_form="short", **changes):
    """Logits of B rows and count greedy tokens after row 0."""
    hf = {**(MAMBA2 if kind == "mamba2_lm" else MAMBA1), **changes}
    for salt in range(100):  # the first draw whose greedy choices are all clear
        r, model, ids, logits = prepared(name, kind, hf, B, L, salt)

        def logits_of(tokens):
            with torch.no_grad(), keep_double():
                return model(tokens, use_cache=False).logits

        try:
            chosen = models.greedy(logits_of, ids[:1], count, vocab or hf["vocab_size"])
            break
        except models.Unclear:
            chosen = None
    assert chosen is not None, name
    if not hf.get("time_step_limit"):  # transformers' one-token step forgets the limit
        with torch.no_grad(), keep_double():
            cached = model.generate(ids[:1], max_new_tokens=count, min_new_tokens=count, do_sample=False,
                                    eos_token_id=None, pad_token_id=0,
                                    attention_mask=torch.ones(1, L, dtype=torch.int64))[:, L:]
        assert torch.equal(cached, chosen), name
    state_spaces = form == "state-spaces"
    config = (json.dumps(state_spaces_config(kind, hf, vocab or hf["vocab_size"])) if state_spaces
              else hf_config(model, kind, hf, config_form))
    tensors = {"weight." + k: v for k, v in names(model, kind, state_spaces).items()}
    tensors.update({"in.input_ids": ids, "out.logits": logits, "out.greedy": chosen})
    write(name, kind, {"format": form, "config": config}, tensors)


def train_step(name, kind, B=2, L=11, **changes):
    """Loss, gradient of every parameter and the parameters after one AdamW step."""
    small = dict(hidden_size=16, vocab_size=32, state_size=8)
    if kind == "mamba2_lm":
        small.update(num_heads=4, head_dim=8, chunk_size=4)
    hf = {**(MAMBA2 if kind == "mamba2_lm" else MAMBA1), **small, **changes}
    rule = dict(lr=1e-2, betas=(0.9, 0.999), eps=1e-8)
    for salt in range(100):
        r, model, ids, _ = prepared(name, kind, hf, B, L, salt)
        labels = torch.where(r.uniform(B, L) < 0.25, torch.tensor(-100), ids)
        labels[0, :3] = -100
        model.train()
        with keep_double():
            loss = model(ids, labels=labels, use_cache=False).loss
        loss.backward()
        parameters = dict(model.named_parameters())
        if models.adamw_is_clear(parameters, rule):
            break
    assert models.adamw_is_clear(parameters, rule)
    decayed = [n for n, p in parameters.items() if p.dim() > 1 and not n.endswith(".bias")]
    groups = [{"params": [p for n, p in parameters.items() if (n in decayed) == on], "weight_decay": 0.1 * on}
              for on in (True, False)]
    before = {n: p.detach().clone() for n, p in parameters.items()}
    torch.optim.AdamW(groups, **rule).step()
    tensors = {"weight." + n: v for n, v in before.items()}
    tensors.update({"out.dweight." + n: p.grad for n, p in parameters.items()})
    tensors.update({"out.updated." + n: p for n, p in parameters.items()})
    tensors.update({"in.input_ids": ids, "in.labels": labels, "out.loss": loss.reshape(1)})
    adamw = {**rule, "weight_decay": 0.1, "decayed": decayed}
    write(name, kind, {"format": "huggingface", "config": hf_config(model, kind, hf, "short"),
                       "adamw": json.dumps(adamw)}, tensors)
    print(f"{name}: draw {salt}")


def option(name, B=1, L=11, count=8, tie=True, vocab=45, d_intermediate=0, d_model=16, **ssm):
    """A Mamba-2 model with mixer options that transformers has not, computed by plain_models."""
    config = {"d_model": d_model, "d_intermediate": d_intermediate, "n_layer": 2, "vocab_size": vocab,
              "ssm_cfg": {"layer": "Mamba2", "headdim": 8, "d_state": 8, "chunk_size": 4, **ssm}, "attn_layer_idx": [],
              "attn_cfg": {}, "rms_norm": True, "residual_in_fp32": True, "fused_add_norm": True,
              "pad_vocab_size_multiple": 16, "tie_embeddings": tie}
    for salt in range(100):
        r = Draw(name, salt)
        w, ids = models.random_lm2(r, config), r.integers(B, L, high=vocab)
        try:
            chosen = models.greedy(lambda tokens: models.lm(w, tokens, config), ids[:1], count, vocab)
            break
        except models.Unclear:
            chosen = None
    assert chosen is not None, name
    tensors = {"weight." + k: v for k, v in w.items()}
    tensors.update({"in.input_ids": ids, "out.logits": models.lm(w, ids, config), "out.greedy": chosen})
    write(name, "mamba2_lm", {"format": "state-spaces", "config": json.dumps(config)}, tensors)


def make():
    generate("mamba2_lm_huggingface", "mamba2_lm", config_form="saved")
    generate("mamba2_lm_huggingface_length_equals_chunk", "mamba2_lm", L=8, hidden_size=16, num_heads=4, count=4)
    generate("mamba2_lm_huggingface_length1", "mamba2_lm", L=1, B=3, hidden_size=16, num_heads=4,
             config_form="infinity")
    generate("mamba2_lm_huggingface_chunk_plus1", "mamba2_lm", L=17, B=1, chunk_size=16, hidden_size=16, num_heads=4)
    generate("mamba2_lm_huggingface_groups2", "mamba2_lm", L=13, n_groups=2, hidden_size=16, num_heads=4, head_dim=8)
    generate("mamba2_lm_huggingface_untied_biases_3layers", "mamba2_lm", hidden_size=16, num_heads=2, head_dim=16,
             num_hidden_layers=3, use_bias=True, tie_word_embeddings=False)
    generate("mamba2_lm_huggingface_noconvbias_width3_limits", "mamba2_lm", hidden_size=16, num_heads=4, conv_kernel=3,
             use_conv_bias=False, time_step_limit=[0.05, 0.7])
    generate("mamba2_lm_huggingface_epsilon", "mamba2_lm", hidden_size=16, num_heads=4, layer_norm_epsilon=0.02)
    generate("mamba_lm_huggingface_epsilon", "mamba_lm", hidden_size=16, layer_norm_epsilon=0.02)
    generate("mamba2_lm_state_spaces", "mamba2_lm", form="state-spaces", vocab=61, hidden_size=24, num_heads=6)
    generate("mamba2_lm_state_spaces_groups2", "mamba2_lm", form="state-spaces", vocab=50, n_groups=2, hidden_size=16,
             num_heads=4, B=1)
    generate("mamba_lm_huggingface", "mamba_lm", config_form="saved")
    generate("mamba_lm_huggingface_length1", "mamba_lm", L=1, B=3, hidden_size=16)
    generate("mamba_lm_huggingface_untied_biases_rank5_width3", "mamba_lm", hidden_size=16, use_bias=True,
             tie_word_embeddings=False, time_step_rank=5, conv_kernel=3)
    generate("mamba_lm_state_spaces", "mamba_lm", form="state-spaces", vocab=59, state_size=16, hidden_size=16)
    generate("mamba_lm_state_spaces_noconvbias_long", "mamba_lm", form="state-spaces", hidden_size=16, L=70, B=1,
             use_conv_bias=False)
    train_step("mamba2_lm_train_step", "mamba2_lm")
    train_step("mamba2_lm_train_step_untied_groups2", "mamba2_lm", tie_word_embeddings=False, n_groups=2, use_bias=True)
    train_step("mamba_lm_train_step", "mamba_lm")
    train_step("mamba_lm_train_step_untied", "mamba_lm", tie_word_embeddings=False)
    option("mamba2_lm_option_gated_mlp_in_mixer", d_ssm=24, expand=2, d_model=24)
    option("mamba2_lm_option_skip_per_channel", D_has_hdim=True)
    option("mamba2_lm_option_no_norm", rmsnorm=False)
    option("mamba2_lm_option_norm_before_gate_groups2", norm_before_gate=True, ngroups=2)
    option("mamba2_lm_option_d_intermediate", d_intermediate=100, d_model=16)
    option("mamba2_lm_option_dt_limit_bias_untied", dt_limit=[0.1, 0.8], bias=True, conv_bias=False, tie=False)
