# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# Checksums of the published transforms of whole pictures: picture_transforms.py FOLDER writes io/pictures/transforms.json.
#
# FOLDER has ML-Mamba's test0.png to test6.png; after them come pictures of noise in odd sizes. With Pillow 11.3.0: from 13 on it resamples
# tall pictures in another order, which published weights did not see. "squares" are CRC-32 of the 8-bit square and of its normalised float32.
import json
import sys
import zlib
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

from image_cases import transform

TOWERS = [("dinov2", 224), ("dinov2", 384), ("siglip", 256), ("siglip", 384), ("clip", 336), ("clip-b", 224), ("in1k", 224)]
NOISE = [(1, 1), (2, 3), (1, 501), (777, 3), (383, 385), (385, 383), (384, 384), (249, 248), (224, 247), (640, 427), (427, 641), (1001, 333),
         (333, 1001)]


def crc(array):
    return f"{zlib.crc32(np.ascontiguousarray(array).tobytes()):08x}"


def noise(width, height):
    """As noise() in resize_test.cpp."""
    seed, values = 9, bytearray()
    for _ in range(3 * width * height):
        seed = (seed * 1664525 + 1013904223) & 0xFFFFFFFF
        values.append(seed >> 24)
    return Image.frombytes("RGB", (width, height), bytes(values))


def main(folder):
    pictures = []
    named = [(path.name, Image.open(path).convert("RGB")) for path in sorted(folder.glob("test[0-6].png"))]
    assert len(named) == 7
    for size in NOISE:
        named.append(("", noise(*size)))
    for name, picture in named:
        squares = {}
        for tower, size in TOWERS:
            for strategy in ("resize-naive", "resize-crop", "letterbox"):
                steps, square = transform(tower, size, strategy), picture
                for step in steps[:-2]:
                    square = step(square)
                pixels = square
                for step in steps[-2:]:
                    pixels = step(pixels)
                assert square.size == (size, size)
                squares[f"{tower} {size} {strategy}"] = [crc(np.asarray(square)), crc(pixels.numpy().astype(np.float32))]
        pictures.append({"file": name, "width": picture.width, "height": picture.height, "crc": crc(np.asarray(picture)),
                         "squares": squares})
    out = Path(__file__).resolve().parents[1] / "io" / "pictures" / "transforms.json"
    out.write_text(json.dumps({"pillow": PIL.__version__, "pictures": pictures}, indent=0) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("picture_transforms: give FOLDER")
    main(Path(sys.argv[1]))
