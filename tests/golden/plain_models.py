# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# Mamba mixers and language models written plainly on recurrences.py, under state-spaces names, in float64.
import math

import torch
import torch.nn.functional as F

import recurrences as plain

MIXER_DEFAULTS = dict(d_state=128, d_conv=4, expand=2, headdim=64, d_ssm=None, ngroups=1, D_has_hdim=False, rmsnorm=True,
                      norm_before_gate=False, dt_limit=(0.0, math.inf), bias=False, conv_bias=True)


def mixer_sizes(d_model, ssm_cfg):
    """The option values and sizes of a Mamba-2 mixer of this width."""
    c = {**MIXER_DEFAULTS, **ssm_cfg}
    c["d_inner"] = c["expand"] * d_model
    c["d_ssm"] = c["d_ssm"] or c["d_inner"]
    c["nheads"] = c["d_ssm"] // c["headdim"]
    c["gn"] = c["ngroups"] * c["d_state"]
    c["conv_dim"] = c["d_ssm"] + 2 * c["gn"]
    c["d_mlp"] = c["d_inner"] - c["d_ssm"]
    c["in_proj"] = 2 * c["d_inner"] + 2 * c["gn"] + c["nheads"]
    return c


def random_mixer2(r, w, prefix, d_model, ssm_cfg, directions=("",)):
    """Random parameters of a Mamba-2 mixer into w; directions are name suffixes."""
    c = mixer_sizes(d_model, ssm_cfg)
    w[prefix + "in_proj.weight"] = r.normal(c["in_proj"], d_model, std=d_model**-0.5)
    if c["bias"]:
        w[prefix + "in_proj.bias"] = r.normal(c["in_proj"], std=0.2)
        w[prefix + "out_proj.bias"] = r.normal(d_model, std=0.2)
    for suffix in directions:
        w[f"{prefix}conv1d{suffix}.weight"] = r.normal(c["conv_dim"], 1, c["d_conv"], std=0.5)
        if c["conv_bias"]:
            w[f"{prefix}conv1d{suffix}.bias"] = r.normal(c["conv_dim"], std=0.3)
        w[f"{prefix}dt_bias{suffix}"] = r.normal(c["nheads"], mean=-1.0)
        w[f"{prefix}A_log{suffix}"] = r.uniform(c["nheads"], low=0.0, high=math.log(8.0))
        w[f"{prefix}D{suffix}"] = r.normal(c["d_ssm"] if c["D_has_hdim"] else c["nheads"], mean=1.0, std=0.3)
    if c["rmsnorm"]:
        w[prefix + "norm.weight"] = r.normal(c["d_ssm"], mean=1.0, std=0.2)
    w[prefix + "out_proj.weight"] = r.normal(d_model, c["d_inner"], std=c["d_inner"]**-0.5)


def direction(w, prefix, zxbcdt, c, suffix="", eps=1e-5):
    """All of a Mamba-2 mixer between the two projections, for one scan direction."""
    batch, length, _ = zxbcdt.shape
    z0, x0, z, xbc, dt = torch.split(zxbcdt, [c["d_mlp"], c["d_mlp"], c["d_ssm"], c["conv_dim"], c["nheads"]], -1)
    xbc, _ = plain.causal_conv1d(xbc, w[f"{prefix}conv1d{suffix}.weight"][:, 0, :],
                                 w.get(f"{prefix}conv1d{suffix}.bias"))
    x, B, C = torch.split(xbc, [c["d_ssm"], c["gn"], c["gn"]], -1)
    heads = (batch, length, c["nheads"], c["headdim"])
    D = w[f"{prefix}D{suffix}"]
    y, _ = plain.ssd(x.reshape(heads), dt, -torch.exp(w[f"{prefix}A_log{suffix}"]),
                     B.reshape(batch, length, c["ngroups"], -1), C.reshape(batch, length, c["ngroups"], -1),
                     D.reshape(c["nheads"], -1) if c["D_has_hdim"] else D,
                     None if c["rmsnorm"] else z.reshape(heads), w[f"{prefix}dt_bias{suffix}"], softplus=True,
                     limits=c["dt_limit"])
    y = y.reshape(batch, length, c["d_ssm"])
    if c["rmsnorm"]:
        y = plain.rms_norm(y, w[prefix + "norm.weight"], z, eps, c["d_ssm"] // c["ngroups"], c["norm_before_gate"])
    return torch.cat([F.silu(z0) * x0, y], -1) if c["d_mlp"] else y


def mixer2(w, prefix, u, ssm_cfg, eps=1e-5):
    c = mixer_sizes(u.shape[-1], ssm_cfg)
    zxbcdt = F.linear(u, w[prefix + "in_proj.weight"], w.get(prefix + "in_proj.bias"))
    return F.linear(direction(w, prefix, zxbcdt, c, eps=eps), w[prefix + "out_proj.weight"], w.get(prefix + "out_proj.bias"))


def mixer2_bidirectional(w, prefix, u, ssm_cfg):
    """Two scans over one projection: forward, and over the reversed tokens with the parameters of suffix _b."""
    c = mixer_sizes(u.shape[-1], ssm_cfg)
    zxbcdt = F.linear(u, w[prefix + "in_proj.weight"], w.get(prefix + "in_proj.bias"))
    forward = direction(w, prefix, zxbcdt, c)
    backward = direction(w, prefix, zxbcdt.flip(1), c, "_b").flip(1)
    return F.linear((forward + backward) / 2, w[prefix + "out_proj.weight"], w.get(prefix + "out_proj.bias"))


def mixer1(w, prefix, u, ssm_cfg, eps=1e-5):
    state = ssm_cfg.get("d_state", 16)
    rank = w[prefix + "dt_proj.weight"].shape[1]
    x, z = F.linear(u, w[prefix + "in_proj.weight"], w.get(prefix + "in_proj.bias")).chunk(2, -1)
    x, _ = plain.causal_conv1d(x, w[prefix + "conv1d.weight"][:, 0, :], w.get(prefix + "conv1d.bias"))
    low, B, C = torch.split(F.linear(x, w[prefix + "x_proj.weight"]), [rank, state, state], -1)
    delta = F.linear(low, w[prefix + "dt_proj.weight"])
    y, _ = plain.selective_scan(x.transpose(1, 2), delta.transpose(1, 2), -torch.exp(w[prefix + "A_log"]),
                                B.transpose(1, 2)[:, None], C.transpose(1, 2)[:, None], w[prefix + "D"],
                                z.transpose(1, 2), w[prefix + "dt_proj.bias"], True)
    return F.linear(y.transpose(1, 2), w[prefix + "out_proj.weight"], w.get(prefix + "out_proj.bias"))


def padded_vocab(config):
    multiple = config.get("pad_vocab_size_multiple", 8)
    return -(-config["vocab_size"] // multiple) * multiple


def random_lm2(r, config):
    """Random weights of a Mamba-2 language model under state-spaces names."""
    d, w = config["d_model"], {}
    w["backbone.embedding.weight"] = r.normal(padded_vocab(config), d, std=0.5)
    for i in range(config["n_layer"]):
        at = f"backbone.layers.{i}."
        w[at + "norm.weight"] = r.normal(d, mean=1.0, std=0.2)
        random_mixer2(r, w, at + "mixer.", d, config["ssm_cfg"])
        if config.get("d_intermediate", 0):
            hidden = -(-config["d_intermediate"] // 128) * 128
            w[at + "norm2.weight"] = r.normal(d, mean=1.0, std=0.2)
            w[at + "mlp.fc1.weight"] = r.normal(2 * hidden, d, std=d**-0.5)
            w[at + "mlp.fc2.weight"] = r.normal(d, hidden, std=hidden**-0.5)
    w["backbone.norm_f.weight"] = r.normal(d, mean=1.0, std=0.2)
    tied = config.get("tie_embeddings", True)
    w["lm_head.weight"] = w["backbone.embedding.weight"] if tied else r.normal(padded_vocab(config), d, std=0.4)
    return w


def lm_embedded(w, h, config, eps=1e-5):
    """Logits of embedded tokens h (B,L,d) for state-spaces names and config."""
    mixer = mixer2 if config["ssm_cfg"].get("layer", "Mamba1") == "Mamba2" else mixer1
    for i in range(config["n_layer"]):
        at = f"backbone.layers.{i}."
        h = h + mixer(w, at + "mixer.", plain.rms_norm(h, w[at + "norm.weight"], eps=eps), config["ssm_cfg"], eps)
        if config.get("d_intermediate", 0):
            normed = plain.rms_norm(h, w[at + "norm2.weight"], eps=eps)
            value, gate = F.linear(normed, w[at + "mlp.fc1.weight"]).chunk(2, -1)
            h = h + F.linear(value * F.silu(gate), w[at + "mlp.fc2.weight"])
    return F.linear(plain.rms_norm(h, w["backbone.norm_f.weight"], eps=eps), w["lm_head.weight"])


def lm(w, ids, config, eps=1e-5):
    return lm_embedded(w, w["backbone.embedding.weight"][ids], config, eps)


def adamw_is_clear(parameters, rule):
    """Whether float32 noise in the gradients, 3e-6 of their rms, leaves the first AdamW step alone.

    That step is lr g / (|g| + eps), the sign of g but for tiny ones: an element near zero could go either way.
    """
    def direction(g):
        return g / (g.abs() + rule["eps"])

    for p in parameters.values():
        noise = 3e-6 * p.grad.pow(2).mean().sqrt() * (p.grad != 0)
        shift = torch.maximum((direction(p.grad + noise) - direction(p.grad)).abs(),
                              (direction(p.grad - noise) - direction(p.grad)).abs())
        if rule["lr"] * shift.norm() > 1e-5 * p.norm():
            return False
    return True


class Unclear(Exception):
    """Two tokens are too close for a greedy choice that must not depend on rounding, bf16 included."""


def greedy(logits_of, ids, count, vocab_size):
    """count tokens chosen greedily after ids (1,L), recomputing everything. None is from the vocabulary's padding."""
    ids, start = ids.clone(), ids.shape[1]
    for _ in range(count):
        best = logits_of(ids)[0, -1].topk(2)
        if best.values[0] - best.values[1] < 0.15 or best.indices[0] >= vocab_size:
            raise Unclear
        ids = torch.cat([ids, best.indices[:1][None]], 1)
    return ids[:, start:]
