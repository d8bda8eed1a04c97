# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
"""Writes tests/evaluate/goldens.json: what Python and scikit-learn make of random numbers, answers, boxes
and probabilities. An implementation of its own: regular expressions, random, ast and sklearn.metrics.

    python3 evaluation_cases.py        (needs scikit-learn 1.3 or later)
"""
import ast
import json
import os
import random
import re
import string

import numpy as np
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

SINGLE = (
    "ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's I'm "
    "I've isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't should've "
    "shouldn't somebody'll somebody's someone'd someone'll someone's something'd something'll that's there'd there're "
    "there's they'd they'll they're they've 'twas wasn't we've weren't what'll what're what's what've when's where'd "
    "where's where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're "
    "you've").split()
DOUBLE = (
    "couldn't've hadn't've he'd've I'd've it'd've mightn't've she'd've shouldn't've somebody'd've someone'd've "
    "something'd've there'd've they'd've we'd've who'd've wouldn't've you'd've").split()
TABLE = {w.replace("'", ""): w for w in SINGLE}
for w in DOUBLE:
    a, b = [i for i, c in enumerate(w) if c == "'"]
    TABLE[w[:a] + w[a + 1:]] = w
    TABLE[w[:b] + w[b + 1:]] = w
TABLE.update({"let's": "let's", "she's": "she's", "yall'll": "y'all'll", "y'allll": "y'all'll",
              "yall'd've": "y'all'd've", "y'alld've": "y'all'd've", "y'all'dve": "y'all'd've",
              "ow's'at": "'ow's'at", "'ows'at": "'ow's'at", "'ow'sat": "'ow's'at", "somebody'd": "somebodyd"})
REAL = {"ain't", "aren't", "can't", "could've", "couldn't", "we've", "where's", "who've"}
VIZWIZ = {(k if k in ("couldn'tve", "hadn'tve") else k.replace("'", "`")):
          (v if v in REAL else v.replace("'", "`")) for k, v in TABLE.items()}
DIGITS = {"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6",
          "seven": "7", "eight": "8", "nine": "9", "ten": "10"}
MARKS = "; / [ ] \" { } ( ) = + \\ _ - > < @ ` , ? !".split(" ")


def punctuation(text):
    number = re.search(r"\d,\d", text) is not None
    out = text
    for m in MARKS:
        beside = (m + " ") in text or (" " + m) in text
        out = out.replace(m, "" if beside or number else " ")
    return re.sub(r"\.(?!\d)", "", out, count=32)


def words(text, table):
    out = [DIGITS.get(w, w) for w in text.lower().split()]
    return " ".join(table.get(w, w) for w in out if w not in ("a", "an", "the"))


def prediction(text, table):
    return words(punctuation(text.replace("\n", " ").replace("\t", " ").strip()), table)


def text_vqa(text):
    return prediction(text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip(), TABLE)


def gqa(text):
    return "".join(c for c in text.lower() if c not in string.punctuation)


def soft(answer, annotators):
    return sum(min(1, sum(a == answer for j, a in enumerate(annotators) if j != i) / 3)
               for i in range(len(annotators))) / len(annotators)


def box(text):
    try:
        b = ast.literal_eval(text)
        if not isinstance(b, list) or len(b) != 4 or not all(0 <= x <= 1 for x in b):
            return None
        return [float(x) for x in b] if b[0] < b[2] and b[1] < b[3] else None
    except (ValueError, SyntaxError, TypeError, MemoryError):
        return None


def main():
    r = random.Random(5)
    out = {}
    rng = random.Random(21)
    out["bits"] = [rng.getrandbits(32) for _ in range(700)][::7]
    out["shuffles"] = {}
    for n in (0, 1, 2, 3, 10, 625, 3000):
        order = list(range(n))
        random.Random(21).shuffle(order)
        out["shuffles"][n] = order if n < 11 else order[:20] + order[-5:]
    order = list(range(214354))
    random.Random(21).shuffle(order)
    out["shuffle_of_vqa_v2"] = order[:16]

    pieces = (["a", "An", "the", "None", "ten", "two", " ", "  ", "\n", "\t", ".", "..", ".5", "1.5", "3.", ",", "1,000",
               "1,,2", ", ", " ,", "?", " ?", "!", "it's", "dont", "couldntve", "couldnt've", "couldn'tve", "hadn'tve",
               "yall'd've", "'ow'sat", "somebody'd", "Im", "id've", "`", "x`y", "twas", "Tennis Racket", "caf\u00c9",
               "\u0663,\u0664", ".\u0665", "\u00a0", "\x1c", "'s", "john's", "UNANSWERABLE", "unanswerable", "won`t",
               "couldnt", "cant", "we`ve", "weve"] + MARKS + list(TABLE))
    texts = ["", " ", ".", ". " * 40, "a" + "." * 40 + "b", "Yes.", "no , thanks", "1,000 dogs!", "red-white", "red - white"]
    texts += ["".join(r.choice(pieces) + r.choice(["", " "]) for _ in range(r.randrange(1, 7))) for _ in range(350)]
    out["texts"] = [{"text": t, "punctuation": punctuation(t), "vqa": prediction(t, TABLE), "vizwiz": prediction(t, VIZWIZ),
                     "text_vqa": text_vqa(t), "gqa": gqa(t)} for t in texts]
    out["contractions"] = {k: v for k, v in TABLE.items() if k == k.lower()}
    out["vizwiz_contractions"] = {k: v for k, v in VIZWIZ.items() if k == k.lower()}
    out["table_sizes"] = [len(TABLE), len(VIZWIZ)]
    out["soft"] = []
    for n in list(range(0, 11)) + [1, 2]:
        annotators = ["x"] * n + [r.choice("yz") for _ in range(10 - n)]
        out["soft"].append({"annotators": annotators, "x": soft("x", annotators), "y": soft("y", annotators)})

    boxes = ["[0.1, 0.2, 0.3, 0.4]", "[0,0,1,1]", "[0.1,0.2,0.3,0.4,]", "(0.1,0.2,0.3,0.4)", "[0.1,0.2,0.3]",
             "[0.1,0.2,0.3,0.4,0.5]", "[0.3,0.2,0.1,0.4]", "[0.1,0.4,0.3,0.2]", "[0.1,0.2,0.1,0.4]", "[0.1,0.2,1.1,0.4]",
             "[-0.1,0.2,0.3,0.4]", "[-0,0.2,0.3,0.4]", "[- 0.0, 0.2, +0.3, 0.4]", "[.1,.2,.3,1.]", "[1e-1,2E-1,3e-01,0.4e+0]",
             "[01,0,1,1]", "[00,0,1,1]", "[00.1,0,1,1]", "[0.1_5,0,1,1]", "[0._1,0,1,1]", "[0_.1,0,1,1]", "[1__0,0,1,1]",
             "[True,0,1,1]", "[False,False,True,True]", "[0.1 0.2 0.3 0.4]", "0.1, 0.2, 0.3, 0.4", "[0.1, 0.2, 0.3, 0.4].",
             "The box is [0.1, 0.2, 0.3, 0.4]", "", "[", "[]", "[,0,1,1]", "[0.1,,0.3,0.4]", "['0.1',0.2,0.3,0.4]",
             "[0.1,\n 0.2,\t0.3, 0.4 ]", "[None,0,1,1]", "[nan,0,1,1]", "[inf,0,1,1]", "[1e999,0,1,1]", "[+-0.1,0,1,1]",
             "[0.1e,0,1,1]", "[.,0,1,1]", "[0.1,0.2,0.3,0.4", "[[0.1,0.2,0.3,0.4]]", "[0.1,0.2,0.3,0.4]]", "[1j,0,1,1]",
             "[Trueish,0,1,1]", "[-True,0,1,1]", "[0.10,0.20,0.99,1.00]", "[0 .5,0,1,1]", "[0.1,0.2,0.3,0.4],"]
    out["boxes"] = [{"text": t, "box": box(t)} for t in boxes]
    out["rounded"] = []
    for _ in range(200):
        x = r.choice([r.random() * 640, r.randrange(0, 641), r.randrange(0, 64100) / 100])
        out["rounded"].append([x, round(x / 640, 2)])

    out["curves"] = []
    rng = np.random.default_rng(3)
    for case in range(12):
        n, k = int(rng.integers(4, 60)), [2, 2, 2, 4, 16, 4][case % 6]
        truth = rng.integers(0, k, n)
        truth[:min(n, k)] = np.arange(k)[:min(n, k)]
        if k > n:
            n = 3 * k
            truth = np.tile(np.arange(k), 3)
        p = rng.random((n, k)) + 0.7 * np.eye(k)[truth] * rng.random((n, 1))
        p /= p.sum(1, keepdims=True)
        p = np.round(p, 1 if case % 2 else 6)  # ties
        p[p.sum(1) == 0] = 1.0 / k
        if k == 2:
            first = p[:, 0]
            c = {"roc": roc_auc_score(truth == 0, first), "ap": average_precision_score(truth == 0, first),
                 "f1": f1_score(truth == 0, first > 0.5)}
        else:
            p = p / p.sum(1, keepdims=True)
            c = {"roc": roc_auc_score(truth, p, multi_class="ovo"), "ap": average_precision_score(truth, p)}
        out["curves"].append({"truth": truth.tolist(), "probabilities": p.tolist(), **c})
    hard = rng.integers(0, 2, 40)
    truth = rng.integers(0, 2, 40)
    out["hard"] = {"truth": truth.tolist(), "given": hard.tolist(), "ap": average_precision_score(truth, hard),
                   "f1": f1_score(truth, hard)}

    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "evaluate", "goldens.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(out, f, indent=None, separators=(",", ":"))
        f.write("\n")
    print(os.path.getsize(path), "bytes")


if __name__ == "__main__":
    main()
