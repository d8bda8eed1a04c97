#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# A run of examples/train that is killed with SIGKILL at random moments, and resumed, ends with the
# bytes of one that was not. Edited data is another run, and refused.
#   resume.sh TRAIN_PROGRAM [SEED]
set -eu
train=$1
seed=${2:-$$}
RANDOM=$seed
pictures=$(cd "$(dirname "$0")/../examples/pictures" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
steps=40

fail() { echo "resume: seed $seed: $*" >&2; exit 1; }

{
  echo '['
  for i in $(seq 60); do
    n=$((i % 3 + 1))
    [ $i -gt 1 ] && echo ','
    image="\"image\": \"$n.png\", " sign="<image>\\n"
    [ $((i % 5)) = 0 ] && image='' sign=''
    echo "{${image}\"conversations\": [{\"from\": \"human\", \"value\": \"${sign}Which is it, of $i?\"},"
    echo "{\"from\": \"gpt\", \"value\": \"It is picture $n, and question $i.\"}]}"
  done
  echo ']'
} > "$work/chat.json"
cat > "$work/recipe.json" <<JSON
{
  "model": {
    "vision": [
      {"name": "dino_featurizer", "kind": "dinov2-reg4", "img_size": 32, "patch_size": 16,
       "embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2},
      {"name": "siglip_featurizer", "kind": "siglip", "img_size": 16, "patch_size": 8,
       "embed_dim": 8, "depth": 2, "num_heads": 2, "mlp_ratio": 2}
    ],
    "connector": {"type": "mamba2_scan_connector", "n_layer": 1, "arch_specifier": "gelu-mlp",
                  "ssm_cfg": {"d_state": 8, "headdim": 8}},
    "llm": {"d_model": 16, "n_layer": 2, "ssm_cfg": {"layer": "Mamba2", "d_state": 8, "headdim": 8}}
  },
  "tokenizer": {"vocabulary": 280},
  "data": {"source": "$work/chat.json", "images": "$pictures"},
  "training": {"steps": $steps, "batch": 4, "micro_batch": 2, "learning_rate": 1e-3, "warmup": 4},
  "run": {"checkpoint_every": 2, "log_every": 1000}
}
JSON

run() { # run OUT [OPTION...]
  local out=$1
  shift
  "$train" --config "$work/recipe.json" --out "$out" --threads 1 "$@" > "$work/log" 2>&1
}
newest() { # updates of the newest whole checkpoint of the killed run
  local last
  last=$(ls "$work/killed/checkpoints" 2> /dev/null | grep -E '^step-[0-9]+$' | tail -1)
  echo $((10#0${last#step-}))
}
some_ms() { sleep "$(printf '0.%03d' $((RANDOM % $1)))"; }

run "$work/whole" || fail "the run in one go failed: $(cat "$work/log")"

kills=0
for part in 0 1 2 3; do # at a moment of the start, then of each quarter
  run "$work/killed" --resume &
  pid=$!
  until [ "$(newest)" -ge $((part * steps / 4)) ] || ! kill -0 $pid 2> /dev/null; do sleep 0.005; done
  some_ms $((part == 0 ? 200 : 40))
  # The shell function runs in a shell of its own: the program is its child.
  child=$(ps -o pid= --ppid $pid | tr -d ' ')
  [ -n "$child" ] && kill -KILL "$child" 2> /dev/null && kills=$((kills + 1))
  wait $pid || true
done
[ $kills -ge 3 ] || fail "killed $kills times; at least 3 are wanted"
[ "$(newest)" -lt $steps ] || fail "it was over before the last kill"
run "$work/killed" --resume || fail "the last part failed: $(cat "$work/log")"

same() { cmp "$work/whole/$1" "$work/killed/$1" || fail "$1 differs"; }
last=checkpoints/$(printf 'step-%08d' $steps)
same tokenizer.json
same model/model.safetensors
same model/config.json
same $last/model.safetensors
same $last/optimizer.safetensors
for run in whole killed; do # all but the time that it took
  grep -v '"seconds"' "$work/$run/$last/state.json" > "$work/$run/state"
  sed -E 's/.*("loss":[^,]*).*("step":[0-9]+).*/\2 \1/' "$work/$run/metrics.jsonl" > "$work/$run/losses"
done
same state
same losses
[ "$(wc -l < "$work/killed/losses")" = $steps ] || fail "not one line of metrics for each update"

# Other data is another run, even where the number of records is the same.
sed -i 's/question 7/question 8/' "$work/chat.json"
rm -r "$work/killed/$last"
if run "$work/killed" --resume; then fail "edited data was trained on as if it were the same"; fi
grep -q '"/source"' "$work/log" || fail "edited data: $(cat "$work/log")"
echo "resume: killed $kills times (seed $seed), and the bytes are the same"
