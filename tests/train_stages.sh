#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# examples/train --stage: alignment, then fine-tuning from what it wrote, in two parts.
#   train_stages.sh TRAIN_PROGRAM RANDOM_MODEL
set -eu
train=$1 random_model=$2
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

# From parts: towers in timm's files, a language model in its own folder, a new connector. The runs
# have the original's names, and fine-tuning finds the connector that was aligned beside it.
golden=$(cd "$(dirname "$0")/golden/published/ml_mamba" && pwd)
echo '{"d_model": 16, "n_layer": 2, "vocab_size": 290,
  "ssm_cfg": {"layer": "Mamba2", "d_state": 8, "headdim": 8}}' > "$work/language.json"
"$random_model" "$work/language.json" "$work/language" --weights f32 \
  --tokenizer "$work/aligned/tokenizer.json" || fail "no language model"
towers='"dino": {"kind": "dinov2-reg4", "img_size": 24, "patch_size": 7, "embed_dim": 12, "depth": 3,
  "num_heads": 2}, "siglip": {"kind": "siglip", "img_size": 24, "patch_size": 7, "embed_dim": 10,
  "depth": 2, "num_heads": 2, "mlp_ratio": 3.7362}'
part_recipe() { # NAME ARCH_SPECIFIER
  echo "{\"model\": {$towers, \"arch_specifier\": \"$2\", \"image_resize_strategy\": \"letterbox\"},
    \"training\": {\"batch\": 8, \"micro_batch\": 4, \"epochs\": 1}}" > "$work/$1.json"
}
part_recipe tiny gelu-mlp
data=(--dataset.type llava-v15 --root "$work/root")
from_parts() { # CONFIG OPTION...
  local config=$1
  shift
  "$train" --config "$work/$config.json" --run_root_dir "$work/runs" --threads 1 --weights f32 \
    "${data[@]}" --language "$work/language" --vision "$golden/timm" \
    "$@" > "$work/log" 2>&1
}
refused_from_parts() { # WORDS CONFIG OPTION...
  local words=$1 code=0
  shift
  from_parts "$@" || code=$?
  if [ $code != 2 ] || ! grep -qF -- "$words" "$work/log"; then
    fail "$*: exit code $code, $(cat "$work/log"); wanted: exit code 2 and \"$words\""
  fi
}
refused_from_parts "no aligned connector" tiny --stage finetune
data=(--llava "$work/chat.json" --images "$pictures")
from_parts tiny --stage align ||
  fail "align from parts: $(cat "$work/log")"
[ -d "$work/runs/chat+tiny+stage-align+x7" ] || fail "runs are $(ls "$work/runs")"
data=(--dataset.type llava-v15 --root "$work/root")
from_parts tiny --stage finetune || fail "finetune from parts: $(cat "$work/log")"
tuned=$work/runs/tiny+stage-finetune+x7
grep -q '"connector": ".*chat+tiny+stage-align+x7/checkpoints/step-0.*/model.safetensors"' \
  "$tuned/model/recipe.json" || fail "the connector is not the aligned one"
grep -q '"image_resize_strategy": "letterbox"' "$tuned/model/config.json" || fail "no letterbox"
# 12 texts and 48 pictures: 2 + 6 batches an epoch
ls "$tuned/checkpoints" | grep -qE '^step-000008-epoch-00-' || fail "$(ls "$tuned/checkpoints")"
part_recipe fresh no-align+gelu-mlp
from_parts fresh --stage finetune || fail "no-align: $(cat "$work/log")"
grep -q '"connector": "' "$work/runs/fresh+stage-finetune+x7/model/recipe.json" && fail "no-align: not new"
refused_from_parts "2 aligned connectors" tiny --stage finetune --run_id other \
  --out "$(mkdir -p "$work/runs/tiny+stage-align+x7" && echo "$work/runs/other")"
refused "vision tower" --llava "$work/chat.json" --stage align --vision "$work"
refused "one too many" --llava "$work/chat.json" --stage align --language "$work/language" --from "$golden"
# --model.type: the recipe of a published model, whose weights are not on this machine
HF_HUB_OFFLINE=1 HF_HOME=$work/hf refused "HF_HUB_OFFLINE is set" --model.type mlmamba+3b \
  --llava "$work/chat.json" --stage align
refused 'did you mean mlmamba+3b?' --model.type mlmamba+3c --llava "$work/chat.json" --stage align
refused "a number is wanted" --model.type mlmamba+3b --model.finetune_epochs x --stage align

echo "train_stages: from parts; aligned, tuned, tuned in two parts"
