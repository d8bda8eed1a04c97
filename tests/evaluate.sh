#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# examples/evaluate with the shipped model: the project's own set, sets in public formats, a run that
# is killed with SIGKILL at random moments and goes on, and what it says to bad input.
#   evaluate.sh EVALUATE_PROGRAM [SEED]
set -eu
evaluate=$1
seed=${2:-$$}
RANDOM=$seed
source=$(cd "$(dirname "$0")/.." && pwd)
data=$source/tests/evaluate/data pictures=$source/examples/pictures
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() { echo "evaluate: seed $seed: $*" >&2; exit 1; }
results=$work/results
run() { "$evaluate" --results "$results" --threads 1 "$@" > "$work/log" 2>&1; }
passes() { run "$@" || fail "$*: $(cat "$work/log")"; }
has() { grep -qF -- "$2" "$1" || fail "$1 has no $2: $(head -c 600 "$1")"; }

# refused WORDS OPTION...: exits with 2 and says WORDS, in one line
refused() {
  local words=$1 code=0
  shift
  run "$@" || code=$?
  if [ $code != 2 ] || ! grep -qF -- "$words" "$work/log" || [ "$(grep -vc '^Run with --help' "$work/log")" != 1 ]; then
    fail "$*: exit code $code, $(cat "$work/log"); wanted: exit code 2 and \"$words\""
  fi
}

# --- the project's own set, from files as garment_data writes them
mkdir "$work/garment"
cp "$pictures"/*.png "$work/garment"
{
  first=1
  echo '['
  while IFS='|' read -r picture question truth; do
    case $picture in '#'*) continue ;; esac
    [ $first = 1 ] || echo ','
    first=0
    printf '{"image": "%s", "type": "question", "conversations": [{"from": "human", "value": "<image>\\n%s"}, {"from": "gpt", "value": "%s"}]}' \
      "$picture" "$question" "$truth"
  done < "$pictures/questions.txt"
  echo ']'
} > "$work/garment/test.json"
passes --dataset garment --data "$work/garment"
metrics=$work/results/garment/garment_model/metrics.json
has "$metrics" '"n_examples": 9'
has "$metrics" '"dataset": "garment"'
has "$metrics" '"accuracy": 1.0'
has "$work/log" '9    100.0'
if [ -e /usr/share/datasets/fashion-mnist ]; then # Debian's dataset-fashion-mnist
  "$evaluate" --results "$work/photos" --threads 1 --dataset garment --limit 16 > "$work/log" 2>&1 ||
    fail "garment: $(cat "$work/log")"
  has "$work/photos/garment/garment_model/metrics.json" '"n_examples": 16'
fi

# --- public formats
public() { # public NAME FOLDER_OF_PICTURES NAMES_OF_PICTURES...: a copy of a set with pictures
  local name=$1 folder=$2 n=0
  shift 2
  cp -r "$data/$name" "$work/$name"
  mkdir -p "$work/$name/$folder"
  for picture; do
    n=$((n + 1))
    mkdir -p "$(dirname "$work/$name/$folder/$picture")"
    cp "$pictures/$n.png" "$work/$name/$folder/$picture"
  done
}
public vqa-v2 val2014 COCO_val2014_00000000000{1,2,3}.jpg
passes --dataset vqa-v2 --data "$work/vqa-v2" --batch 2
metrics=$work/results/vqa-v2-full/garment_model/metrics.json
has "$metrics" '"n_examples": 5'
has "$metrics" '"accuracy": 0.'
has "$metrics" '"accuracy of how many": 0.'
[ "$(wc -l < "${metrics%metrics.json}results.jsonl")" = 6 ] || fail "not a line for each answer"
public tally-qa . VG_100K_2/1.jpg VG_100K/2.jpg
passes --dataset tally-qa --data "$work/tally-qa" # letters are tokens of the small model too
metrics=$work/results/tally-qa-full/garment_model
has "$metrics/metrics.json" '"accuracy complex": '
probabilities() { sed -n 's/.*"probabilities":\[\(.*\)\].*/\1/p' "$1/results.jsonl"; }
probabilities "$metrics" > "$work/probabilities"
[ "$(wc -l < "$work/probabilities")" = 3 ] || fail "not probabilities for each of 3 questions"
awk -F, '{ s = 0; for (i = 1; i <= NF; i++) s += $i; if (NF != 16 || s < 0.999999 || s > 1.000001) exit 1 }' \
  "$work/probabilities" || fail "not 16 probabilities whose sum is 1: $(cat "$work/probabilities")"
passes --dataset tally-qa --data "$work/tally-qa" # all is answered: the model is not asked
has "$work/log" "3 of 3 questions are answered already"

# --- what was answered is kept for the same weights, held the same way, and for no others
cp -r "$source/examples/garment_model" "$work/trained"
passes --dataset tally-qa --data "$work/tally-qa" --model "$work/trained"
passes --dataset tally-qa --data "$work/tally-qa" --model "$work/trained"
has "$work/log" "3 of 3 questions are answered already"
refused "another --results" --dataset tally-qa --data "$work/tally-qa" --model "$work/trained" --weights int8
weights=$work/trained/model.safetensors # as after more training: the same sizes, other bits
printf '\0\0' | dd of="$weights" bs=1 conv=notrunc status=none seek=$(($(stat -c %s "$weights") - 2))
refused "another --results" --dataset tally-qa --data "$work/tally-qa" --model "$work/trained"

# --- states or activations in bf16: the same answers, and other probabilities, at most 2^-8 away
narrow() { # narrow OPTION...
  passes --dataset garment --data "$work/garment" "$@"
  has "$results/garment/garment_model/metrics.json" '"n_examples": 9'
  has "$results/garment/garment_model/metrics.json" '"accuracy": 1.0'
  refused "another --results" --dataset garment --data "$work/garment" --prepare
  passes --dataset tally-qa --data "$work/tally-qa" "$@"
  probabilities "$results/tally-qa-full/garment_model" > "$work/near"
  paste -d, "$work/probabilities" "$work/near" | awk -F, '
    { for (i = 1; i <= 16; i++) { d = $i - $(i + 16); if (d < 0) d = -d; if (d > most) most = d } if (NF != 32) wrong = 1 }
    END { if (wrong || NR != 3 || most == 0 || most > 2 ^ -8) exit 1 }' ||
    fail "$*: not 3 times 16 other probabilities at most 2^-8 away: $(cat "$work/probabilities" "$work/near")"
}
results=$work/states
refused "or --prepare" --dataset garment --data "$work/garment" --state bf16 # and nothing is in the way of:
narrow --prepare --state bf16
results=$work/activations
refused "or --activations f32" --dataset garment --data "$work/garment" --activations bf16 --weights f32
narrow --activations bf16
results=$work/prepared
narrow --activations bf16 --prepare
cp "$work/near" "$work/wide_states"
results=$work/both
narrow --activations bf16 --prepare --state bf16
cmp -s "$work/near" "$work/wide_states" && fail "--activations bf16 --state bf16: the probabilities of states in f32"
results=$work/results

# --- killed and resumed
mkdir -p "$work/many/val2014"
cp "$work/vqa-v2/val2014"/* "$work/many/val2014"
questions="" annotations=""
count=120
for ((i = 0; i < count; i++)); do
  picture=$((i / 8 % 3 + 1)) cell="top left"
  [ $((i % 3)) = 0 ] || cell="bottom right"
  questions+=",{\"question_id\": $i, \"image_id\": $picture, \"question\": \"What is at the $cell? ($i)\"}"
  annotations+=",{\"question_id\": $i, \"image_id\": $picture, \"question_type\": \"what is\", \"answer_type\": \"other\", \"answers\": [{\"answer\": \"bag\"}]}"
done
echo "{\"questions\": [${questions:1}]}" > "$work/many/v2_OpenEnded_mscoco_val2014_questions.json"
echo "{\"annotations\": [${annotations:1}]}" > "$work/many/v2_mscoco_val2014_annotations.json"
many() { # many RESULTS: becomes the program
  exec "$evaluate" --dataset vqa-v2 --data "$work/many" --threads 1 --batch 3 --results "$work/$1" > "$work/log" 2>&1
}
(many whole) || fail "the run in one go failed: $(cat "$work/log")"
answers=vqa-v2-full/garment_model/results.jsonl
answered() { cat "$work/killed/$answers" 2> /dev/null | wc -l; }
kills=0
for part in 0 1 2 3; do
  many killed &
  pid=$!
  until [ "$(answered)" -gt $((part * count / 4)) ] || ! kill -0 $pid 2> /dev/null; do sleep 0.002; done
  sleep "$(printf '0.%03d' $((RANDOM % 20)))"
  kill -KILL $pid 2> /dev/null || true
  code=0
  wait $pid 2> /dev/null || code=$?
  [ $code != 137 ] || kills=$((kills + 1))
done
[ $kills -ge 2 ] || fail "killed $kills times; at least 2 are wanted"
printf '{"id": "7", "te' >> "$work/killed/$answers" # as a kill in the middle of a line leaves it
(many killed) || fail "the last part failed: $(cat "$work/log")"
has "$work/log" "questions are answered already"
cmp "$work/whole/vqa-v2-full/garment_model/metrics.json" "$work/killed/vqa-v2-full/garment_model/metrics.json" ||
  fail "metrics of the killed run differ"
cmp <(sort "$work/whole/$answers") <(sort "$work/killed/$answers") || fail "answers of the killed run differ"

# --- bad input
refused '"nonsense"' --dataset nonsense --data "$work/vqa-v2"
refused "--dataset" --data "$work/vqa-v2"
refused "no --data" --dataset gqa
refused "testdev_balanced_questions.json" --dataset gqa --data "$work/vqa-v2"
refused "no-such" --dataset vqa-v2 --data "$work/vqa-v2" --model "$work/no-such"
refused "--limit" --dataset vqa-v2 --data "$work/vqa-v2" --limit -1
refused "batch" --dataset vqa-v2-slim --data "$work/vqa-v2" --batch 0
refused "max_new_tokens" --dataset vqa-v2-slim --data "$work/vqa-v2" --max-new-tokens -1
refused "another --results" --dataset vqa-v2 --data "$work/many"
results=$work/vqa-v2/v2_mscoco_val2014_annotations.json
refused "can't be made a folder" --dataset vqa-v2 --data "$work/many"
results=$work/refused
refused "--state: f16" --dataset vqa-v2 --data "$work/vqa-v2" --state f16
refused "multiple of 8" --dataset vqa-v2 --data "$work/vqa-v2" --weights int8 --group 7
results=$work/results
public pope val2014 COCO_val2014_000000000001.jpg
refused '"Yes" is' --dataset pope --data "$work/pope" # of several tokens for the small model
sed -i 's/"question_type": "how many"/"question_typ": "how many"/' "$work/vqa-v2/v2_mscoco_val2014_annotations.json"
refused 'record 1: there is no "question_type"' --dataset vqa-v2 --data "$work/vqa-v2"
rm "$work/tally-qa/VG_100K/2.jpg"
refused "VG_100K/2.jpg" --dataset tally-qa-slim --data "$work/tally-qa" --batch 1
echo "evaluate: scored, killed $kills times (seed $seed) with the same answers, and refused"
