# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# Makes the golden fixtures of this folder: make_goldens.py [PART ...] (all parts without arguments).
import importlib
import sys
import time

import torch

from fixture import HERE

PARTS = ["op_cases", "lm_cases", "vision_cases", "image_cases", "connector_cases", "published_cases",
         "torch_cases", "tokenizer_cases"]


def main(wanted):
    unknown = set(wanted) - set(PARTS)
    if unknown:
        sys.exit(f"make_goldens: no part named {', '.join(sorted(unknown))}; parts are {', '.join(PARTS)}")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.set_default_dtype(torch.float64)
    for part in wanted or PARTS:
        start = time.time()
        importlib.import_module(part).make()
        print(f"{part}: {time.time() - start:.1f} s")
    files = sorted(HERE.glob("*.safetensors"))
    print(f"{len(files)} fixtures, {sum(f.stat().st_size for f in files) / 1e6:.2f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
