#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# examples/preprocess against a server on loopback with small stand-ins: made once, made again,
# killed at any time, without a network, with hostile archives; and what train says to the result.
#   preprocess.sh PREPROCESS SERVER [TRAIN]
set -eu
preprocess=$1 server=$2 train=${3:-}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
servers=()
trap '[ ${#servers[@]} = 0 ] || kill "${servers[@]}" 2> /dev/null; rm -rf "$work"' EXIT
unset HF_HUB_CACHE HF_ENDPOINT HF_TOKEN HF_HUB_OFFLINE HTTP_PROXY http_proxy HTTPS_PROXY https_proxy
export HF_HOME=$work/hf
cd "$work" # no .hf_token here
fail() { echo "preprocess: $*" >&2; exit 1; }

# serve NAME COUNT PAUSE: sets $address; the requests are in $work/NAME.log
serve() {
  "$server" "$work/$1.port" "$2" "$3" > "$work/$1.log" &
  servers+=($!)
  for _ in $(seq 500); do
    [ -f "$work/$1.port" ] && break
    sleep 0.02
  done
  address=$(cat "$work/$1.port")
}
# run CODE WORDS OPTION...: exit code and one line with the words on standard error
run() {
  local code=$1 words=$2 got=0
  shift 2
  "$preprocess" "$@" > "$work/out" 2> "$work/err" || got=$?
  [ $got = "$code" ] || fail "$*: exit code $got, $code is wanted: $(cat "$work/out" "$work/err")"
  grep -qF -- "$words" "$work/out" "$work/err" || fail "$*: no \"$words\" in: $(cat "$work/out" "$work/err")"
}
# every name, size and time below a folder, the lock apart
listing() { (cd "$1" && find . -not -name .lock -printf '%p %s %T@ %i\n' | sort); }
same_tree() { diff -r "$1" "$2" > "$work/diff" || fail "$3: $(head -5 "$work/diff")"; }

serve fast 40 0
ids="llava-laion-cc-sbu-558k llava-v1.5-instruct llava-multimodal llava-lvis4v"
for id in $ids; do run 0 "is complete" --dataset_id "$id" --root_dir whole --mirror "$address"; done
instruct=whole/download/llava-v1.5-instruct
for path in llava_v1_5_mix665k.json coco/train2017 gqa/images ocr_vqa/images/b.jpg ocr_vqa/images/c.jpg \
  textvqa/train_images vg/VG_100K vg/VG_100K_2 coco/val2017 llava_v1_5_lvis4v_mix888k.json \
  llava_v1_5_stripped625k.json train2017.zip gqa_images.zip vg_images.zip; do
  [ -e "$instruct/$path" ] || fail "there is no $path"
done
for path in chat.json 00000 00453/000000000039.jpg 00659 images.zip; do
  [ -e "whole/download/llava-laion-cc-sbu-558k/$path" ] || fail "there is no $path"
done

# a second time: nothing is asked for, nothing is touched
listing whole > before
: > fast.log
for id in $ids; do run 0 "is complete" --dataset_id "$id" --root_dir whole --mirror "$address"; done
listing whole > after
cmp before after || fail "a second run changed $(diff before after | head -3)"
[ ! -s fast.log ] || fail "a second run asked for $(head -3 fast.log)"

# without a network: archives that are there
for folder in llava-laion-cc-sbu-558k llava-v1.5-instruct; do
  mkdir -p "offline/download/$folder"
  cp whole/download/$folder/*.zip "offline/download/$folder"
done
cp whole/download/llava-laion-cc-sbu-558k/chat.json offline/download/llava-laion-cc-sbu-558k/blip_laion_cc_sbu_558k.json
cp "$instruct"/{llava_v1_5_mix665k,lvis_instruct4v_220k}.json offline/download/llava-v1.5-instruct
for id in $ids; do run 0 "is complete" --dataset_id "$id" --root_dir offline --offline; done
same_tree whole offline "from archives alone"

# killed, again and again, a little later each time
serve slow 40 4
delay=10 kills=0
for id in $ids; do
  while :; do
    "$preprocess" --dataset_id "$id" --root_dir killed --mirror "$address" > out 2> err &
    pid=$!
    (sleep "$(printf '0.%03d' $delay)"; kill -9 $pid 2> /dev/null) &
    killer=$!
    code=0
    wait $pid 2> /dev/null || code=$?
    kill $killer 2> /dev/null || true
    wait $killer 2> /dev/null || true
    [ $code = 0 ] && break
    [ $code = 137 ] || fail "$id, killed $kills times: exit code $code: $(cat err)"
    kills=$((kills + 1)) delay=$((delay + 3))
    [ $delay -lt 1000 ] || fail "$id: not done after $kills kills"
  done
done
[ $kills -gt 3 ] || fail "only $kills runs were killed"
same_tree whole killed "after $kills kills"

# a file may not grow larger than 1 KiB: an error, and the next run goes on
mkdir -p full/download/llava-v1.5-instruct
cp "$instruct"/*.zip "$instruct/llava_v1_5_mix665k.json" full/download/llava-v1.5-instruct
(
  trap '' XFSZ
  ulimit -f 1
  run 2 "can't write it" --root_dir full --offline
) 2> /dev/null || fail "no error where files can't grow: $(cat err)"
[ ! -e full/download/llava-v1.5-instruct/coco/train2017 ] || fail "a folder that is not whole has its name"
run 0 "is complete" --root_dir full --offline
same_tree "$instruct/coco/train2017" full/download/llava-v1.5-instruct/coco/train2017 "after a full disk"

# archives that are not to be trusted: nothing is extracted, nothing escapes
for kind in "path lead out of the folder" "link symbolic link" "swell at most 100 times" "cut truncated"; do
  rm -rf bad
  mkdir -p bad/a/download/llava-v1.5-instruct
  cp "$instruct/llava_v1_5_mix665k.json" bad/a/download/llava-v1.5-instruct
  "$server" --hostile "${kind%% *}" bad/a/download/llava-v1.5-instruct/train2017.zip
  run 2 "${kind#* }" --root_dir bad/a --offline
  [ "$(wc -l < err)" = 1 ] || fail "more than a line: $(cat "$work/err")"
  [ "$(find bad -type f -not -name .lock | wc -l)" = 2 ] || fail "${kind%% *} left $(find bad)"
done

# pictures that are missing, or are none
cp -r whole missing
rm missing/download/llava-v1.5-instruct/vg/VG_100K/000000000001.jpg
run 1 "1 of its 8 pictures are not in" --root_dir missing --check
echo text > missing/download/llava-v1.5-instruct/ocr_vqa/images/x.gif
run 1 "x.gif" --root_dir missing

run 0 "llava-lvis4v-lrv: with both" --list
run 0 "Exit code: 0 done" --help
run 2 "did you mean llava-lvis4v?" --dataset_id llava-lvis4w --root_dir none
run 2 "an address such as https://host is wanted" --root_dir none --mirror here
run 2 "no connection to 127.0.0.1" --root_dir nobody --mirror http://127.0.0.1:1
run 2 "put the file of" --root_dir nobody --offline
run 2 "to be fetched by hand" --dataset_id llava-lrv --root_dir whole --offline
run 2 "--root_dirs" --root_dirs x
run 2 "can't create it" --root_dir before/x
[ ! -e none ] || fail "a bad option made a folder"

if [ -n "$train" ]; then
  steps=2
  . "$here/tiny_recipe.sh"
  sed -i '/"training":/d; /"run":/d; s/^\(  "data": .*\),$/\1/' recipe.json
  sed -i "s|\"data\": {[^}]*}|\"training\": {\"batch\": 2, \"micro_batch\": 1}|" recipe.json
  "$train" --config recipe.json --threads 1 --weights f32 --dataset llava-lvis4v --root whole --stage align \
    --out aligned > log 2>&1 || fail "train, align: $(cat log)"
  "$train" --config recipe.json --threads 1 --weights f32 --dataset llava-lvis4v --root whole \
    --stage finetune --from aligned/model --out tuned > log 2>&1 || fail "train, finetune: $(cat log)"
fi
echo "preprocess: made once, made again, killed $kills times, offline, full, 4 hostile archives, 9 options"
