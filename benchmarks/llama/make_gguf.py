#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# A GGUF file of Mamba-2 or Mamba-1 with seeded random weights, to compare speeds with llama.cpp.
#   make_gguf.py MODEL FORMAT FILE    MODEL: 130m, 370m, 2.7b or mamba1-130m
#                                     FORMAT: f32, bf16, q8_0 or q4_0
# Needs numpy and gguf. Every matrix is in FORMAT, the embedding (and with it the head) too; of
# Mamba-1 those that make dt, B and C are in float, as ours are.
import sys

import gguf
import numpy as np

SIZES = {"130m": (768, 24), "370m": (1024, 48), "2.7b": (2560, 64), "mamba1-130m": (768, 24)}
VOCABULARY, STATE, HEAD, TAPS = 50288, 128, 64, 4


def main(model, kind, path):
    d, layers = SIZES[model]
    first = model.startswith("mamba1")
    inner, states = 2 * d, 16 if first else STATE
    rank = d // 16 if first else inner // HEAD  # of dt; Mamba-2: heads
    channels = inner if first else inner + 2 * STATE
    matrices = getattr(gguf.GGMLQuantizationType, kind.upper())
    w = gguf.GGUFWriter(path, "mamba" if first else "mamba2")
    w.add_context_length(2**20)
    w.add_embedding_length(d)
    w.add_feed_forward_length(0)
    w.add_head_count(0)
    w.add_block_count(layers)
    w.add_vocab_size(VOCABULARY)
    w.add_tokenizer_model("none")
    w.add_layer_norm_rms_eps(1e-5)
    w.add_ssm_conv_kernel(TAPS)
    w.add_ssm_inner_size(inner)
    w.add_ssm_state_size(states)
    w.add_ssm_time_step_rank(rank)
    if not first:
        w.add_ssm_group_count(1)
    random = np.random.default_rng(7)
    made = {}

    def uniform(shape, bound=0.5):
        return (2 * random.random(shape, np.float32) - 1) * np.float32(bound)

    def matrix(name, rows, columns, bound):  # one of each size: the same numbers in each layer
        if (rows, columns) not in made:
            v = uniform((rows, columns), bound)
            made[rows, columns] = v if kind == "f32" else gguf.quants.quantize(v, matrices)
        w.add_tensor(name + ".weight", made[rows, columns], raw_dtype=matrices)

    matrix("token_embd", VOCABULARY, d, 0.03)
    w.add_tensor("output_norm.weight", np.ones(d, np.float32))
    for i in range(layers):
        layer = f"blk.{i}."
        w.add_tensor(layer + "attn_norm.weight", np.ones(d, np.float32))
        matrix(layer + "ssm_in", 2 * inner if first else inner + channels + rank, d, d**-0.5)
        w.add_tensor(layer + "ssm_conv1d.weight", uniform((channels, TAPS)))
        w.add_tensor(layer + "ssm_conv1d.bias", uniform(channels))
        steps = inner if first else rank
        dt = np.exp(random.uniform(np.log(0.001), np.log(0.1), steps))
        w.add_tensor(layer + "ssm_dt.bias", (dt + np.log(-np.expm1(-dt))).astype(np.float32))
        if first:
            w.add_tensor(layer + "ssm_x.weight", uniform((rank + 2 * states, inner), inner**-0.5))
            w.add_tensor(layer + "ssm_dt.weight", uniform((inner, rank), rank**-0.5))
            w.add_tensor(layer + "ssm_a", -np.tile(np.arange(1, states + 1, dtype=np.float32), (inner, 1)))
            w.add_tensor(layer + "ssm_d", np.ones(inner, np.float32))
        else:
            w.add_tensor(layer + "ssm_a", -(1 + 15 * random.random((rank, 1), np.float32)))
            w.add_tensor(layer + "ssm_d", np.ones((rank, 1), np.float32))
            w.add_tensor(layer + "ssm_norm.weight", np.ones((1, inner), np.float32))
        matrix(layer + "ssm_out", d, inner, (inner * layers) ** -0.5)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if len(sys.argv) != 4 or sys.argv[1] not in SIZES or sys.argv[2] not in ("f32", "bf16", "q8_0", "q4_0"):
    sys.exit("usage: make_gguf.py 130m|370m|2.7b|mamba1-130m f32|bf16|q8_0|q4_0 FILE")
main(*sys.argv[1:])
