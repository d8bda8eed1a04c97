# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# A small byte-level BPE tokenizer.json of GPT-NeoX's construction, and texts with the ids the tokenizers package gives.
import json
import random
import unicodedata

from fixture import HERE

FOLDER = HERE / "tokenizer"

TEXT = """A state space model reads a sequence from left to right and keeps what it has seen in a small state. The state
decays, the input adds to it, and the output is read from it; how fast it decays, what is added and what is read all
depend on the input. That is why the model can choose what to remember and what to forget. A vision tower cuts a picture
into patches, turns each patch into a vector, and lets the patches look at each other. The connector walks over the
patches forwards and backwards, so that each one knows the whole picture. Then the language model reads the picture
first and the question after it: "What is at the top left?" - "A shirt." - "How many shoes are there?" - "There are 3."
It isn't hard, they're told; we've seen it, I'd say so, she'll agree, and I'm sure it's true, don't you think?

    for (int i = 0; i < 10; ++i) {
        total += values[i] * weights[i];  // 1234567890
    }

\tNaïve café, über façade, señor, Ångström, 東京 and Москва; 100 % of 2,048 tokens, 3.14159, e-mail@example.org, #42!
"""

# Texts that each try one rule: contractions, kinds of space, letters, digits, NFC, special tokens, bytes.
CHOSEN = [
    "", " ", "  ", "   ", "\n", "\n\n", "\t", " \n", "\n ", " \n ", "  \n  ", "\r\n", "a", " a", "  a", "   a", "a ", "a  ",
    "a   ", "a\nb", "a \nb", "a\n b", "a  b", "a   b", "a \t b", " \u00a0 ", "\u00a0a", "a\u00a0b", "\u2003\u2003x", "\u3000東",
    "\u200b", "\u200b a", "\ufeffa", "\u0085", "a\u0085b", "\u2028x", "\u180ea", "\x1c", "\x1f a", "\x0b\x0c", "\x00", "a\x00b",
    "it's", "IT'S", "they're", "we've", "I'd", "she'll", "I'm", "don't", "'s", "''s", "'ss", "' s", "x'", "'d've", "isn\u2019t",
    "'S", "'\u017f", "o'clock", "rock 'n' roll", "123", "1 2 3", "12a34", "a1b2", "3.14", "1,000,000", "\u0663\u0664", "\u00bd",
    "\u00b2\u00b3", "\u2167", "\u4e00\u4e8c", "\u0e51", "\U0001d7d9\U0001d7da", "\u3289", "Hello world", " Hello world", "Hello, world!",
    "hello-world", "hello_world", "a.b.c", "...", "....!?", " ...", "(a)", "[a] {b}", "<a>", "</a>", "http://a.b/c?d=e&f#g",
    "C++20", "x += y * z;", "if (a == b) { return 0; }", "    four spaces", "     five", " " * 23 + "x", " " * 24 + "x",
    " " * 25 + "x", " " * 26 + "x", " " * 47, " " * 48, " " * 49, " " * 71, " " * 100, " " * 24, " " * 25, "\t\tx", "\t x", " \tx", "  \tx", "x  \n  y",
    "x\n  y", "x  ", "   \n   ", "<|endoftext|>", "<|endoftext|><|endoftext|>", " <|endoftext|>", "<|endoftext|> ",
    "a<|endoftext|>b", "a <|endoftext|> b", "  <|endoftext|>  ", "<|padding|>", "x<|padding|>y", "<|endoftext|", "|endoftext|>",
    "<|endoftext|>\n", "<<|endoftext|>>", "<|endof<|endoftext|>text|>", "<|user|>\nWhat is this?<|endoftext|>\n<|assistant|>\n",
    "<|ENDOFTEXT|>", "<image>", "<|user|>", "caf\u00e9", "cafe\u0301", "e\u0301", "\u0301", "e\u0301\u0323", "e\u0323\u0301", "\u1eb9\u0301", "\u212b",
    "A\u030a", "\u00c5", "\u2126", "\u1e9b\u0323", "\u0344", "\u0958", "\u0915\u093c", "\u09c7\u09be", "\u0b47\u0b57", "\u1100\u1161", "\u1100\u1161\u11a8",
    "\uac00\u11a8", "\uac00\u11a7", "\uac01\u11a8", "\u1112\u1161\u11ab\u1100\u1173\u11af", "\u1161\u1100", "\ufa0e\ufa10", "\uf900", "\U0002f800", "\u2adc", "\ufb1d", "\ufb2a",
    "\u0f71\u0f72", "\u0f73", "\u0f81", "\U0001d15e", "\U0001d158\U0001d165", "\U0001d1bb", "q\u0307\u0323", "q\u0323\u0307", "a\u0315\u0300\u05ae\u0301b", "\ufb01", "\uff21", "\u00a8", "\u037e",
    "\u1fee", "\u2000", "\u2001x", "\u0340\u0341", "\u0374", "\u0387", "s\u0323\u0307", "\u1e69", "\u1e0b\u0323", "\u0041\u0300\u0301\u0302\u0303", "\u0308\u0301",
    "\u3099\u304b", "\u304b\u3099", "\u30cf\u309a", "\u0627\u0653", "\u05e9\u05bc\u05c1", "\U000110a5\U000110ba", "\U00011131\U00011127", "\U00011347\U0001133e",
    "Москва", "東京都", "こんにちは世界", "안녕하세요", "שלום עולם", "مرحبا بالعالم", "नमस्ते दुनिया", "สวัสดีชาวโลก", "Γειά σου Κόσμε", "Xin chào thế giới",
    "Zażółć gęślą jaźń", "İstanbul ışık", "straße STRASSE", "ﬀ ﬃ", "ǅ", "ʰello", "ªº", "𝒽ello", "𐍈𐌰", "😀", "👍🏽", "👨‍👩‍👧‍👦", "🇫🇷🇩🇪", "a😀b", " 😀",
    "😀😀😀", "☕️", "❤", "→ ← ↑", "∑∫√", "€ £ ¥", "«quoted»", "“quoted”", "—", "–", "…", "·", "\u00ad", "soft\u00adhyphen", "\u200d", "\u202eabc",
    "\ue000", "\U000f0000", "\U0010ffff", "\ufffd", "\ufdd0", "\U0001fae8", "\x7f", "\x80", "ÿ", "ĀāĂă", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "thethethethe", "The the THE tHe", "statestatestate", "model" * 20, "ab" * 100, "1" * 50, "!" * 40, "-" * 33, "=" * 80, "é" * 10, "e\u0301" * 10, "東" * 12,
    "a" * 300, " a" * 60, "a " * 60, "\n" * 30, "\t" * 17, "\r\n" * 5, " \n" * 7, "Is there a dog in the image?\nAnswer the question using a single word or phrase.",
    "Provide a detailed description of this image", "What's unusual about this photo?",
]

ALPHABETS = ["abcdefghijklmnopqrstuvwxyz     ", "aeiou 'stmdrlv", "0123456789 .,", " \n\t  \r", "<|endoftext|> ", "éüñåøßçæœ e\u0301\u0323\u0308\u030a",
             "東京日本語中文字。、 ", "абвгдежз ё", "ابتثجح ", "\u1100\u1101\u1161\u1162\u11a8\u11ab가각힣 ", "\u0915\u093c\u0947\u09c7\u09be ", "😀👍🏽❤️☕\u200d ",
             "\u00a0\u2003\u3000\u0085\u2028 x", "½²Ⅷ٣๑一 1", "{}()[]<>=+-*/;:\"'\\", "AbC dEf"]


def random_text(rng):
    """A few pieces, each of one alphabet, or of any assigned characters; never a surrogate."""
    pieces = []
    for _ in range(rng.randint(1, 5)):
        if rng.random() < 0.2:
            while True:
                some = [chr(rng.choice([rng.randrange(0x250), rng.randrange(0x3000), rng.randrange(0xD800),
                                        rng.randrange(0x1F000, 0x1FB00), rng.randrange(0x10000, 0x20000)]))
                        for _ in range(rng.randint(1, 6))]
                # Characters that any Unicode since 9.0 knows, so that the age of a table does not matter.
                if all(unicodedata.category(c) not in ("Cn", "Cs") and unicodedata.ucd_3_2_0.category(c) != "Cn"
                       for c in some):
                    break
            pieces.append("".join(some))
        else:
            alphabet = rng.choice(ALPHABETS)
            pieces.append("".join(rng.choice(alphabet) for _ in range(rng.randint(1, 14))))
        if rng.random() < 0.1:
            pieces.append(rng.choice(["<|endoftext|>", "<|padding|>", "  ", " " * 25, "'s", "'ll", "\n\n"]))
    return "".join(pieces)


def texts(seed, count):
    rng = random.Random(seed)
    return CHOSEN + [random_text(rng) for _ in range(count - len(CHOSEN))]


def train():
    """Trains the small tokenizer and gives its JSON the layout of GPT-NeoX's: runs of spaces at the end."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(TEXT.splitlines(keepends=True), trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|endoftext|>", "<|padding|>"], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    tokenizer.add_tokens([AddedToken(" " * n, normalized=True) for n in range(24, 1, -1)])
    return tokenizer


def cases_of(tokenizer, some):
    cases = []
    for text in some:
        ids = tokenizer.encode(text, add_special_tokens=True).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == unicodedata.normalize("NFC", text), repr(text)
        cases.append({"text": text, "ids": ids})
    return cases


def save(path, cases):
    lines = ",\n".join(json.dumps(case, ensure_ascii=True, separators=(",", ":")) for case in cases)
    path.write_text("[\n" + lines + "\n]\n")


def neox_path():
    for parent in (HERE.parents[1], HERE.parents[2]):
        path = parent / "shared" / "data" / "gpt-neox-20b" / "tokenizer.json"
        if path.is_file():
            return path
    return None


def make():
    from tokenizers import Tokenizer
    FOLDER.mkdir(exist_ok=True)
    small = train()
    small.save(str(FOLDER / "tokenizer.json"), pretty=True)
    save(FOLDER / "cases.json", cases_of(Tokenizer.from_file(str(FOLDER / "tokenizer.json")), texts(1, 420)))
    if neox_path() is None:
        print("tokenizer_cases: no GPT-NeoX tokenizer.json beside the project; cases_neox.json is left as it is")
        return
    neox = Tokenizer.from_file(str(neox_path()))
    assert neox.encode("Hello world").ids == [12092, 1533]
    assert neox.encode("<|user|>\n").ids == [29, 93, 4537, 49651, 187]
    save(FOLDER / "cases_neox.json", cases_of(neox, texts(2, 420)))
