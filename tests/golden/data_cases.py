# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
"""Writes tests/data_prep/pictures (GIFs, and what Pillow makes of their first frame) and tests/data_prep/lists (small
lists in the layout of the published ones, and what Python's random and json make of them).

    python3 data_cases.py        (needs pillow 11.3.0)
"""
import json
import os
import random

from PIL import Image

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data_prep")
PICTURES, LISTS = os.path.join(HERE, "pictures"), os.path.join(HERE, "lists")


def wave(width, height, seed):
    draw = random.Random(seed)
    picture = Image.new("RGB", (width, height))
    a, b, c = (draw.randrange(2, 9) for _ in range(3))
    picture.putdata([((x * a * 5) % 256, (y * b * 7) % 256, ((x + y) * c * 3) % 256)
                     for y in range(height) for x in range(width)])
    return picture


def sub_blocks(data):
    out = b""
    for i in range(0, len(data), 255):
        out += bytes([len(data[i:i + 255])]) + data[i:i + 255]
    return out + b"\0"


def literal_codes(indices):
    """LZW of 8-bit codes that never grow: a clear code before each 200 pixels."""
    bits, count, out = 0, 0, bytearray()
    codes = []
    for i, v in enumerate(indices):
        if i % 200 == 0:
            codes.append(256)
        codes.append(v)
    for code in codes + [257]:
        bits |= code << count
        count += 9
        while count >= 8:
            out.append(bits & 255)
            bits, count = bits >> 8, count - 8
    if count:
        out.append(bits & 255)
    return bytes([8]) + sub_blocks(bytes(out))


def gif(screen, frame, indices, interlaced=False, transparent=None, local=False):
    """A GIF by hand, for what no writer makes: frames smaller or larger than the screen."""
    table = b"".join(bytes([i, 255 - i, (i * 7) % 256]) for i in range(256))
    flags = 0x70 if local else 0xF7
    out = b"GIF89a" + screen[0].to_bytes(2, "little") + screen[1].to_bytes(2, "little") + bytes([flags, 3, 0])
    out += b"" if local else table
    if transparent is not None:
        out += b"\x21\xf9\x04" + bytes([1, 0, 0, transparent]) + b"\0"
    out += b"\x2c" + b"".join(v.to_bytes(2, "little") for v in frame)
    out += bytes([(0x87 if local else 0) | (0x40 if interlaced else 0)]) + (table if local else b"")
    width, height = frame[2:]
    rows = [indices[y * width:(y + 1) * width] for y in range(height)]
    if interlaced:
        order = [y for a, s in ((0, 8), (4, 8), (2, 4), (1, 2)) for y in range(a, height, s)]
        rows = [rows[y] for y in order]
    return out + literal_codes([v for r in rows for v in r]) + b";"


def pictures():
    os.makedirs(PICTURES, exist_ok=True)
    path = lambda name: os.path.join(PICTURES, name)
    wave(37, 23, 1).quantize(64).save(path("palette.gif"))
    wave(24, 31, 2).convert("L").save(path("grey.gif"))
    wave(20, 20, 3).quantize(16).save(path("moving.gif"), save_all=True,
                                      append_images=[wave(20, 20, 4).quantize(16)], duration=10)
    draw = random.Random(5)
    some = lambda n: [draw.randrange(256) for _ in range(n)]
    for name, made in {
            "smaller.gif": gif((12, 10), (3, 2, 5, 6), some(30)),
            "smaller_transparent.gif": gif((12, 10), (3, 2, 5, 6), [9 if i % 3 else i for i in some(30)],
                                           transparent=9),
            "larger.gif": gif((4, 4), (2, 1, 7, 9), some(63)),
            "interlaced.gif": gif((11, 19), (0, 0, 11, 19), some(209), interlaced=True),
            "local.gif": gif((6, 6), (0, 0, 6, 6), some(36), local=True)}.items():
        with open(path(name), "wb") as f:
            f.write(made)
    for name in sorted(os.listdir(PICTURES)):
        if name.endswith(".gif"):
            picture = Image.open(path(name))
            picture.seek(0)
            picture.convert("RGB").save(path(name[:-4] + ".png"))
            picture.convert("RGB").save(path(name[:-4] + ".jpg"))


def conversation(i, draw):
    turns = []
    for t in range(draw.randrange(1, 4)):
        turns.append({"from": "human", "value": ("<image>\n" if t == 0 else "") + f"Frage {i}.{t}: größer? \"\\ \u2028"})
        turns.append({"from": "gpt", "value": f"Antwort {i} 猫 \U0001f600 \x7f\t/"})
    return turns


def lists():
    os.makedirs(os.path.join(LISTS, "lrv"), exist_ok=True)
    path = lambda name: os.path.join(LISTS, name)
    draw = random.Random(11)
    base, lvis = [], []
    for i in range(60):
        record = {"id": f"{i:012d}" if i % 2 else i}
        if i % 5:
            record["image"] = f"coco/train2017/{i % 7:012d}.jpg"
        else:
            record["model"] = ""
        base.append(record | {"conversations": conversation(i, draw)})
    for i in range(25):
        lvis.append({"id": i, "image": f"coco/{'train' if i % 2 else 'val'}2017/{i % 7:012d}.jpg",
                     "conversations": conversation(100 + i, draw)})
    caption = lambda i, image: {"image_id": image, "question": f" \u00a0What {i}?\n", "answer": f"\x1f“That” {i}.\t",
                                "task": "x"}
    lrv = {"filter_cap1.json": [caption(i, str(2400000 + i % 5)) for i in range(20)],
           "filter_cap_more1.json": [caption(i, str(2400000 + i % 6)) for i in range(20, 33)],
           "chart_release_update.json": [caption(i, f"chart.{i % 4}.png") for i in range(33, 50)]}
    with open(path("llava_v1_5_mix665k.json"), "w", encoding="utf-8") as f:
        json.dump(base, f, indent=2, ensure_ascii=False)
    with open(path("lvis_instruct4v_220k.json"), "w", encoding="utf-8") as f:
        json.dump(lvis, f)
    for name, records in lrv.items():
        with open(os.path.join(LISTS, "lrv", name), "w", encoding="utf-8") as f:
            json.dump(records, f)

    def shuffled(name, records, source):
        for _ in range(3):
            source.shuffle(records)
        with open(path(name), "w", encoding="utf-8") as f:
            json.dump(records, f)
        return records

    mixed = shuffled("llava_v1_5_lvis4v_mix888k.json", base + lvis, random.Random(7))
    turns = lambda r: [{"from": "human", "value": "<image>\n" + r["question"].strip()},
                       {"from": "gpt", "value": r["answer"].strip()}]
    more = [{"id": r["image_id"], "image": f"lrv/lrv-vg/{r['image_id']}.jpg", "conversations": turns(r)}
            for name in ("filter_cap1.json", "filter_cap_more1.json") for r in lrv[name]]
    more += [{"id": os.path.splitext(r["image_id"])[0], "image": f"lrv/lrv-chart/{r['image_id']}",
              "conversations": turns(r)} for r in lrv["chart_release_update.json"]]
    source = random.Random(7)
    shuffled("llava_v1_5_lrv_mix1008k.json", base + more, source)
    shuffled("llava_v1_5_lvis4v_lrv_mix1231k.json", mixed + more, source)
    with open(path("llava_v1_5_stripped625k.json"), "w", encoding="utf-8") as f:
        json.dump([r for r in base if "image" in r], f)
    # the order alone, of as many as the published lists have
    for name, count in (("665298", 665298 + 222711), ("8", 8)):
        order = list(range(count))
        source = random.Random(7)
        for _ in range(3):
            source.shuffle(order)
        print(name, count, order[:5], order[-5:], sum(i * v % 1000003 for i, v in enumerate(order)))


pictures()
lists()
