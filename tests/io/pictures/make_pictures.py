# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# Small pictures of every kind that is read, with the pixels that Pillow gives: make_pictures.py
#
# Run it twice: with Pillow 12 or older it also writes resize_columns_first.safetensors, with Pillow 13 or
# newer resize_tall_rows_first.safetensors: the order of the two passes changed between them.
import json
import pathlib
import struct
import zlib

import numpy as np
import PIL
from PIL import Image

HERE = pathlib.Path(__file__).parent
rng = np.random.Generator(np.random.PCG64(7))


def write(name, tensors):
    header, data = {}, b""
    for key, a in tensors.items():
        a = np.ascontiguousarray(a)
        assert a.dtype == np.uint8
        header[key] = {"dtype": "U8", "shape": list(a.shape), "data_offsets": [len(data), len(data) + a.nbytes]}
        data += a.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (HERE / name).write_bytes(struct.pack("<Q", len(text)) + text + data)


def smooth(height, width, channels):
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, channels), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.BICUBIC))


def png(width, height, depth, colour, interlaced, rows):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))
            + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b""))


def png16(array, colour):
    """16-bit PNG by hand: Pillow writes no such RGB."""
    height, width = array.shape[:2]
    return png(width, height, 16, colour, 0, b"".join(b"\0" + row.astype(">u2").tobytes() for row in array))


def adam7(rgb):
    """Interlaced PNG by hand: Pillow writes none."""
    height, width = rgb.shape[:2]
    rows = b""
    for x0, y0, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
        part = rgb[y0::dy, x0::dx]
        if part.size:
            rows += b"".join(b"\0" + row.tobytes() for row in part)
    return png(width, height, 8, 2, 1, rows)


def long_sides():
    """As long as is read, and longer than fits: no pixels but the first row of the square."""
    (HERE / "20000x1.png").write_bytes(png(20000, 1, 8, 0, 0, b"\0" + b"\x60" * 20000))
    (HERE / "1x20000.png").write_bytes(png(1, 20000, 8, 0, 0, b"\0\x60" * 20000))
    (HERE / "20000x20000.png").write_bytes(png(20000, 20000, 8, 0, 0, b"\0" + b"\x60" * 20000))


def main():
    rgb, rgba, grey = smooth(11, 17, 3), smooth(11, 17, 4), smooth(11, 17, 3)[..., 0]
    colour, l, alpha = Image.fromarray(rgb), Image.fromarray(grey), Image.fromarray(rgba)
    save = {
        "rgb.png": (colour, {}), "rgba.png": (alpha, {}), "grey.png": (l, {}), "bits.png": (l.convert("1"), {}),
        "grey_alpha.png": (Image.merge("LA", (l, alpha.getchannel(3))), {}),
        "palette.png": (colour.quantize(17), {}), "palette_transparent.png": (colour.quantize(5), {"transparency": 3}),
        "444.jpg": (colour, {"quality": 90, "subsampling": 0}), "420.jpg": (colour, {"quality": 75, "subsampling": 2}),
        "422_progressive.jpg": (colour, {"quality": 60, "subsampling": 1, "progressive": True}),
        "grey.jpg": (l, {"quality": 80}), "cmyk.jpg": (alpha.convert("RGB").convert("CMYK"), {"quality": 85}),
        "one.png": (colour.crop((0, 0, 1, 1)), {}), "one.jpg": (colour.crop((3, 3, 4, 4)), {"quality": 90}),
    }
    for name, (picture, options) in save.items():
        picture.save(HERE / name, **options)
    # The transform flag of the Adobe marker turns the same bytes into YCCK.
    cmyk = bytearray((HERE / "cmyk.jpg").read_bytes())
    flag = cmyk.index(b"Adobe") + 11
    assert cmyk[flag] == 0
    cmyk[flag] = 2
    (HERE / "ycck.jpg").write_bytes(cmyk)
    wide = rng.integers(0, 65536, (11, 17, 3), dtype=np.uint16)
    (HERE / "rgb16.png").write_bytes(png16(wide, 2))
    (HERE / "grey16.png").write_bytes(png16(wide[..., 0], 0))
    (HERE / "interlaced.png").write_bytes(adam7(rgb))
    want = {name: np.asarray(Image.open(HERE / name).convert("RGB"))
            for name in [*save, "ycck.jpg", "rgb16.png", "interlaced.png"]}
    # Pillow clips 16-bit grey at 255; the library keeps the high byte, as Pillow does for colour.
    want["grey16.png"] = np.repeat((wide[..., :1] >> 8).astype(np.uint8), 3, axis=2)
    write("expected.safetensors", want)
    long_sides()

    order = "columns_first" if int(PIL.__version__.split(".")[0]) < 13 else "tall_rows_first"
    tensors = {}
    for index, (h, w, height, width) in enumerate(((61, 20, 17, 30), (90, 40, 24, 24), (40, 90, 24, 24), (7, 5, 31, 29),
                                                   (33, 33, 33, 12), (33, 12, 8, 12))):
        noise = np.random.Generator(np.random.PCG64(index)).integers(0, 256, (h, w, 3), dtype=np.uint8)
        tensors[f"in.{index}"] = noise
        tensors[f"out.{index}"] = np.asarray(Image.fromarray(noise).resize((width, height), Image.BICUBIC))
    write(f"resize_{order}.safetensors", tensors)


main()
