#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# What examples/generate says to bad input: one clear line, exit code 2, never a crash.
#   bad_input.sh PROGRAM MODEL_FOLDER
set -u
program=$1 model=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0

# refused WORDS ARGUMENTS...: exits with 2, says WORDS, in one line
refused() {
  local words=$1 output code
  shift
  output=$("$program" "$@" 2>&1 < /dev/null)
  code=$?
  if [ $code != 2 ] || ! grep -qF -- "$words" <<< "$output" || [ "$(wc -l <<< "$output")" -gt 2 ]; then
    printf 'bad_input: %s\n  exit code %s, output: %s\n  wanted: exit code 2 and "%s"\n' "$*" $code "$output" "$words"
    bad=1
  fi
}
# answered ARGUMENTS...: exits with 0
answered() {
  if ! "$program" "$@" > "$work/out" 2>&1 < /dev/null; then
    printf 'bad_input: %s\n  %s\n  wanted: an answer\n' "$*" "$(cat "$work/out")"
    bad=1
  fi
}
picture=$(ls "$(dirname "$0")"/../examples/pictures/*.png | head -1)

refused "no-such-folder" --model "$work/no-such-folder" --prompt hello
refused "no-such.png" --image "$work/no-such.png" --prompt hello
refused "cuda" --device cuda --prompt hello
printf 'this is no picture' > "$work/text.png"
refused "text.png" --image "$work/text.png" --prompt hello
head -c 300 "$picture" > "$work/cut.png"
refused "cut.png" --image "$work/cut.png" --prompt hello
: > "$work/empty.png"
refused "empty.png" --image "$work/empty.png" --prompt hello

# models: missing, cut, of other sizes, not finite
for part in config.json model.safetensors tokenizer.json; do
  rm -rf "$work/m" && cp -r "$model" "$work/m" && rm "$work/m/$part"
  refused "$part" --model "$work/m" --prompt hello
  rm -rf "$work/m" && cp -r "$model" "$work/m" && head -c 1000 "$model/$part" > "$work/m/$part"
  refused "$work/m" --model "$work/m" --prompt hello
done
rm -rf "$work/m" && cp -r "$model" "$work/m"
sed -i 's/"d_model": 192/"d_model": 256/' "$work/m/config.json"
refused "wants" --model "$work/m" --prompt hello

# odd, but defined
answered --image "$picture" --prompt "$(printf 'What is \377\376 at the top left?')"
answered --image "$picture" --prompt "$(head -c 20000 /dev/zero | tr '\0' 'x')"
answered --image "$picture" --prompt " "
answered --prompt "Is there a bag?" --max-new-tokens 3
answered --image "$picture" --prompt "Is there a bag?" --temperature 0.7 --top-k 5 --top-p 0.9 --min-p 0.05 --seed 3 --threads 1
[ $bad = 0 ] && echo "bad_input: all refused or answered"
exit $bad
