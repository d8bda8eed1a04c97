# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# Writes one fixture file (safetensors, same bytes for the same content), reads it back and judges its numbers.
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
DTYPES = {"float32": "F32", "int64": "I64", "int32": "I32", "uint8": "U8"}


class Draw:
    """Random float32 values from a generator seeded by the fixture's name, as torch float64 tensors.

    Every value is exactly a float32, so what is stored is what was computed with.
    """

    def __init__(self, name, salt=0):
        self.rng = np.random.Generator(np.random.PCG64([zlib.crc32(name.encode()), salt]))

    def normal(self, *shape, mean=0.0, std=1.0):
        values = (self.rng.standard_normal(shape) * std + mean).astype(np.float32)
        return torch.from_numpy(values.astype(np.float64))

    def uniform(self, *shape, low=0.0, high=1.0):
        values = self.rng.uniform(low, high, shape).astype(np.float32)
        return torch.from_numpy(values.astype(np.float64))

    def integers(self, *shape, low=0, high):
        return torch.from_numpy(self.rng.integers(low, high, shape, dtype=np.int64))


def to_storage(tensor):
    if isinstance(tensor, torch.Tensor):
        tensor = tensor.detach().numpy()
    array = np.ascontiguousarray(tensor)
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def write(name, op, options, tensors, zero=()):
    """One file: header length, JSON header with sorted keys, tensors with wide types first so that all are aligned."""
    metadata = {"op": op}
    for key, value in options.items():
        metadata[key] = value if isinstance(value, str) else json.dumps(value)
    header, blobs, offset = {"__metadata__": metadata}, [], 0
    arrays = {key: to_storage(tensors[key]) for key in sorted(tensors)}
    for key in sorted(arrays, key=lambda key: -arrays[key].itemsize):
        array = arrays[key]
        blob = array.astype(array.dtype.newbyteorder("<")).tobytes()
        header[key] = {"dtype": DTYPES[array.dtype.name], "shape": list(array.shape),
                       "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path = HERE / (name + ".safetensors")
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))
    judge(path, tensors, zero)
    return path


def judge(path, tensors, zero):
    """Reads the file with the safetensors package and refuses NaN, infinities and outputs that say nothing.

    Only the outputs named in zero are all zero, and must be.
    """
    from safetensors import safe_open
    with safe_open(path, "np") as opened:
        assert opened.metadata()["op"]
        assert set(opened.keys()) == set(tensors), path
        for key in opened.keys():
            got = opened.get_tensor(key)
            assert np.array_equal(got, to_storage(tensors[key])), (path, key)
            if got.dtype != np.float32:
                continue
            assert np.isfinite(got).all(), (path, key, "not finite")
            size = np.sqrt(np.mean(np.square(got, dtype=np.float64))) if got.size else 1.0
            if key.startswith("out."):
                assert size == 0 if key in zero else 1e-14 < size < 1e4, (path, key, size)
    assert path.stat().st_size < 300_000, (path, path.stat().st_size)
