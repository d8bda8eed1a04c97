#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# A program and the hub: what is in Hugging Face's cache is used by its name, without a network.
#   hub.sh GENERATE MODELS
set -euo pipefail
generate=$1 models=$2
source=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset HF_HUB_CACHE HUGGINGFACE_HUB_CACHE HF_ENDPOINT HF_TOKEN HF_HUB_OFFLINE MLMAMBA_CACHE
export HF_HOME=$work/hf XDG_CACHE_HOME=$work/cache

# as Hugging Face's programs leave it: blobs by their hash, links to them
commit=0123456789abcdef0123456789abcdef01234567
repository=$HF_HOME/hub/models--me--garment
mkdir -p "$repository/refs" "$repository/blobs" "$repository/snapshots/$commit"
printf %s "$commit" > "$repository/refs/main"
for file in config.json model.safetensors tokenizer.json; do
  hash=$(sha256sum "$source/examples/garment_model/$file" | cut -d' ' -f1)
  cp "$source/examples/garment_model/$file" "$repository/blobs/$hash"
  ln -s "../../blobs/$hash" "$repository/snapshots/$commit/$file"
done

ask=(--image "$source/examples/pictures/1.png" --prompt "What is at the top left?")
want=$("$generate" --model "$source/examples/garment_model" "${ask[@]}")
got=$(HF_HUB_OFFLINE=1 "$generate" --model me/garment "${ask[@]}")
[ -n "$want" ] && [ "$got" = "$want" ] || { echo "hub: \"$got\" from the cache; \"$want\" is wanted"; exit 1; }

# refused WORDS COMMAND...: exit code 2 and one line with WORDS
refused() {
  local words=$1 output code=0
  shift
  output=$("$@" 2>&1) || code=$?
  [ $code = 2 ] && [[ $output == *"$words"* ]] && [ "$(wc -l <<< "$output")" = 1 ] ||
    { echo "hub: $*: exit code $code, \"$output\"; 2 and \"$words\" are wanted"; exit 1; }
}
refused "HF_HUB_OFFLINE is set" env HF_HUB_OFFLINE=1 "$generate" --model mamba2-130m --prompt x
refused "HF_HUB_OFFLINE is set" env HF_HUB_OFFLINE=1 "$models" --fetch dinosiglip-vit-so-384px
refused "did you mean mamba2-130m?" "$models" --fetch mamba2-130n
refused "neither a file with a token" "$models" --fetch me/garment --hf_token "$work/none"
refused "huggingface.co\": an address such as https://host is wanted" \
  env HF_ENDPOINT=huggingface.co "$models" --fetch me/other
[ "$(HF_HUB_OFFLINE=1 "$models" --fetch me/garment)" = "$repository/snapshots/$commit" ] ||
  { echo "hub: models --fetch says another folder"; exit 1; }
[ ! -e "$XDG_CACHE_HOME" ] || { echo "hub: a failed download left $XDG_CACHE_HOME"; exit 1; }
echo "hub: a cached repository is used by its name"
