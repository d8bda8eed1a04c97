# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# Many random texts with their ids, for a comparison by hand: check_tokenizer.py TOKENIZER_JSON OUT [COUNT] [SEED].
#
# OUT gets one JSON object {"text", "ids"} a line, 100,000 without COUNT. These are other texts than those of cases.json.
import json
import random
import sys

from tokenizer_cases import random_text


def main(arguments):
    if not 2 <= len(arguments) <= 4:
        sys.exit("check_tokenizer: give TOKENIZER_JSON OUT [COUNT] [SEED]")
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(arguments[0])
    count = int(arguments[2]) if len(arguments) > 2 else 100_000
    rng = random.Random(int(arguments[3]) if len(arguments) > 3 else 20_000_000)
    with open(arguments[1], "w") as out:
        for _ in range(count):
            text = random_text(rng)
            out.write(json.dumps({"text": text, "ids": tokenizer.encode(text).ids}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
