#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# What the programs say to bad input: one clear line, exit code 2, never a crash, no file left over.
#   bad_input.sh FOLDER_WITH_THE_PROGRAMS
set -u
programs=$(cd "$1" && pwd)
source=$(cd "$(dirname "$0")/.." && pwd)
model=$source/examples/garment_model pictures=$source/tests/io/pictures
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0 done=0

# refused WORDS PROGRAM ARGUMENTS...: exits with 2, says WORDS, in one line (CLI11 adds a hint)
# limit=N refused ...: on a disk that is full after N KiB of a file
limit=
refused() {
  local words=$1 program=$2 arguments="${*:3}" output code
  shift 2
  [ -x "$programs/$program" ] || return 0
  output=$([ -z "$limit" ] || { trap '' XFSZ && ulimit -f "$limit"; }
    timeout 60 "$programs/$program" "$@" 2>&1 < /dev/null)
  code=$?
  done=$((done + 1))
  if [ $code != 2 ] || ! grep -qF -- "$words" <<< "$output" ||
    [ "$(grep -vc '^Run with --help' <<< "$output")" != 1 ]; then
    printf 'bad_input: %s %s\n  exit code %s, output: %s\n  wanted: exit code 2 and one line with "%s"\n' \
      "$program" "${arguments:0:300}" $code "${output:0:600}" "$words"
    bad=1
  fi
}
# lost PROGRAM ARGUMENTS...: exits with 2 and says so, since what it prints can't be written
lost() {
  local output code
  [ -x "$programs/$1" ] || return 0
  output=$("$programs/$1" "${@:2}" 2>&1 > /dev/full < /dev/null)
  code=$?
  done=$((done + 1))
  if [ $code != 2 ] || ! grep -q "standard output can't be written" <<< "$output"; then
    printf 'bad_input: %s > /dev/full\n  exit code %s, output: %s\n' "$*" $code "${output:0:600}"
    bad=1
  fi
}
# answered PROGRAM ARGUMENTS...: exits with 0
answered() {
  local program=$1 arguments="${*:2}"
  shift
  [ -x "$programs/$program" ] || return 0
  done=$((done + 1))
  if ! "$programs/$program" "$@" > "$work/out" 2>&1 < /dev/null; then
    printf 'bad_input: %s %s\n  %s\n  wanted: an answer\n' "$program" "${arguments:0:300}" "$(head -c 600 "$work/out")"
    bad=1
  fi
}
# Nothing but what the test itself has made is there.
nothing_left() {
  [ -z "$(ls -A "$work/outputs")" ] && return
  echo "bad_input: files were left over: $(ls -A "$work/outputs")"
  bad=1
}
mkdir "$work/outputs"
touch "$work/file"
picture=$source/examples/pictures/1.png out=$work/outputs

# --- help: of every program, with its exit codes
for program in "$programs"/*; do
  name=$(basename "$program")
  case $name in 0[1456]_*) continue ;; esac # lessons that take no arguments
  [ -f "$program" ] && [ -x "$program" ] || continue
  answered "$name" --help
  grep -q "Exit code" "$work/out" || { echo "bad_input: $name --help: no exit codes"; bad=1; }
done

# --- options
refused "no-such-folder" generate --model "$work/no-such-folder" --prompt hello
refused "file: a file without config.json" generate --model "$work/file" --prompt hello
refused "cuda" generate --device cuda --prompt hello
refused "or --prepare" generate --state bf16 --prompt hello
refused "or --prepare" generate --state bf16 --weights bf16 --prompt hello
refused "or --activations f32" generate --activations bf16 --weights f32 --prompt hello
refused "or --prepare" generate --activations bf16 --state bf16 --prompt hello
refused "--activations: f16" generate --activations f16 --prompt hello
refused "--no-such" generate --no-such
refused "temperature" generate --prompt hello --temperature -1
refused "top_p" generate --prompt hello --top-p 2 --temperature 1
refused "max_new_tokens" generate --prompt hello --max-new-tokens -1
refused "seed" generate --prompt hello --seed x
refused "seed" generate --prompt hello --seed -1
refused "threads" generate --prompt hello --threads -1
refused "seed" generate --prompt hello --seed 99999999999999999999
refused "--group -1" generate --prompt hello --weights int8 --group -1
refused "--image is empty" generate --image "" --prompt hello
# empty values, which would be 0 or as if they were not given
for option in threads group max-new-tokens max-length temperature do_sample top-k top-p min-p repetition-penalty \
  model hf_token device; do
  refused "--$option is empty" generate --prompt hello --$option ""
done
refused "--threads" generate --prompt hello --threads=
for option in threads group batch max-new-tokens model data results; do
  refused "--$option is empty" evaluate --dataset garment --$option ""
done
for option in threads group keep; do refused "--$option is empty" quantize "$model" "$out/q" --$option ""; done
refused "--out is empty" train --config "$source/examples/garment_recipe.json" --out ""
refused "--config is empty" train --config "" --out "$out/run"
for option in threads data images from language connector tokenizer hf_token test run_id; do
  refused "--$option is empty" train --config "$source/examples/garment_recipe.json" --out "$out/run" --$option ""
done
refused "--out is empty" connector_lab --towers "$model" --out ""
refused "--towers is empty" connector_lab --towers "" --out "$out/lab"
for option in threads connectors config data; do
  refused "--$option is empty" connector_lab --towers "$model" --out "$out/lab" --$option ""
done
for option in turns size noise source corpus; do
  refused "--$option is empty" garment_data --out "$out/data" --$option ""
done
for option in describe fetch; do refused "--$option is empty" models --$option ""; done
for option in dataset_id root_dir mirror; do refused "--$option is empty" preprocess --$option "" --offline; done
refused "--dtype is empty" convert "$model" "$out/a.pt" --dtype ""
refused "--model is empty" inspect_checkpoint "$model" --model ""
refused "--tokenizer is empty" tokenize --tokenizer ""
# folders that are not there
for place in "$work/no-such" "$work/file" ""; do
  refused "\"$place\" is no folder" generate --prompt hello --vision "$place"
  refused "\"$place\" is no folder" evaluate --dataset garment --vision "$place"
  refused "\"$place\" is no folder" convert "$model" "$out/m" --vision "$place"
  refused "\"$place\" is no folder" quantize "$model" "$out/m" --vision "$place"
  refused "\"$place\" is no folder" inspect_checkpoint "$model" --vision "$place"
  refused "\"$place\" is no folder" train --config "$source/examples/garment_recipe.json" --out "$out/run" --vision "$place"
done
# options that would have no effect
refused "neither a file with a token" generate --prompt hello --hf_token "$work/no-such"
refused "neither a file with a token" train --config "$source/examples/garment_recipe.json" --out "$out/run" --hf_token "$work/no-such"
refused "--hf_token requires --fetch" models --hf_token HOME
refused "--group has no effect with --weights auto" generate --prompt hello --group 32
refused "--group has no effect with --weights bf16" evaluate --dataset garment --weights bf16 --group 32
refused "--prepare has no effect with --weights int4" generate --prompt hello --weights int4 --prepare
refused "--top-k has no effect at --temperature 0" generate --prompt hello --top_k 5
refused "--min-p has no effect at --temperature 0" generate --prompt hello --min-p 0.1 --temperature 0
refused "--vision has no effect on a model that can't see" generate --prompt hello --vision "$work" \
  --model "$source/tests/golden/published/falcon"
refused "--vision has no effect on a model that can't see" inspect_checkpoint --vision "$work" \
  "$source/tests/golden/published/falcon"
refused "--vision has no effect on a file" inspect_checkpoint --vision "$work" "$model/model.safetensors"
refused "--vision has no effect on a file OUT" convert "$model" "$out/a.pt" --vision "$work"
refused "--vision has no effect with --layout original" convert "$model" "$out/a" --layout original --vision "$work"
refused "--group has no effect with --weights f32" quantize "$model" "$out/q" --weights f32 --group 32
refused "--image has no effect with --steps 0" quantize "$model" "$out/q" --steps 0 --image "$picture"
refused "--prompt has no effect with --random" quantize "$model" "$out/q" --random --prompt hello
refused "--seed has no effect with --steps 0" quantize "$model" "$out/q" --steps 0 --seed 3
refused "nothing to do" quantize "$model" - --steps 0
refused "--scenes has no effect without --out" garment_data --corpus "$out/corpus" --scenes 3
refused "--root_dir has no effect with --list" preprocess --list --root_dir "$work"
refused "--mirror has no effect with --offline" preprocess --root_dir "$out/data" --offline --mirror http://127.0.0.1:1
train_garment() { refused "$1" train --config "$source/examples/garment_recipe.json" "${@:2}"; }
train_garment "--run_id has no effect without a --stage" --out "$out/run" --run_id mine
train_garment "--root has no effect without a --dataset" --out "$out/run" --root "$work"
train_garment "--run_root_dir has no effect without a --stage" --out "$out/run" --run_root_dir "$work"
train_garment "--profile has no effect with --evaluate" --out "$out/run" --evaluate --profile 3
train_garment "--images has no effect on garments" --out "$out/run" --images "$work"
train_garment "--test-images has no effect on garments" --out "$out/run" --test-images "$work"
refused "--images has no effect on garments" connector_lab --towers "$model" --out "$out/lab" --images "$work"
for arguments in "generate --prompt hello" "inspect_checkpoint $model" "models" "quantize $model - --steps 1" \
  "garment_data --out $work/data --scenes 2" "preprocess --list"; do
  # shellcheck disable=SC2086
  [ -w /dev/full ] && lost $arguments
done

# --- pictures
refused "no-such.png" generate --image "$work/no-such.png" --prompt hello
refused "$work" generate --image "$work" --prompt hello
printf 'this is no picture' > "$work/text.png"
refused "text.png: begins with" generate --image "$work/text.png" --prompt hello
head -c 300 "$picture" > "$work/cut.png"
refused "cut.png" generate --image "$work/cut.png" --prompt hello
: > "$work/empty.png"
refused "empty.png" generate --image "$work/empty.png" --prompt hello
refused "20000 x 20000 pixels; at most" generate --image "$pictures/20000x20000.png" --prompt hello
for name in one.png one.jpg 20000x1.png 1x20000.png grey.png grey.jpg grey_alpha.png rgba.png rgb16.png \
  grey16.png cmyk.jpg ycck.jpg bits.png palette_transparent.png; do
  answered generate --image "$pictures/$name" --prompt "Is there a bag?" --max-new-tokens 4
done

# --- models: missing, cut, of other sizes, of other types, not finite
changed() { # a copy of the model
  rm -rf "$work/m"
  cp -r "$model" "$work/m"
}
for part in config.json model.safetensors tokenizer.json; do
  changed && rm "$work/m/$part"
  refused "$part" generate --model "$work/m" --prompt hello
  changed && head -c 1000 "$model/$part" > "$work/m/$part"
  refused "$work/m" generate --model "$work/m" --prompt hello
  changed && : > "$work/m/$part"
  refused "$work/m" generate --model "$work/m" --prompt hello
done
changed && truncate -s -2 "$work/m/model.safetensors"
refused "$work/m" generate --model "$work/m" --prompt hello
changed && sed -i 's/"d_model": 192/"d_model": 256/' "$work/m/config.json"
refused "wants" generate --model "$work/m" --prompt hello
changed && sed -i 's/"d_model": 192/"d_model": 1000000000000/' "$work/m/config.json"
refused "$work/m" generate --model "$work/m" --prompt hello
changed && sed -i 's/"d_model": 192/"d_model": "wide"/' "$work/m/config.json"
refused "an integer is wanted" generate --model "$work/m" --prompt hello
changed && echo '[1, 2]' > "$work/m/config.json"
refused "an object is wanted" generate --model "$work/m" --prompt hello
changed && sed -i 's/"n_layer": 6/"n_layer": 7/' "$work/m/config.json"
refused "missing" generate --model "$work/m" --prompt hello
changed && sed -i 's/"n_layer": 6/"n_layer": 16000000/' "$work/m/config.json"
refused "n_layer must be 0 to 4096" generate --model "$work/m" --prompt hello
changed && sed -i 's/"n_layer": 6/"n_layer": 5/' "$work/m/config.json"
refused "none of the model's" generate --model "$work/m" --prompt hello
changed && LC_ALL=C sed -i '1s/"BF16"/"XY16"/' "$work/m/model.safetensors"
refused 'dtype "XY16"' generate --model "$work/m" --prompt hello
changed && LC_ALL=C sed -i '1s/"BF16"/"F64" /' "$work/m/model.safetensors"
refused "bytes" generate --model "$work/m" --prompt hello
changed && head -c 4000 /dev/zero | tr '\0' '\377' |
  dd of="$work/m/model.safetensors" bs=1 conv=notrunc status=none \
    seek=$(($(stat -c %s "$model/model.safetensors") - 4000))
refused "nan" generate --model "$work/m" --image "$picture" --prompt hello
refused "PATH is required" inspect_checkpoint
refused "no-such" inspect_checkpoint "$work/no-such"
refused "text.png" inspect_checkpoint "$work/text.png"
refused "no-such" inspect_checkpoint "$model" --model no-such
refused '"": can' inspect_checkpoint ""
refused "posix.system" inspect_checkpoint "$source/tests/io/torch/command.pt"

# --- conversions
refused "IN is required" convert
refused "no-such" convert "$work/no-such" "$out/a.safetensors"
refused "text.png" convert "$work/text.png" "$out/a.safetensors"
refused "posix.system" convert "$source/tests/io/torch/command.pt" "$out/a.safetensors"
refused ".png: .safetensors, .pt" convert "$model" "$out/a.png"
refused "f8" convert "$model" "$out/a.pt" --dtype f8
refused "no-such" convert "$model" "$out/no-such/a.pt"
refused "a.pt: --layout" convert "$model" "$out/a.pt" --layout original
refused "the same folder" convert "$model" "$model"
cp -r "$source/tests/golden/published/ml_mamba" "$work/blind"
rm -r "$work/blind/timm"
refused "vision tower" convert "$work/blind" "$out/m"
refused "vision tower" generate --model "$work/blind" --prompt hello
refused "tokenizer.json" generate --model "$work/blind" --vision "$source/tests/golden/published/ml_mamba/timm" --prompt hello
refused "tokenizer.json" generate --model "$source/tests/golden/published/cobra" --prompt hello
refused "tokenizer.json" generate --model "$source/tests/golden/published/state_spaces" --prompt hello
refused "a prompt without picture" generate --model "$source/tests/golden/published/falcon" --image "$picture" --prompt hello
head -c 3000 "$source/tests/golden/published/state_spaces/pytorch_model.bin" > "$work/cut.bin"
refused "truncated" inspect_checkpoint "$work/cut.bin"
# a disk that is full: folders that were not there are not there, those that were stay
mkdir "$work/there"
for to in "$out/m" "$out/a/b/m" "$work/there"; do
  limit=8 refused "can't write it" convert "$model" "$to"
  limit=8 refused "can't write it" convert "$model" "$to" --layout original
  limit=8 refused "can't write it" quantize "$model" "$to" --steps 0
done
limit=0 refused "can't write it" evaluate --dataset garment --limit 1 --results "$out/results"
limit=4 refused "could not be written whole" garment_data --out "$out/data" --scenes 2 --size 288
[ -d "$work/there" ] && [ -z "$(ls -A "$work/there")" ] || { echo "bad_input: $work/there is not as it was"; bad=1; }
refused "can't be made a folder" convert "$model" "$work/file/below"
refused "arguments" 03_describe_image
refused "text.png" 03_describe_image "$work/text.png"
refused "no-such" 02_generate "$work/no-such"
refused "the prompt is empty" 02_generate "$model" ""

# --- texts: odd, but defined
refused "the prompt is empty" generate --raw --prompt ""
answered generate --image "$picture" --prompt ""
answered generate --image "$picture" --prompt " "
answered generate --image "$picture" --prompt "$(printf 'What is \377\376 at the top left?')"
answered generate --image "$picture" --prompt "$(head -c 100000 /dev/zero | tr '\0' 'x')"
answered generate --prompt "Is there a bag?" --max-new-tokens 0
answered generate --image "$picture" --prompt "Is there a bag?" --temperature 0.7 --top-k 5 --top-p 0.9 --min-p 0.05 --seed 3 --threads 1
answered generate # a chat in which nothing is said

# --- training and data: refused before anything is written
recipe=$source/examples/garment_recipe.json
refused "no-such.json" train --config "$work/no-such.json" --out "$out/run"
head -c 200 "$recipe" > "$work/cut.json"
refused "cut.json" train --config "$work/cut.json" --out "$out/run"
echo '{}' > "$work/nothing.json"
refused "nothing.json" train --config "$work/nothing.json" --out "$out/run"
sed 's/"steps":/"stepps":/' "$recipe" > "$work/spelled.json"
refused "stepps" train --config "$work/spelled.json" --out "$out/run"
refused "no-such.json" train --config "$recipe" --data "$work/no-such.json" --out "$out/run"
echo '[{"image": "text.png", "conversations": [{"from": "human", "value": "hello"}]}]' > "$work/data.json"
refused "data.json" train --config "$recipe" --data "$work/data.json" --images "$work" --out "$out/run"
refused "$work/no-such" train --config "$recipe" --data "garment:$work/no-such" --out "$out/run"
refused "--config" train --out "$out/run"
steps=4
. "$source/tests/tiny_recipe.sh" # $work/recipe.json
refused "text.png: not valid JSON" train --config "$work/recipe.json" --out "$out/run" --tokenizer "$work/text.png"
changed_recipe() { sed "$1" "$work/recipe.json" > "$work/changed.json"; }
for option in steps batch micro-batch test-scenes; do
  refused "--$option" train --config "$work/recipe.json" --out "$out/run" --$option -3
done
refused "--seed" train --config "$work/recipe.json" --out "$out/run" --seed -3
refused "threads: -3" train --config "$work/recipe.json" --out "$out/run" --threads -3
refused "no-such" train --config "$work/recipe.json" --out "$out/run" --images "$work/no-such"
refused "no-such" train --config "$work/recipe.json" --out "$out/run" --test "$work/no-such"
refused "no checkpoint" train --config "$work/recipe.json" --out "$out/run" --evaluate
changed_recipe 's/"batch": 4/"batch": 0/'
refused "batch 0" train --config "$work/changed.json" --out "$out/run"
changed_recipe 's/"warmup": 2/"warmup": 2, "clip": -1/'
refused "clip -1" train --config "$work/changed.json" --out "$out/run"
changed_recipe 's/"n_layer": 2/"n_layer": 16000000/'
refused "n_layer" train --config "$work/changed.json" --out "$out/run"
changed_recipe 's/mamba2_scan_connector/nonsense/'
refused "nonsense" train --config "$work/changed.json" --out "$out/run"
changed_recipe 's/"log_every": 1000/"log_every": -1/'
refused "log_every" train --config "$work/changed.json" --out "$out/run"
refused "seed" garment_data --out "$out/data" --seed -1
refused "file" garment_data --out "$work/file" --scenes 2
refused "seed" quantize "$model" - --seed -1
refused "not in range" quantize "$model" - --steps 99999999999999999999
refused "--group 7" quantize "$model" - --group 7
refused "no-such" quantize "$model" "$out/q" --keep no-such
refused "no-such" garment_data --source "$work/no-such" --out "$out/data"
refused "97" garment_data --size 97 --out "$out/data"
refused "nothing to do" garment_data
refused "nonsense" connector_lab --towers "$model" --out "$out/lab" --connectors nonsense
refused "no-such" connector_lab --towers "$work/no-such" --out "$out/lab"
refused "no test" connector_lab --config "$work/recipe.json" --out "$out/lab"
refused "no-such" connector_lab --towers "$model" --out "$out/lab" --data "$work/chat.json" --images "$work/no-such" \
  --test "$work/chat.json" --test-images "$source/examples/pictures"
refused "--test-scenes has no effect without a test" train --config "$work/recipe.json" --out "$out/run" --test-scenes 3
refused "--no-controls has no effect without a test" train --config "$work/recipe.json" --out "$out/run" --no-controls
limit=0 refused "can't write it" train --config "$work/recipe.json" --out "$out/run"
refused "schedule" connector_lab --config "$work/recipe.json" --out "$out/lab" --learning-rate nan
refused "schedule" train --config "$work/recipe.json" --out "$out/run" --learning-rate nan
nothing_left
[ $bad = 0 ] && echo "bad_input: all $done refused or answered"
exit $bad
