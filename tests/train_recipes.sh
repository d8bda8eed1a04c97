#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# examples/train with every connector and one or two towers; what it says where it can't begin.
#   train_recipes.sh TRAIN_PROGRAM
set -eu
train=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
steps=3
. "$(dirname "$0")/tiny_recipe.sh"

fail() { echo "train_recipes: $*" >&2; exit 1; }
run() { "$train" --config "$work/recipe.json" --threads 1 "$@" > "$work/log" 2>&1; }

trained=0
for towers in 1 2; do
  for kind in linear gelu-mlp fused-gelu-mlp ldpnet fused-ldpnet average-pool pixel-shuffle \
    mamba2_scan_connector mamba2_cross_scan_connector; do
    tiny_recipe $towers $kind
    run --out "$work/$kind$towers" || fail "$kind, $towers towers: $(cat "$work/log")"
    grep -q "\"type\": \"$kind\"" "$work/$kind$towers/model/config.json" || fail "$kind is not in its config.json"
    trained=$((trained + 1))
  done
done

# refused WORDS OPTION...: exits with 2 and says WORDS, in one line
refused() {
  local words=$1 code=0
  shift
  run "$@" || code=$?
  if [ $code != 2 ] || ! grep -qF -- "$words" "$work/log" || [ "$(wc -l < "$work/log")" != 1 ]; then
    fail "$*: exit code $code, $(cat "$work/log"); wanted: exit code 2 and \"$words\""
  fi
}
touch "$work/file"
refused "can't be made a folder" --out "$work/file"
refused "can't be made a folder" --out "$work/file/below"
refused "can't be made a folder" --out /proc/nothing/here
tiny_recipe 2 wavelet
refused 'connector "wavelet" is not known; one of mamba2_scan_connector' --out "$work/none"
tiny_recipe 1 linear
refused "has a run" --out "$work/linear1"
# A picture that is missing is found before the first update, whichever record has it.
tac "$work/chat.json" | sed '0,/"2.png"/s//"gone.png"/' | tac > "$work/gone.json"
refused "gone.json: record 57: $pictures/gone.png: No such file" --out "$work/none" --data "$work/gone.json"
refused "gone.json: record 57: $pictures/gone.png: No such file" --out "$work/none" --test "$work/gone.json" \
  --test-images "$pictures"
[ ! -e "$work/none" ] || fail "a refused run left $(ls -R "$work/none")"
echo "train_recipes: $trained models trained, 7 refused"
