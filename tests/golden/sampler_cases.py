# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
"""Orders of examples from PyTorch: golden/sampler.json for tests/train/torch_sampler_test.cpp.

    python3 sampler_cases.py        # needs torch

Permutations and DistributedSampler are PyTorch's own; the split-modality order is written down here
once more, with lists of lists and torch.randperm. Long results are kept as a hash and a few numbers.
"""
import json
import os

import torch
from torch.utils.data import DistributedSampler


def digest(numbers):
    h = 14695981039346656037  # FNV-1a over little-endian 32-bit words
    for n in numbers:
        for byte in int(n).to_bytes(4, "little"):
            h = (h ^ byte) * 1099511628211 % 2**64
    return "%016x" % h


def stored(numbers):
    return {"count": len(numbers), "hash": digest(numbers), "first": [int(n) for n in numbers[:40]]}


def permutation(seed, n):
    g = torch.Generator()
    g.manual_seed(seed)
    # A second one shows how many numbers the first has drawn.
    return {"seed": seed, "n": n, "y": stored(torch.randperm(n, generator=g).tolist()),
            "next": stored(torch.randperm(20, generator=g).tolist())}


def distributed(seed, epoch, n, batch, ranks):
    per_rank = []
    for rank in range(ranks):
        s = DistributedSampler(range(n), num_replicas=ranks, rank=rank, shuffle=True, seed=seed,
                               drop_last=False)
        s.set_epoch(epoch)
        per_rank.append(list(s))
    share = batch // ranks
    whole = [r[at:at + share] for at in range(0, len(per_rank[0]) // share * share, share)
             for r in per_rank]
    return {"seed": seed + epoch, "n": n, "batch": batch, "ranks": ranks,
            "whole": stored(sum(whole, []))}


def sizes_of(n, pictures_of_8):
    """Words and pictures of n examples, by a rule that the test repeats."""
    return [((i * 2654435761 % 2**32 >> 16) % 97 + 1, (i * 40503 % 65536 >> 8) % 8 < pictures_of_8)
            for i in range(n)]


def split_modality(seed, n, pictures_of_8, batch, ranks):
    sizes = sizes_of(n, pictures_of_8)
    g = torch.Generator()
    g.manual_seed(seed)
    kinds = [[i for i in range(n) if sizes[i][1] == kind] for kind in (True, False)]
    shuffled = [[kind[p] for p in torch.randperm(len(kind), generator=g)] for kind in kinds]
    batches = []
    for kind in shuffled:
        chunks = [kind[at:at + batch] for at in range(0, len(kind), batch)]
        if chunks:
            chunks[-1] = chunks[-1] + chunks[0][:batch - len(chunks[-1])]
        for chunk in chunks:
            buckets = [[] for _ in range(ranks)]
            for i in sorted(chunk, key=lambda i: -sizes[i][0]):  # stable
                free = [b for b in buckets if len(b) < batch // ranks]
                min(free, key=lambda b: sum(sizes[j][0] for j in b)).append(i)
            batches.append(sum(buckets, []))
    batches = [batches[p] for p in torch.randperm(len(batches), generator=g)]
    longest = [max(sizes[i][0] + 576 * sizes[i][1] for i in b) for b in batches]
    at = longest.index(max(longest))
    batches[0], batches[at] = batches[at], batches[0]
    return {"seed": seed, "n": n, "pictures_of_8": pictures_of_8, "batch": batch, "ranks": ranks,
            "y": stored(sum(batches, []))}


def main():
    sizes = [0, 1, 2, 3, 10, 623, 624, 625, 65535, 65536, 65537, 200000]
    cases = {
        "torch": torch.__version__.split("+")[0],
        "permutations": [permutation(s, n) for n in sizes for s in (0, 7, 8)]
        + [permutation(s, 50) for s in (2**32 - 2, 2**32 + 5, 2**63 - 1)],
        "distributed": [distributed(*a) for a in
                        [(7, 0, 64, 16, 4), (7, 1, 64, 16, 4), (7, 0, 70, 16, 4), (3, 2, 1000, 64, 8),
                         (7, 0, 61, 8, 1), (1, 0, 66001, 256, 8)]],
        "split_modality": [split_modality(*a) for a in
                           [(7, 200, 5, 16, 4), (8, 200, 5, 16, 4), (7, 97, 8, 16, 2),
                            (7, 333, 6, 12, 1), (9, 333, 6, 12, 3), (7, 1000, 7, 128, 8),
                            (11, 70001, 4, 128, 8), (0, 24, 8, 16, 16)]],
    }
    place = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sampler.json")
    with open(place, "w") as f:
        json.dump(cases, f, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main()
