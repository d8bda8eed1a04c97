# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# Fixtures of image preparation: torchvision's and timm's transforms on Pillow images, edited as ML-Mamba edits them.
import zlib

import numpy as np
from PIL import Image

from fixture import HERE, write

# The timm entries whose data configuration each tower uses.
ENTRIES = {"dinov2": "vit_large_patch14_reg4_dinov2.lvd142m", "siglip": "vit_so400m_patch14_siglip_384.webli",
           "clip": "vit_large_patch14_clip_336.openai", "in1k": "vit_large_patch16_224.augreg_in21k_ft_in1k"}


# CLIP's base tower keeps timm's margin in crop and letterbox: ML-Mamba edits the others only.
BASE_CLIP = "vit_base_patch16_clip_224.openai"


def transform(tower, size, strategy):
    """The list of torchvision transforms: everything on Pillow images first, then tensor and normalise."""
    import timm
    import torchvision.transforms.functional as tvf
    from timm.data import create_transform, resolve_data_config
    from torchvision.transforms import Resize
    config = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(ENTRIES.get(tower, BASE_CLIP)).to_dict())
    config["input_size"] = (3, size, size)
    steps = list(create_transform(**config, is_training=False).transforms)
    bicubic = steps[0].interpolation
    assert bicubic.value == "bicubic"
    if tower in ("siglip", "in1k"):
        steps[0] = Resize(size, interpolation=bicubic)
    edge = 248 if tower == "clip-b" else size
    assert steps[0].size in (edge, (edge,)), steps[0]
    if strategy == "resize-naive":
        steps[0] = Resize((size, size), interpolation=bicubic)
    elif strategy == "letterbox":
        fill = tuple(int(255 * m) for m in config["mean"])

        def pad(image):
            w, h = image.size
            side = max(w, h)
            horizontal, vertical = int((side - w) / 2), int((side - h) / 2)
            return tvf.pad(image, (horizontal, vertical, horizontal, vertical), fill, "constant")

        steps.insert(0, pad)
    return steps


def case(name, image, tower, size, strategy):
    picture = Image.fromarray(image, "RGB")
    steps = transform(tower, size, strategy)
    for step in steps[:-2]:
        picture = step(picture)
    pixels = picture
    for step in steps[-2:]:
        pixels = step(pixels)
    done = np.asarray(picture)
    assert done.shape == (size, size, 3) and done.dtype == np.uint8 and tuple(pixels.shape) == (3, size, size)
    write(name, "image_transform", {"tower": tower, "size": str(size), "strategy": strategy},
          {"in.image": image, "out.image": done, "out.pixels": pixels.numpy().astype(np.float32)})


def noise(name, height, width):
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def crop(name, index, left, top, width, height):
    """A crop of a real picture; from the fixture itself where the pictures are not beside the project."""
    for parent in (HERE.parents[1], HERE.parents[2]):
        path = parent / "shared" / "data" / "images" / f"test{index}.png"
        if path.is_file():
            return np.asarray(Image.open(path).convert("RGB"))[top:top + height, left:left + width].copy()
    from safetensors.numpy import load_file
    return load_file(HERE / (name + ".safetensors"))["in.image"]


def make():
    towers, strategies = list(ENTRIES), ["resize-naive", "resize-crop", "letterbox"]
    count = 0
    for tower in towers:  # every tower with every strategy on real crops
        for strategy in strategies:
            name = f"image_transform_{tower}_{strategy.replace('-', '_')}"
            size = (61, 47) if count % 2 else (47, 61)
            case(name, crop(name, count % 7, 60 + 13 * count, 90 + 7 * count, *size), tower, 21, strategy)
            count += 1
    for name, shape, tower, size, strategy in [
            ("1x1_naive", (1, 1), "dinov2", 14, "resize-naive"),
            ("1x1_crop", (1, 1), "siglip", 14, "resize-crop"),
            ("1x1_letterbox", (1, 1), "clip", 15, "letterbox"),
            ("3x50_naive", (50, 3), "clip", 28, "resize-naive"),
            ("3x50_crop", (50, 3), "dinov2", 14, "resize-crop"),
            ("3x50_letterbox", (50, 3), "siglip", 21, "letterbox"),
            ("100x7_naive", (7, 100), "siglip", 27, "resize-naive"),
            ("100x7_crop", (7, 100), "in1k", 14, "resize-crop"),
            ("100x7_letterbox", (7, 100), "dinov2", 16, "letterbox"),
            ("same_size", (28, 28), "clip", 28, "resize-naive"),
            ("same_width", (45, 28), "dinov2", 28, "resize-naive"),
            ("same_height", (28, 45), "siglip", 28, "resize-naive"),
            ("short_edge_already", (28, 41), "dinov2", 28, "resize-crop"),
            ("odd_margin", (33, 28), "clip", 28, "resize-crop"),
            ("odd_letterbox", (20, 33), "in1k", 28, "letterbox"),
            ("enlarge", (9, 11), "dinov2", 42, "resize-naive"),
            ("shrink_much", (97, 81), "siglip", 14, "resize-naive"),
            ("shrink_much_crop", (81, 97), "clip", 14, "resize-crop")]:
        name = "image_transform_noise_" + name
        case(name, noise(name, *shape), tower, size, strategy)
    extremes = np.where(noise("extremes", 53, 37) < 128, 0, 255).astype(np.uint8)  # overshoot must be cut off
    case("image_transform_black_white", extremes, "dinov2", 30, "resize-naive")
    case("image_transform_black_white_enlarged", extremes[:13, :9].copy(), "siglip", 42, "resize-crop")
