#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# examples/train --stage: alignment, then fine-tuning from what it wrote, in two parts.
#   train_stages.sh TRAIN_PROGRAM
set -eu
train=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
steps=6
. "$(dirname "$0")/tiny_recipe.sh"

fail() { echo "train_stages: $*" >&2; exit 1; }
# The model alone: what a stage decides is not in the recipe.
sed -i '/"training":/d; /"run":/d; s/^\(  "data": .*\),$/\1/' "$work/recipe.json"
sed -i "s|\"data\": {[^}]*}|\"training\": {\"batch\": 8, \"micro_batch\": 4}|" "$work/recipe.json"
mkdir -p "$work/root/download/llava-v1.5-instruct"
cp "$work/chat.json" "$work/root/download/llava-v1.5-instruct/llava_v1_5_mix665k.json"
cp "$pictures"/*.png "$work/root/download/llava-v1.5-instruct"

run() { "$train" --config "$work/recipe.json" --threads 1 --weights f32 "$@" > "$work/log" 2>&1; }
lines() { wc -l < "$1"; }

run --llava "$work/chat.json" --images "$pictures" --stage align --out "$work/aligned" ||
  fail "align: $(cat "$work/log")"
grep -q '=>> \[Global Step\] 000008 =>> LR :: 0\.0000' "$work/log" || fail "no status: $(cat "$work/log")"
records="$work/aligned/chat+recipe+stage-align+x7.jsonl"
[ "$(lines "$records")" = 8 ] || fail "$(lines "$records") records of 8 updates" # 60 examples by 8
grep -q '"Align/Learning Rate":.*"Align/Loss":.*"Align/Loss (Raw)":.*"Align/Step":8' "$records" ||
  fail "the last record is $(tail -1 "$records")"
[ "$(lines "$work/aligned/run-metrics.jsonl")" = 1 ] || fail "run-metrics.jsonl is not one line"
ls "$work/aligned/checkpoints" | grep -qE '^step-000008-epoch-00-loss=[0-9.]+$' ||
  fail "checkpoints are $(ls "$work/aligned/checkpoints")"
[ -f "$work/aligned/checkpoints/latest-checkpoint/state.json" ] || fail "no latest-checkpoint"

tune() {
  run --dataset llava-v15 --root "$work/root" --stage finetune --from "$work/aligned/model" "$@"
}
tune --out "$work/tuned" || fail "finetune: $(cat "$work/log")"
records="$work/tuned/recipe+stage-finetune+x7.jsonl"
[ "$(lines "$records")" = 16 ] || fail "$(lines "$records") records of 2 epochs of 8 updates"
code=0
tune --out "$work/parts" --minutes 0.00001 || code=$?
[ $code = 3 ] || fail "a part: exit code $code, $(cat "$work/log")"
tune --out "$work/parts" --resume || fail "the rest: $(cat "$work/log")"
cmp "$work/tuned/model/model.safetensors" "$work/parts/model/model.safetensors" ||
  fail "in two parts it is another model"
cmp -s "$work/aligned/model/model.safetensors" "$work/tuned/model/model.safetensors" &&
  fail "nothing was learned"
[ "$(lines "$work/parts/recipe+stage-finetune+x7.jsonl")" = 16 ] || fail "records of parts"

# refused WORDS OPTION...: exits with 2 and says WORDS
refused() {
  local words=$1 code=0
  shift
  run "$@" --out "$work/none" || code=$?
  if [ $code != 2 ] || ! grep -qF -- "$words" "$work/log"; then
    fail "$*: exit code $code, $(cat "$work/log"); wanted: exit code 2 and \"$words\""
  fi
}
refused 'stage "pretrain"' --llava "$work/chat.json" --stage pretrain
refused 'data set "llava"' --dataset llava --stage align
refused "wants a --stage" --dataset llava-v15
refused "io_none" --llava "$work/chat.json" --stage align --from "$work/io_none"
echo "train_stages: aligned, tuned, tuned in two parts, 4 refused"
