#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# Weights from torch to safetensors and back lose nothing, and models in the layouts of their authors are complete.
#   convert.sh FOLDER_WITH_THE_PROGRAMS
set -u
programs=$(cd "$1" && pwd)
tests=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0
wrong() { echo "convert: $*" >&2; bad=1; }
convert() { "$programs/convert" "$@" || wrong "convert $*"; }
same() { cmp -s "$1" "$2" || wrong "$1 and $2 differ"; }

# There, back and there again: the same bytes each time, for every type of array.
for file in io/torch/kinds.pt golden/published/ml_mamba/checkpoints/latest-checkpoint.pt \
  golden/published/cobra/vision/dino.pth golden/published/state_spaces/pytorch_model.bin; do
  convert "$tests/$file" "$work/a.pt"
  convert "$work/a.pt" "$work/a.safetensors"
  convert "$work/a.safetensors" "$work/b.pt"
  convert "$work/b.pt" "$work/b.safetensors"
  same "$work/a.safetensors" "$work/b.safetensors"
  "$programs/inspect_checkpoint" "$work/a.pt" > "$work/a.txt" || wrong "inspect_checkpoint $file"
  "$programs/inspect_checkpoint" "$work/b.pt" > "$work/b.txt" || wrong "inspect_checkpoint $file"
  same "$work/a.txt" "$work/b.txt"
  [ -s "$work/a.txt" ] || wrong "nothing is in $file"
done
# Shards become one file; a wider type and back is no loss.
convert "$tests/golden/published/falcon" "$work/one.safetensors"
convert "$work/one.safetensors" "$work/wide.bin" --dtype f64
convert "$work/wide.bin" "$work/again.safetensors" --dtype f32
same "$work/one.safetensors" "$work/again.safetensors"

# Models in every layout are complete; of one that lacks its towers that is said.
for model in ml_mamba cobra state_spaces falcon; do
  "$programs/inspect_checkpoint" "$tests/golden/published/$model" > "$work/list" ||
    wrong "$model is not complete: $(tail -3 "$work/list")"
  grep -q 'all are there' "$work/list" || wrong "$model: $(tail -1 "$work/list")"
done
cp -r "$tests/golden/published/ml_mamba" "$work/m"
mv "$work/m/timm" "$work/towers"
"$programs/inspect_checkpoint" "$work/m" > "$work/list"
[ $? = 1 ] && grep -q 'no weights of the vision tower' "$work/list" && grep -q "$work/m/timm" "$work/list" ||
  wrong "the towers are missing, and it says: $(tail -3 "$work/list")"
"$programs/inspect_checkpoint" "$work/m" --vision "$work/towers" > "$work/list" || wrong "towers are not found"
"$programs/inspect_checkpoint" "$tests/golden/published/falcon" --model mamba2-130m > "$work/list"
[ $? = 1 ] && grep -q 'missing: backbone.layers.23.norm.weight' "$work/list" ||
  wrong "falcon is no mamba2-130m, and it says: $(tail -3 "$work/list")"

# A folder of its own, which needs the towers no more.
convert "$work/m" "$work/whole" --vision "$work/towers"
"$programs/inspect_checkpoint" "$work/whole" > "$work/list" || wrong "the converted model: $(tail -3 "$work/list")"
convert --vision "$work/towers" "$work/m" "$work/narrow" --dtype bf16 # options may stand before the folders
[ -e "$work/narrow/config.json" ] || wrong "no folder after --vision"
[ "$(ls "$work/whole")" = "$(printf 'config.json\nmodel.safetensors')" ] || wrong "files: $(ls "$work/whole")"
# And as the original has it: the same bytes as its own checkpoint, without towers.
convert "$work/whole" "$work/original" --layout original
convert "$work/original/checkpoints/latest-checkpoint.pt" "$work/a.safetensors"
convert "$work/m/checkpoints/latest-checkpoint.pt" "$work/b.safetensors"
same "$work/a.safetensors" "$work/b.safetensors"
"$programs/inspect_checkpoint" "$work/original" --vision "$work/towers" > "$work/list" ||
  wrong "the original's layout: $(tail -3 "$work/list")"
# A model of the library's own: the tied head has a name there.
convert "$(dirname "$tests")/examples/garment_model" "$work/garment" --layout original
"$programs/inspect_checkpoint" "$work/garment/checkpoints/latest-checkpoint.pt" > "$work/list"
for name in llm_backbone.lm_head llm_backbone.backbone.embedding mlp.0 projector.projector.0; do
  grep -qF "model.$name.weight" "$work/list" || wrong "garment: no $name in $(head -5 "$work/list")"
done
grep -q vision "$work/list" && wrong "garment: there are towers"
[ $bad = 0 ] && echo "convert: nothing is lost"
exit $bad
