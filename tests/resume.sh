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
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
steps=100

fail() { echo "resume: seed $seed: $*" >&2; exit 1; }

. "$(dirname "$0")/tiny_recipe.sh"

run() { # run OUT [OPTION...]: becomes the program
  local out=$1
  shift
  exec "$train" --config "$work/recipe.json" --out "$out" --threads 1 "$@" > "$work/log" 2>&1
}
newest() { # updates of the newest whole checkpoint of the killed run
  local last
  last=$(ls "$work/killed/checkpoints" 2> /dev/null | grep -E '^step-[0-9]+$' | tail -1)
  echo $((10#0${last#step-}))
}
some_ms() { sleep "$(printf '0.%03d' $((RANDOM % $1)))"; }

(run "$work/whole") || fail "the run in one go failed: $(cat "$work/log")"

kills=0
for part in 0 1 2 3 4; do # at a moment of the start, then of each fifth
  run "$work/killed" --resume &
  pid=$!
  until [ "$(newest)" -ge $((part * steps / 5)) ] || ! kill -0 $pid 2> /dev/null; do sleep 0.002; done
  some_ms $((part == 0 ? 200 : 20))
  kill -KILL $pid 2> /dev/null || true
  code=0
  wait $pid 2> /dev/null || code=$?
  [ $code != 137 ] || kills=$((kills + 1))
done
[ $kills -ge 3 ] || fail "killed $kills times; at least 3 are wanted"
(run "$work/killed" --resume) || fail "the last part failed: $(cat "$work/log")"

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
if (run "$work/killed" --resume); then fail "edited data was trained on as if it were the same"; fi
grep -q '"/source"' "$work/log" || fail "edited data: $(cat "$work/log")"
echo "resume: killed $kills times (seed $seed), and the bytes are the same"
