#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# The program quantize, and generate with what it writes: smaller files, the same answers, the same
# bytes when quantised again; clear errors.
#   quantize.sh QUANTIZE GENERATE
set -u
quantize=$1 generate=$2
source=$(cd "$(dirname "$0")/.." && pwd)
model=$source/examples/garment_model
picture=$source/examples/pictures/1.png
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0
wrong() { echo "quantize: $*" >&2; bad=1; }
size() { stat -c %s "$1/model.safetensors"; }
ask() { "$generate" --image "$picture" --threads 2 "$@" 2>&1; }
answers() { # to three questions
  for question in "What is at the top left?" "Is there a bag?" "How many garments are there?"; do
    ask --prompt "$question" "$@"
  done
}

answers > "$work/wanted"
[ -s "$work/wanted" ] || wrong "no answers from the shipped model"
for weights in int8 int4; do
  "$quantize" "$model" "$work/$weights" --weights $weights --steps 20 > "$work/log" 2>&1 ||
    { wrong "$weights: exit $?: $(tail -1 "$work/log")"; continue; }
  grep -q "same greedy token" "$work/log" || wrong "$weights: no report: $(cat "$work/log")"
  [ "$(size "$work/$weights")" -lt $(($(size "$model") * 7 / 10)) ] ||
    wrong "$weights: $(size "$work/$weights") bytes of $(size "$model")"
  answers --model "$work/$weights" > "$work/got"
  answers --weights $weights > "$work/at_load"  # quantised when it is loaded
  cmp -s "$work/got" "$work/at_load" || wrong "$weights: other answers if quantised at load"
  [ $weights = int4 ] || cmp -s "$work/got" "$work/wanted" || wrong "$weights: other answers"
  "$quantize" "$work/$weights" "$work/again" --weights $weights --steps 0 > "$work/log" 2>&1 ||
    wrong "$weights again: exit $?: $(tail -1 "$work/log")"
  cmp -s "$work/$weights/model.safetensors" "$work/again/model.safetensors" ||
    wrong "$weights: quantised again it has other bytes"
  rm -rf "$work/again"
done
[ "$(size "$work/int4")" -lt "$(size "$work/int8")" ] || wrong "int4 is not smaller than int8"
# options may stand before the folders
"$quantize" --keep lm_head --keep mixer "$model" "$work/kept" --steps 0 > "$work/log" 2>&1 ||
  wrong "--keep before MODEL: exit $?: $(tail -1 "$work/log")"
answers --prepare > "$work/got"
cmp -s "$work/got" "$work/wanted" || wrong "--prepare: other answers"
answers --prepare --state bf16 > "$work/got"
cmp -s "$work/got" "$work/wanted" || wrong "--state bf16: other answers"
for weights in auto int8 "int8 --state bf16" "bf16 --prepare" "bf16 --prepare --state bf16"; do
  # shellcheck disable=SC2086
  answers --weights $weights --activations bf16 > "$work/got"
  cmp -s "$work/got" "$work/wanted" || wrong "$weights, --activations bf16: other answers"
done
"$quantize" "$model" - --weights bf16 --activations bf16 --steps 20 > "$work/log" 2>&1 ||
  wrong "a report of --activations bf16: exit $?: $(tail -1 "$work/log")"
grep -q "same greedy token" "$work/log" || wrong "--activations bf16: no report: $(cat "$work/log")"

refused() { # refused WANTED COMMAND...: exit 2 and one line with WANTED
  local wanted=$1
  shift
  "$@" > "$work/out" 2> "$work/err"
  local code=$?
  [ $code = 2 ] || wrong "$*: exit $code; 2 is wanted"
  grep -qF -- "$wanted" "$work/err" || wrong "$*: no \"$wanted\" in: $(head -2 "$work/err")"
}
refused "int8" "$quantize" "$model" "$work/x" --weights int5
refused "--activations: int8" "$quantize" "$model" "$work/x" --activations int8
refused "group" "$quantize" "$model" "$work/x" --weights int8 --group 7
refused "the same folder" "$quantize" "$model" "$model"
refused "no-such" "$quantize" "$work/no-such" "$work/x"
refused "no-such.png" "$quantize" "$model" "$work/x" --image "$work/no-such.png"
refused "--prompt is empty" "$quantize" "$model" "$work/x" --prompt ""
cp -r "$model" "$work/wordless" && rm "$work/wordless/tokenizer.json"
refused "tokenizer.json" "$quantize" "$work/wordless" "$work/x"
[ ! -e "$work/x" ] || wrong "a refused command left $work/x"
sed -i 's/"int8"/"int3"/' "$work/int8/config.json"
refused "int3" "$generate" --model "$work/int8" --prompt hello
exit $bad
