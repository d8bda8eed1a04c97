#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# A GGUF file of Mamba-2 with seeded random weights, to compare speeds with llama.cpp.
#   make_gguf.py MODEL FORMAT FILE    MODEL: 130m, 370m or 2.7b; FORMAT: f32, bf16, q8_0 or q4_0
# Needs numpy and gguf. Every matrix is in FORMAT, the embedding (and with it the head) too.
import sys

import gguf
import numpy as np

SIZES = {"130m": (768, 24), "370m": (1024, 48), "2.7b": (2560, 64)}
VOCABULARY, STATE, HEAD, TAPS = 50288, 128, 64, 4


def main(model, kind, path):
    d, layers = SIZES[model]
    inner, heads, channels = 2 * d, 2 * d // HEAD, 2 * d + 2 * STATE
    matrices = getattr(gguf.GGMLQuantizationType, kind.upper())
    w = gguf.GGUFWriter(path, "mamba2")
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
    w.add_ssm_state_size(STATE)
    w.add_ssm_time_step_rank(heads)
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
        matrix(layer + "ssm_in", inner + channels + heads, d, d**-0.5)
        w.add_tensor(layer + "ssm_conv1d.weight", uniform((channels, TAPS)))
        w.add_tensor(layer + "ssm_conv1d.bias", uniform(channels))
        dt = np.exp(random.uniform(np.log(0.001), np.log(0.1), heads))
        w.add_tensor(layer + "ssm_dt.bias", (dt + np.log(-np.expm1(-dt))).astype(np.float32))
        w.add_tensor(layer + "ssm_a", -(1 + 15 * random.random((heads, 1), np.float32)))
        w.add_tensor(layer + "ssm_d", np.ones((heads, 1), np.float32))
        w.add_tensor(layer + "ssm_norm.weight", np.ones((1, inner), np.float32))
        matrix(layer + "ssm_out", d, inner, (inner * layers) ** -0.5)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if len(sys.argv) != 4 or sys.argv[1] not in SIZES or sys.argv[2] not in ("f32", "bf16", "q8_0", "q4_0"):
    sys.exit("usage: make_gguf.py 130m|370m|2.7b f32|bf16|q8_0|q4_0 FILE")
main(*sys.argv[1:])
