# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# Fixtures of single ops: outputs and gradients of the plain recurrences in float64.
import math

import torch
import torch.nn.functional as F

import recurrences as plain
from fixture import Draw, write


def finish(name, op, options, inputs, outputs, grads, zero=()):
    """Adds out.d* of every float input for the loss sum(outputs * grads) and writes the file."""
    tensors = {"in." + k: v for k, v in inputs.items()}
    tensors.update({"out." + k: v for k, v in outputs.items()})
    if grads:
        leaves = {k: v for k, v in inputs.items() if v.is_floating_point()}
        loss = sum((outputs[k] * g).sum() for k, g in grads.items())
        found = torch.autograd.grad(loss, list(leaves.values()))
        tensors.update({"grad." + k: g for k, g in grads.items()})
        tensors.update({"out.d" + k: g for k, g in zip(leaves, found)})
    write(name, op, options, tensors, zero)


def leaf(tensor):
    return tensor.requires_grad_()


def conv(name, B=2, L=9, D=6, W=4, bias=True, initial=False, activation="silu", grad=True):
    r = Draw(name)
    inputs = {"x": leaf(r.normal(B, L, D)), "weight": leaf(r.normal(D, W, std=0.6))}
    if bias:
        inputs["bias"] = leaf(r.normal(D, std=0.5))
    if initial:
        inputs["initial_states"] = leaf(r.normal(B, D, W - 1))
    y, final = plain.causal_conv1d(inputs["x"], inputs["weight"], inputs.get("bias"), inputs.get("initial_states"),
                                   activation)
    finish(name, "causal_conv1d", {"activation": activation}, inputs, {"y": y, "final_states": final},
           {"y": r.normal(B, L, D)} if grad else {})


def scan(name, B=2, D=6, L=11, N=5, G=1, skip=True, gate=True, bias=True, softplus=True, big=1.0, grad=True):
    r = Draw(name)
    inputs = {"u": leaf(r.normal(B, D, L)),
              "delta": leaf(r.normal(B, D, L, mean=-0.5) if softplus else r.uniform(B, D, L, low=0.01, high=0.9)),
              "A": leaf(r.uniform(D, N, low=-4.0 * big, high=-0.2)), "B": leaf(r.normal(B, G, N, L)),
              "C": leaf(r.normal(B, G, N, L))}
    if skip:
        inputs["D"] = leaf(r.normal(D))
    if gate:
        inputs["z"] = leaf(r.normal(B, D, L))
    if bias:
        inputs["delta_bias"] = leaf(r.normal(D, std=0.5) if softplus else r.uniform(D, low=0.0, high=0.3))
    y, last = plain.selective_scan(inputs["u"], inputs["delta"], inputs["A"], inputs["B"], inputs["C"],
                                   inputs.get("D"), inputs.get("z"), inputs.get("delta_bias"), softplus)
    finish(name, "selective_scan", {"delta_softplus": softplus}, inputs, {"y": y, "last_state": last},
           {"y": r.normal(B, D, L)} if grad else {}, ["out.dA"] if L == 1 else [])


def ssd(name, B=1, L=13, H=4, P=6, G=1, N=5, Q=4, D="H", gate=False, bias=True, softplus=True, limits=(0.0, math.inf),
        initial=False, seq_idx=None, grad_final=True, dt_mean=-1.0, dt_std=1.0, a_max=4.0, lossy=False,
        grad=True):
    r = Draw(name)
    inputs = {"x": leaf(r.normal(B, L, H, P)),
              "dt": leaf(r.normal(B, L, H, mean=dt_mean, std=dt_std) if softplus
                         else r.uniform(B, L, H, low=0.01, high=0.9)),
              "A": leaf(r.uniform(H, low=-a_max, high=-0.1)), "B": leaf(r.normal(B, L, G, N)),
              "C": leaf(r.normal(B, L, G, N))}
    if D:
        inputs["D"] = leaf(r.normal(H) if D == "H" else r.normal(H, P))
    if gate:
        inputs["z"] = leaf(r.normal(B, L, H, P))
    if bias:
        inputs["dt_bias"] = leaf(r.normal(H, std=0.5) if softplus else r.uniform(H, low=0.0, high=0.2))
    if initial:
        inputs["initial_states"] = leaf(r.normal(B, H, P, N))
    if seq_idx is not None:
        inputs["seq_idx"] = torch.tensor(seq_idx, dtype=torch.int32)
        assert inputs["seq_idx"].shape == (B, L)
    y, final = plain.ssd(inputs["x"], inputs["dt"], inputs["A"], inputs["B"], inputs["C"], inputs.get("D"),
                         inputs.get("z"), inputs.get("dt_bias"), inputs.get("initial_states"), inputs.get("seq_idx"),
                         softplus, limits)
    grads = {"y": r.normal(B, L, H, P)} if grad else {}
    if grad and grad_final:
        grads["final_states"] = r.normal(B, H, P, N)
    options = {"chunk_size": Q, "dt_softplus": softplus, "dt_min": repr(limits[0]), "dt_max": repr(limits[1])}
    if lossy:
        # A float32 sum of a = dt' A within a chunk is off by about 2^-24 |a| a step, and so are decays made from it.
        steps = F.softplus(inputs["dt"] + inputs["dt_bias"])
        options["tolerance"] = f"{4 * 2**-24 * float((steps * inputs['A']).detach().abs().sum(1).max()) / (L / Q):.1e}"
    finish(name, "ssd", options, inputs, {"y": y, "final_states": final}, grads,
           ["out.dA"] if L == 1 and not initial else [])


def norm(name, shape=(2, 5, 12), gate=True, before=False, group=None, eps=1e-5, state_group=True):
    r = Draw(name)
    inputs = {"x": leaf(r.normal(*shape)), "weight": leaf(r.normal(shape[-1], mean=1.0, std=0.3))}
    if gate:
        inputs["z"] = leaf(r.normal(*shape))
    y = plain.rms_norm(inputs["x"], inputs["weight"], inputs.get("z"), eps, group, before)
    options = {"eps": eps, "norm_before_gate": before}
    if state_group:
        options["group_size"] = group or shape[-1]
    finish(name, "rms_norm", options, inputs, {"y": y}, {"y": r.normal(*shape)})


def against_published():
    """The recurrences give what transformers' chunked SSD, scan, convolution and gated norm give, where both are defined."""
    from transformers.models.mamba import modeling_mamba as mamba1
    from transformers.models.mamba2 import modeling_mamba2 as mamba2
    from lm_cases import keep_double
    r = Draw("against_published")
    with torch.no_grad(), keep_double():
        x, dt, A = r.normal(2, 19, 4, 6), r.normal(2, 19, 4), r.uniform(4, low=-4.0, high=-0.1)
        B, C, D, bias = r.normal(2, 19, 2, 5), r.normal(2, 19, 2, 5), r.normal(4), r.normal(4)
        initial, limits = r.normal(2, 4, 6, 5), (0.1, 1.5)
        want = mamba2.mamba2_chunk_scan(x, dt, A, B, C, 8, D, bias, initial, True, limits, True)
        got = plain.ssd(x, dt, A, B, C, D, None, bias, initial, None, True, limits)
        u, delta, z = r.normal(2, 6, 11), r.normal(2, 6, 11), r.normal(2, 6, 11)
        A, D, bias = r.uniform(6, 5, low=-4.0, high=-0.1), r.normal(6), r.normal(6)
        B, C = r.normal(2, 5, 11), r.normal(2, 5, 11)
        want += mamba1.mamba_selective_scan(u, delta, A, B, C, D, z, bias, True, True)
        got += plain.selective_scan(u, delta, A, B[:, None], C[:, None], D, z, bias, True)
        weight, bias = r.normal(6, 4), r.normal(6)
        want += (mamba2.causal_conv1d_fn(u, weight, bias, "silu"),)
        got += (plain.causal_conv1d(u.transpose(1, 2), weight, bias)[0].transpose(1, 2),)
        published = mamba2.MambaRMSNormGated(12, 4, 1e-3).double()
        published.weight.copy_(r.normal(12))
        x, z = r.normal(7, 12), r.normal(7, 12)
        want += (published(x, z),)
        got += (plain.rms_norm(x, published.weight, z, 1e-3, 4),)
    for i, (a, b) in enumerate(zip(want, got, strict=True)):
        assert a.dtype == b.dtype == torch.float64 and (a - b).abs().max() < 1e-12, (i, (a - b).abs().max())


def make():
    against_published()
    conv("causal_conv1d_width4_bias_silu")
    conv("causal_conv1d_width4_nobias_none", bias=False, activation="none")
    conv("causal_conv1d_width3_nobias_silu", W=3, bias=False)
    conv("causal_conv1d_width2_bias_none", W=2, activation="none", D=3)
    conv("causal_conv1d_width4_initial_silu", initial=True)
    conv("causal_conv1d_width2_initial_silu", W=2, initial=True, L=5)
    conv("causal_conv1d_width4_initial_nobias_none", initial=True, bias=False, activation="none")
    conv("causal_conv1d_length1_initial", L=1, initial=True)          # the final state keeps part of the initial one
    conv("causal_conv1d_length2_width4_initial", L=2, initial=True)
    conv("causal_conv1d_length1_noinitial", L=1, B=3)
    conv("causal_conv1d_width4_wide37_length70", B=1, L=70, D=37, initial=True)
    conv("causal_conv1d_forward_only", B=3, L=17, D=16, grad=False)

    scan("selective_scan_all_options")
    scan("selective_scan_plain", skip=False, gate=False, bias=False, softplus=False)
    scan("selective_scan_groups2", G=2, D=8)
    scan("selective_scan_groups_equal_channels", G=4, D=4, N=3)
    scan("selective_scan_nosoftplus_bias", softplus=False)
    scan("selective_scan_noskip_gate", skip=False)
    scan("selective_scan_skip_nogate", gate=False)
    scan("selective_scan_length1", L=1, B=3)
    scan("selective_scan_state16_length67", B=1, D=19, L=67, N=16)
    scan("selective_scan_state17_channels33", B=1, D=33, L=9, N=17)
    scan("selective_scan_state1", N=1)
    scan("selective_scan_underflow", big=200.0)                       # decays below the smallest float
    scan("selective_scan_forward_only", grad=False)

    ssd("ssd_minimal", D=None, bias=False, softplus=False, grad_final=False)
    ssd("ssd_skip_bias_softplus", grad_final=False)
    ssd("ssd_length1", L=1, B=2, initial=True)
    ssd("ssd_length1_noinitial", L=1)
    ssd("ssd_length_equals_chunk", L=8, Q=8, B=2)
    ssd("ssd_length_chunk_plus1", L=9, Q=8, B=2, initial=True)
    ssd("ssd_length_chunk_minus1", L=7, Q=8, gate=True)
    ssd("ssd_chunk_longer_than_length", L=5, Q=64)
    ssd("ssd_chunk1", L=6, Q=1, initial=True)
    ssd("ssd_groups2_gate_initial_final", G=2, B=2, gate=True, initial=True)
    ssd("ssd_groups_equal_heads", G=4, N=3, initial=True)
    ssd("ssd_skip_per_channel", D="HP", gate=True)
    ssd("ssd_limits_inside", limits=(0.05, 0.6), B=2, L=11, Q=4, initial=True)
    ssd("ssd_limits_lower_only", limits=(0.2, math.inf), L=10, Q=4, gate=True)
    ssd("ssd_nosoftplus_limits", softplus=False, limits=(0.1, 0.5))
    ssd("ssd_seqidx_from_zero_initial", B=2, L=12, Q=4, initial=True,
        seq_idx=[[0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2], [0] * 4 + [1] * 4 + [2] * 4])
    ssd("ssd_seqidx_nonzero_start_ignores_initial", B=2, L=10, Q=4, initial=True,
        seq_idx=[[3] * 6 + [4] * 4, [0] * 10])
    ssd("ssd_seqidx_many_changes_in_chunk", L=14, Q=16, seq_idx=[[0, 1, 1, 2, 3, 4, 4, 4, 5, 6, 7, 7, 7, 8]])
    ssd("ssd_groups_seqidx_final", G=2, L=21, Q=8, gate=True, D="HP", initial=True, limits=(0.01, 2.0),
        seq_idx=[[0] * 8 + [1] * 5 + [2] * 8])
    ssd("ssd_underflow", dt_mean=0.0, dt_std=25.0, a_max=40.0, L=18, Q=8, lossy=True)            # decays of exactly 0
    ssd("ssd_underflow_extreme", dt_mean=0.0, dt_std=25.0, a_max=400.0, L=18, Q=8, lossy=True)   # a below -1e4
    ssd("ssd_tiny_steps", dt_mean=-17.0, L=9, Q=4)                       # softplus must not lose its small values
    ssd("ssd_odd_sizes_p7_n9_h6", H=6, P=7, N=9, G=3, L=19, Q=5, gate=True, initial=True)
    ssd("ssd_head16_state32_length50", H=2, P=16, N=32, L=50, Q=16, initial=True)
    ssd("ssd_head64_state128_forward", H=1, P=64, N=128, L=19, Q=16, grad=False)
    ssd("ssd_head8_state16_chunk64_length130", H=2, P=8, N=16, L=130, Q=64)

    norm("rms_norm_plain", gate=False)
    norm("rms_norm_gate_before_norm")
    norm("rms_norm_gate_after_norm", before=True)
    norm("rms_norm_groups_gate_before_norm", group=4)
    norm("rms_norm_groups_gate_after_norm", group=3, before=True)
    norm("rms_norm_groups_nogate", group=6, gate=False)
    norm("rms_norm_row_width37", shape=(3, 37))
    norm("rms_norm_rank1", shape=(9,), gate=False)
    norm("rms_norm_large_eps", eps=0.1)
    norm("rms_norm_width300_default_group", shape=(2, 300), state_group=False)
