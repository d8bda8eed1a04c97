#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# Mamba-2 (and Mamba-1) on this machine, ours beside llama.cpp's, in turns: medians of tokens per second.
#   compare.py --llama-bench PROGRAM --files FOLDER --ours FOLDER [--model 130m|370m|2.7b|mamba1-130m] [--threads 1,2]
#              [--formats f32,bf16,int8,int4] [--activations f32|bf16] [--prompts 512] [--rounds 3]
#              [--no-decode] [--quick] [--prefix COMMAND]
# --files has MODEL-FORMAT.gguf of make_gguf.py (f32, bf16, q8_0, q4_0), --ours has
# benchmark_models_prefill and benchmark_models_decode. llama-bench: a Release build with
# GGML_NATIVE. Decoding: 48 tokens behind a prompt of 512; ours: 24 steps, greedy choice included.
# --activations bf16: ours hold them so; not of Mamba-1, nor with --formats f32.
# --quick: the peer once instead of twice, and 16 tokens behind nothing, for models that take minutes.
# --prefix: what runs each program, such as "taskset -c 0,1".
import argparse
import json
import os
import statistics
import subprocess

NAME = {"130m": "mamba2_130m", "370m": "mamba2_370m", "2.7b": "mamba2_2.7b", "mamba1-130m": "mamba_130m"}
PEER = {"f32": "f32", "bf16": "bf16", "int8": "q8_0", "int4": "q4_0"}


def output(a, command):
    return json.loads(subprocess.run(a.prefix.split() + command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)


def peer(a, form, threads, options):
    file = os.path.join(a.files, f"{a.model}-{PEER[form]}.gguf")
    row = output(a, [a.llama_bench, "-m", file, "-t", str(threads), "-r", "1" if a.quick else "2", "-o", "json", *options])
    return max(row[0]["samples_ts"])


def ours(a, what, form, threads, first, counter):
    engine = f"packed_{form}" if a.activations == "f32" else f"packed_bf16_{form}"
    name = f"^{NAME[a.model]}_{what}/{engine}/{first}/layers:0/threads:{threads}/"
    found = output(a, [os.path.join(a.ours, "benchmark_models_" + what), "--benchmark_filter=" + name.replace(".", "[.]"),
                    "--benchmark_min_time=0.3", "--benchmark_format=json"])["benchmarks"]
    return found[0][counter]


def main():
    p = argparse.ArgumentParser()
    for option in ("--llama-bench", "--files", "--ours"):
        p.add_argument(option, required=True)
    p.add_argument("--model", default="130m", choices=list(NAME))
    p.add_argument("--formats", default="f32,bf16,int8,int4")
    p.add_argument("--activations", default="f32", choices=["f32", "bf16"])
    p.add_argument("--threads", default="1,2")
    p.add_argument("--prompts", default="512")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--no-decode", action="store_true")
    p.add_argument("--quick", action="store_true")
    p.add_argument("--prefix", default="")
    a = p.parse_args()
    if a.activations == "bf16" and (a.model == "mamba1-130m" or "f32" in a.formats.split(",")):
        p.error("--activations bf16 is not measured of Mamba-1 or with --formats f32; other ones are wanted")
    print("| model, weights, threads | what | ours, tokens/s | llama.cpp | ratio (lowest to highest) |\n|---|---|---|---|---|")
    for form in a.formats.split(","):
        for threads in map(int, a.threads.split(",")):
            pairs = {}
            for _ in range(a.rounds):
                for length in filter(None, a.prompts.split(",")):
                    theirs = peer(a, form, threads, ["-p", length, "-n", "0"])
                    mine = ours(a, "prefill", form, threads, f"L:{length}", "tokens/s")
                    pairs.setdefault("prompt of " + length, []).append((mine, theirs))
                if not a.no_decode:
                    theirs = peer(a, form, threads, ["-p", "0", "-n", "16"] if a.quick else ["-p", "0", "-n", "48", "-d", "512"])
                    mine = ours(a, "decode", form, threads, "B:1", "tokens/s alone")
                    pairs.setdefault("decode", []).append((mine, theirs))
            for what, values in pairs.items():
                mine, theirs = (statistics.median(v[i] for v in values) for i in (0, 1))
                ratios = sorted(m / t for m, t in values)
                print(f"| {a.model} {form}, {threads} | {what} | {mine:.4g} | {theirs:.4g} | "
                      f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) |", flush=True)


main()
