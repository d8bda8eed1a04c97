# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# The ops written as plainly as they can be, token by token, for float64 tensors and autograd.
import math

import torch
import torch.nn.functional as F


def causal_conv1d(x, weight, bias=None, initial=None, activation="silu"):
    """x (B,L,D), weight (D,W), bias (D), initial (B,D,W-1) -> y (B,L,D), final (B,D,W-1)."""
    width = weight.shape[1]
    past = torch.zeros(x.shape[0], x.shape[2], width - 1, dtype=x.dtype) if initial is None else initial
    extended = torch.cat([past.transpose(1, 2), x], dim=1)  # (B, L+W-1, D)
    steps = []
    for t in range(x.shape[1]):
        v = (extended[:, t:t + width, :] * weight.t()).sum(1)
        steps.append(v if bias is None else v + bias)
    y = torch.stack(steps, 1)
    final = extended[:, extended.shape[1] - (width - 1):, :].transpose(1, 2)
    return (F.silu(y) if activation == "silu" else y), final


def selective_scan(u, delta, A, B, C, D=None, z=None, delta_bias=None, softplus=False):
    """u, delta, z (B,D,L), A (D,N), B, C (B,G,N,L), D, delta_bias (D) -> y (B,D,L), last (B,D,N)."""
    if delta_bias is not None:
        delta = delta + delta_bias[None, :, None]
    if softplus:
        delta = F.softplus(delta)
    per_group = u.shape[1] // B.shape[1]
    B = B.repeat_interleave(per_group, 1)  # (B, D, N, L)
    C = C.repeat_interleave(per_group, 1)
    h = torch.zeros(u.shape[0], u.shape[1], A.shape[1], dtype=u.dtype)
    steps = []
    for t in range(u.shape[2]):
        step = delta[:, :, t, None]
        h = torch.exp(step * A) * h + step * B[..., t] * u[:, :, t, None]
        steps.append((C[..., t] * h).sum(-1))
    y = torch.stack(steps, -1)
    if D is not None:
        y = y + D[None, :, None] * u
    if z is not None:
        y = y * F.silu(z)
    return y, h


def ssd(x, dt, A, B, C, D=None, z=None, dt_bias=None, initial=None, seq_idx=None, softplus=False,
        limits=(0.0, math.inf)):
    """x, z (B,L,H,P), dt (B,L,H), A (H), B, C (B,L,G,N), D (H) or (H,P) -> y, final (B,H,P,N).

    The token before the first has sequence index 0: a row whose first index differs ignores the initial state.
    """
    if dt_bias is not None:
        dt = dt + dt_bias
    if softplus:
        dt = F.softplus(dt)
    dt = torch.clamp(dt, limits[0], limits[1])
    batch, length, heads, p = x.shape
    per_group = heads // B.shape[2]
    B = B.repeat_interleave(per_group, 2)  # (B, L, H, N)
    C = C.repeat_interleave(per_group, 2)
    S = torch.zeros(batch, heads, p, B.shape[-1], dtype=x.dtype) if initial is None else initial
    before = torch.zeros(batch, dtype=torch.int64)
    steps = []
    for t in range(length):
        if seq_idx is not None:
            same = seq_idx[:, t] == before
            S = torch.where(same[:, None, None, None], S, torch.zeros_like(S))
            before = seq_idx[:, t]
        step = dt[:, t, :, None, None]
        S = torch.exp(step * A[None, :, None, None]) * S + step * x[:, t, :, :, None] * B[:, t, :, None, :]
        steps.append((S * C[:, t, :, None, :]).sum(-1))
    y = torch.stack(steps, 1)
    if D is not None:
        y = y + (D[:, None] if D.dim() == 1 else D) * x
    if z is not None:
        y = y * F.silu(z)
    return y, S


def rms_norm(x, weight, z=None, eps=1e-5, group_size=None, norm_before_gate=False):
    """Gated RMSNorm over the last axis, each group of group_size features with its own mean square."""
    size = group_size or x.shape[-1]
    if z is not None and not norm_before_gate:
        x = x * F.silu(z)
    groups = x.reshape(*x.shape[:-1], x.shape[-1] // size, size)
    normed = groups / torch.sqrt(groups.pow(2).mean(-1, keepdim=True) + eps)
    y = normed.reshape(x.shape) * weight
    return y * F.silu(z) if z is not None and norm_before_gate else y
