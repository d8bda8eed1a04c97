# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# The texts of tests/text/many_texts.hpp, byte for byte, and checksums of the ids that Hugging Face's tokenizers give them.
#
#   many_texts.py TOKENIZER_JSON NAME [COUNT]     writes tokenizer/many_NAME.json; 104,000 texts without COUNT
import json
import sys
from pathlib import Path

MASK = (1 << 64) - 1
EACH = 1000  # texts a checksum

ALPHABETS = ["abcdefghijklmnopqrstuvwxyz     ", "aeiou 'stmdrlv", "ABCdeFGh tHE", "0123456789 .,", " \n\t  \r\n",
             "\u00a0\u2003\u3000\u0085\u2028\u200b\u1680 x", "{}()[]<>=+-*/;:\"'\\|_#@!?", "éüñåøßçæœ e", "東京日本語中文字。、 ",
             "абвгдежз ё", "ابتثجح ", "½²Ⅷ٣๑一 1", "😀👍🏽❤️☕\u200d ", "\u1100\u1101\u1112\u1161\u1162\u11a7\u11a8\u11ab가각힣 ",
             "\u0915\u093c\u0947\u09c7\u09be\u0b47\u0b57\u0f71\u0f72 ",
             "aeoAq\u0300\u0301\u0302\u0303\u0307\u0308\u030a\u0315\u0323\u0327\u0338\u0345\u05ae"]
RANGES = [(0x0020, 0x024F), (0x0300, 0x0345), (0x0370, 0x03FF), (0x0591, 0x05F4), (0x0900, 0x0DFF), (0x1E00, 0x1FFF),
          (0x2000, 0x2BFF), (0x3000, 0x30FF), (0xAC00, 0xD7A3), (0xF900, 0xFAFF), (0xFB00, 0xFDFF), (0xFE00, 0xFFFF),
          (0x0020, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x1FFFF), (0x2F800, 0x2FA1F), (0x20000, 0x323AF)]
WORDS = ["<|endoftext|>", "<|padding|>", "<|endoftext", "|>", "<|user|>\n", "<|assistant|>\n", "<image>", "'s", "'ll", "'re",
         "\r\n", "\n\n", " the", "The", " question", " answer", " photo", "What", " is", " unusual", " about", " this", "?",
         " 2024", "3.14", " https://", "e-mail@example.org", "    return 0;", "// ", " don't", "I'd", "True", "False"]
AROUND = [" ", "a", "1", ".", "\u0301", "  "]


class TextRandom:
    """splitmix64."""

    def __init__(self, state):
        self.state = state & MASK

    def below(self, n):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
        return (z ^ z >> 31) % n


def many_text(i):
    """The bytes of text number i."""
    r = TextRandom(i * 0xD1342543DE82EF95 + 1)
    text = ""
    if i % 8 == 0:
        block = i // 8
        first = block * 16 if block < 0x323B else \
            0xE0000 + (block - 0x323B) * 16 if block < 0x325A else 0x10FFF0 - (block - 0x325A) * 16
        for c in range(first, first + 16):
            if 0xD800 <= c <= 0xDFFF:
                continue
            if r.below(3) == 0:
                text += AROUND[r.below(6)]
            text += chr(c)
        return text.encode()
    for _ in range(1 + r.below(6)):
        kind = r.below(8)
        if kind < 3:
            alphabet = ALPHABETS[r.below(len(ALPHABETS))]
            for _ in range(1 + r.below(14)):
                text += alphabet[r.below(len(alphabet))]
        elif kind < 5:
            for _ in range(1 + r.below(4)):
                text += WORDS[r.below(len(WORDS))]
        elif kind == 5:
            first, last = RANGES[r.below(len(RANGES))]
            for _ in range(1 + r.below(8)):
                text += chr(first + r.below(last - first + 1))
        elif kind == 6:
            text += " " * (1 + r.below(60))
        else:
            alphabet = ALPHABETS[r.below(len(ALPHABETS))]
            c = alphabet[r.below(len(alphabet))]
            text += c * (1 + r.below(40))
    text = text.encode()
    if i % 16 == 15:
        text = bytearray(text)
        for _ in range(1 + r.below(4)):
            at = r.below(len(text))
            text[at] = r.below(256)
        text = bytes(text[:len(text) - r.below(min(4, len(text)))])
    return text


def checksum(texts_of_ids):
    value = 0xCBF29CE484222325
    for ids in texts_of_ids:
        for id in [*ids, 0xFFFFFFFF]:
            for byte in id.to_bytes(4, "little"):
                value = (value ^ byte) * 0x100000001B3 & MASK
    return value


def make(file, name, count=104_000):
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(file))
    sums = []
    for first in range(0, count, EACH):
        texts = [many_text(i).decode("utf-8", errors="replace") for i in range(first, first + EACH)]
        sums.append(f"{checksum(e.ids for e in tokenizer.encode_batch(texts)):016x}")
    out = Path(__file__).resolve().parent / "tokenizer" / f"many_{name}.json"
    out.write_text(json.dumps({"texts_each": EACH, "checksums": sums}, indent=0) + "\n")


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 4:
        sys.exit("many_texts: give TOKENIZER_JSON NAME [COUNT]")
    make(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
