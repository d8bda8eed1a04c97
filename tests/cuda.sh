#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# Runs everything that needs a GPU: the op, module and model tests as CUDA, the fixtures, the example
# against the CPU, then compute-sanitizer's memcheck. Prints a table; exit 0 if all is well.
#   tests/cuda.sh                   builds (nvcc, CMake, and what tests/run.sh installs), then runs
#   tests/cuda.sh --pack FILE       builds for sm_90a and packs the programs; needs no GPU
#   tests/cuda.sh --run FILE        runs packed programs; needs a driver and the CUDA toolkit only
#   --no-memcheck                   leaves out the last part
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2

mode=all file='' memcheck=1
while [ $# -gt 0 ]; do
  case "$1" in
    --pack | --run)
      mode=${1#--} file=${2:-}
      [ -n "$file" ] || { echo "tests/cuda.sh: $1 without a file; wanted is one" >&2; exit 2; }
      shift ;;
    --no-memcheck) memcheck=0 ;;
    -h | --help) sed -n '5,11p' "$0" | cut -c3-; exit 0 ;;
    *) echo "tests/cuda.sh: \"$1\" is not an option; see --help" >&2; exit 2 ;;
  esac
  shift
done

# --- build
if [ "$mode" != run ]; then
  build=build-cuda-tests
  # Not 90: without the a it has none of the kernels for Hopper's tensor cores.
  case $(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2> /dev/null | head -1) in
    9.0) architectures=90a-real ;;
    *) architectures=native ;;
  esac
  more=()
  if [ "$mode" = pack ]; then  # libraries that another machine may lack go into the programs
    architectures=90a-real
    lib=$(dirname "$(g++ -print-file-name=libz.a)")
    more=(-DJPEG_LIBRARY="$lib/libjpeg.a" -DPNG_LIBRARY="$lib/libpng16.a" -DZLIB_LIBRARY="$lib/libz.a"
      -DMLMAMBA_UTF8PROC_LIBRARY="$lib/libutf8proc.a")
  fi
  cmake -S . -B "$build" -G Ninja -DMLMAMBA_CUDA=ON -DMLMAMBA_TEST_F16=ON \
    -DCMAKE_CUDA_ARCHITECTURES=$architectures "${more[@]}" > /dev/null || exit 1
  cmake --build "$build" -j "${JOBS:-$(nproc)}" --target mlmamba_cuda_programs generate || exit 1
  cp "$build"/examples/generate "$build"/cuda/ || exit 1
  programs=$build/cuda
  if [ "$mode" = pack ]; then
    strip "$programs"/*
    mkdir -p "$(dirname "$file")"
    tar -C "$programs" -cf - . | xz -6 -T0 > "$file" || exit 1
    echo "packed $(ls "$programs" | wc -l) programs into $file ($(du -h "$file" | cut -f1))"
    exit 0
  fi
else
  programs=$(mktemp -d)
  trap 'rm -rf "$programs"' EXIT
  tar -C "$programs" -xJf "$file" || exit 2
fi
for toolkit in "${CUDA_HOME:-}" /usr/local/cuda; do
  [ -n "$toolkit" ] && export LD_LIBRARY_PATH="$toolkit/lib64:${LD_LIBRARY_PATH:-}"
done
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2> /dev/null ||
  echo "no nvidia-smi: is there a GPU?"

log=$(mktemp -d)
export programs log
number=0
row() { printf '%-34s %-9s %8s  %s\n' "$@"; }
# check NAME SECONDS COMMAND...: runs it with a time limit beside at most three others (AT_ONCE=4); leaves a row
# for the table, and what it said if it failed
check() {
  number=$((number + 1))
  while [ "$(jobs -rp | wc -l)" -ge "${AT_ONCE:-4}" ]; do wait -n; done
  check_now "$log/$(printf %03d $number)" "$@" &
}
check_now() {
  local at=$1 name=$2 limit=$3 status start tenths note result
  shift 3
  start=${EPOCHREALTIME/./}
  timeout "$limit" "$@" > "$at.out" 2>&1
  status=$?
  tenths=$(((${EPOCHREALTIME/./} - start) / 100000))
  note=$(grep -E 'assertions:|passed, .* failed|ERROR SUMMARY' "$at.out" | tail -2 | tr -s ' \n' ' ' | cut -c1-100)
  case $status in
    0) result=ok ;;
    77) result=skipped note=$(head -1 "$at.out") ;;
    124) result=TIMEOUT ;;
    *) result="FAIL $status" ;;
  esac
  row "$name" "$result" "$((tenths / 10)).$((tenths % 10))" "$note" > "$at.row"
  case $status in
    0 | 77) ;;
    *)
      touch "$log/bad"
      { printf '\n--- %s: %s\n' "$name" "$result"; grep -vE 'rel=.* ok$' "$at.out" | head -50; } > "$at.fail"
      ;;
  esac
}

# --- tests
for test in "$programs"/*_cuda_test; do
  check "$(basename "$test" _cuda_test)" 200 "$test"
done

# --- fixtures. In 16 bits the sensitive ones (tests/CMakeLists.txt says why) may be off by more.
fixtures() {
  local status=0 files sensitive='train_step|connector_groups2|ml_mamba|ssd_(groups2_gate|head8|tiny_steps)'
  mapfile -t files < <(ls tests/golden/*.safetensors)
  local usual='' more=''  # tolerances: f16 has 3 bits more than bf16
  case "$1" in
    cuda_bf16) usual=2e-2 more=0.1 ;;
    cuda_f16) usual=2.5e-3 more=1.25e-2 ;;
  esac
  if [ -n "$more" ]; then
    local without=ml_mamba_train_step  # f16 holds no steps of e^-17 either: its smallest number is 6e-8
    [ "$1" != cuda_f16 ] || without+='|ssd_tiny_steps'
    mapfile -t files < <(ls tests/golden/*.safetensors | grep -E "$sensitive" | grep -vE "$without")
    "$programs/check_fixture_cuda" --engine "$1" --tolerance "$more" "${files[@]}" > "$log/$1" 2>&1 || status=$?
    mapfile -t files < <(ls tests/golden/*.safetensors | grep -vE "$sensitive")
  fi
  local allowed=()  # a tolerance in a file is meant for f32
  [ -z "$usual" ] || allowed=(--tolerance "$usual")
  "$programs/check_fixture_cuda" --engine "$1" "${allowed[@]}" "${files[@]}" >> "$log/$1" 2>&1 || status=$?
  [ $status -le 1 ] || { tail -5 "$log/$1"; return 1; }
  echo "$(grep -c ' ok$' "$log/$1") passed, $(grep -c ' FAIL' "$log/$1") failed"
  ! grep ' FAIL' "$log/$1"
}
export -f fixtures
for engine in cuda_f32 cuda_bf16 cuda_f16; do check "fixtures $engine" 200 bash -c "fixtures $engine"; done

# --- the example says on the GPU what it says on the CPU, and in bf16 nearly so
answers() {
  local picture question
  for picture in examples/pictures/*.png; do
    for question in "What is at the top left?" "How many garments are there?" "Is there a bag?" \
      "Describe the picture."; do
      "$@" --model examples/garment_model --image "$picture" --prompt "$question" || return 1
    done
  done
}
# same_answers NAME MOST CUDA_OPTIONS OPTION...: at most MOST answers differ
same_answers() {
  local name=$1 most=$2 precision=$3 differ
  shift 3
  answers "$programs/generate" --device cpu "$@" > "$log/$name.cpu" || return 1
  # shellcheck disable=SC2086 # several options
  answers "$programs/generate_cuda" --device cuda $precision "$@" > "$log/$name.cuda" ||
    { cat "$log/$name.cuda"; return 1; }
  differ=$(diff "$log/$name.cpu" "$log/$name.cuda" | tee /dev/stderr | grep -c '^>')
  echo "$(wc -l < "$log/$name.cpu") passed, $differ failed"
  [ -s "$log/$name.cpu" ] && [ "$differ" -le "$most" ] &&
    [ "$(wc -l < "$log/$name.cpu")" = "$(wc -l < "$log/$name.cuda")" ]
}
if ls examples/pictures/*.png > /dev/null 2>&1 && [ -e examples/garment_model/config.json ]; then
  export -f same_answers answers
  drawn="--temperature 2 --top-k 40 --top-p 0.95 --repetition-penalty 1.1 --seed 7"
  check "generate: CUDA = CPU" 300 bash -c "same_answers greedy 0 --weights=f32 --temperature 0"
  check "generate: drawn, CUDA = CPU" 300 bash -c "same_answers drawn 0 --weights=f32 $drawn"
  check "generate: bf16" 300 bash -c "same_answers bf16 2 --weights=bf16 --temperature 0"
  check "generate: bf16, states too" 300 bash -c \
    "same_answers states 2 '--weights=bf16 --state=bf16' --temperature 0"
else
  row "generate: CUDA = CPU" skipped - "no model or no pictures yet" > "$log/500.row"
fi

# --- memcheck, of what runs on the device (host-only test cases would only cost time)
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer \
  /opt/nvidia/*/*/compute-sanitizer 2> /dev/null | head -1)
if [ "$memcheck" = 1 ] && [ -n "$sanitizer" ]; then
  for test in "$programs"/*_cuda_test; do
    check "memcheck $(basename "$test" _cuda_test)" 240 "$sanitizer" --tool memcheck --report-api-errors no --error-exitcode 9 \
      "$test" --test-case='*backend::cuda*,cuda:*'
  done
elif [ "$memcheck" = 1 ]; then
  row "memcheck" skipped - "compute-sanitizer is not installed" > "$log/900.row"
fi

wait
cat "$log"/*.fail 2> /dev/null
printf '\n%-34s %-9s %8s\n' program result seconds
cat "$log"/*.row
[ ! -e "$log/bad" ]
bad=$?
rm -rf "$log"
exit $bad
