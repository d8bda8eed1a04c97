#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# Weights in bf16 stay bf16 in memory and answer with the same bits as the same weights in f32.
#   random_model.sh RANDOM_MODEL GENERATE
set -euo pipefail
random_model=$1 generate=$2
shipped=$(cd "$(dirname "$0")/../examples" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
wrong() { echo "random_model: $*" >&2; exit 1; }

"$random_model" --help > "$work/help"; grep -q "Exit code" "$work/help" || wrong "--help says nothing"
for bad in "" "no+such $work/m" "mlmamba+3b $work/m --weights f17" "mlmamba+3b $work/m --no such"; do
  code=0
  "$random_model" $bad > /dev/null 2>&1 || code=$?
  [ $code = 2 ] || wrong "\"$bad\": exit code $code; 2 is wanted"
done

for weights in f32 bf16; do
  "$random_model" "$shipped/garment_model/config.json" "$work/$weights" --weights $weights \
    --tokenizer "$shipped/garment_model/tokenizer.json"
done
[ "$(stat -c %s "$work/bf16/model.safetensors")" -lt "$(($(stat -c %s "$work/f32/model.safetensors") * 6 / 10))" ] ||
  wrong "bf16 is not half of f32"

# answers FOLDER WEIGHTS HELD: what a model says at random, and how it says its matrices are held
answers() {
  "$generate" --model "$work/$1" --weights "$2" --image "$shipped/pictures/1.png" --timing --seed 5 \
    --prompt "What is at the top left?" --temperature 1 --max-new-tokens 24 2> "$work/err" ||
    wrong "$1 $2: $(cat "$work/err")"
  grep -q "weights in $3: loaded" "$work/err" || wrong "$1 $2: $(cat "$work/err"); $3 is wanted"
}
want=$(answers bf16 auto bf16)
[ -n "$want" ] || wrong "no answer"
[ "$(answers bf16 f32 f32)" = "$want" ] || wrong "weights of bf16, widened to f32, answer otherwise"
answers f32 auto f32 > /dev/null
answers f32 bf16 bf16 > /dev/null
echo "random_model: bf16 answers as f32"
