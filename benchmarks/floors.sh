#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# Does the library keep its floors on this machine? One row per floor: name, value, wanted, ok or
# short, and the lowest and highest repetition. A time never decides the exit code; a benchmark that
# does not run, or whose result is wrong, does (1).
#   floors.sh [--build DIR] [--repetitions N] [--min-time SECONDS] [--only REGEX]
# DIR (build-bench) is configured and built if it has to be. Values are medians of N (5)
# repetitions, ratios of what was measured in turns in one process.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source=$(dirname "$here")
build=$source/build-bench repetitions=5 min_time=0.2 only=.
while [ $# -gt 0 ]; do
  case "$1" in
    --build) build=${2:?floors.sh: --build wants a folder}; shift 2 ;;
    --repetitions) repetitions=${2:?floors.sh: --repetitions wants a number}; shift 2 ;;
    --min-time) min_time=${2:?floors.sh: --min-time wants seconds}; shift 2 ;;
    --only) only=${2:?floors.sh: --only wants a regular expression}; shift 2 ;;
    -h | --help) sed -n '5,10p' "$0" | cut -c3-; exit 0 ;;
    *) echo "floors.sh: \"$1\" is not an option; wanted is --build, --repetitions, --min-time or --only" >&2; exit 2 ;;
  esac
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

cmake -S "$source" -B "$build" -DMLMAMBA_BUILD_BENCHMARKS=ON -DMLMAMBA_BUILD_TESTS=OFF \
  -DMLMAMBA_BUILD_EXAMPLES=OFF > "$work/log" 2>&1 && cmake --build "$build" -j "$(nproc)" > "$work/log" 2>&1 || {
  tail -40 "$work/log" >&2
  echo "floors.sh: the benchmarks do not build" >&2
  exit 1
}

cache() { sed -n "s/^$1:[A-Z]*=//p" "$build/CMakeCache.txt"; }
echo "machine   $(lscpu | sed -n 's/^Model name: *//p' | head -1), $(nproc) threads, $(lscpu | sed -n 's/^L3 cache: *//p')  of L3"
echo "levels    $(grep -o -w -E 'avx2|avx512f|avx512_bf16|avx512_vnni|amx_bf16' /proc/cpuinfo | sort -u | paste -s -d ' ')"
echo "pages     transparent huge: $(sed 's/.*\[\(.*\)\].*/\1/' /sys/kernel/mm/transparent_hugepage/enabled 2> /dev/null || echo unknown)"
echo "compiler  $("$(cache CMAKE_CXX_COMPILER)" --version | head -1), $(cache CMAKE_BUILD_TYPE), commit $(git -C "$source" rev-parse --short HEAD 2> /dev/null || echo unknown)"
echo "load      $(cut -d ' ' -f 1-3 /proc/loadavg) before"
printf '\n%-66s %9s %9s  %-5s %s\n' floor value wanted "" "lowest to highest"

# verdict NAME VALUE WANTED LOWEST HIGHEST; WANTED as in ">=0.80"
verdict() {
  awk -v name="$1" -v value="$2" -v wanted="$3" -v low="$4" -v high="$5" 'BEGIN {
    limit = substr(wanted, 3) + 0
    met = wanted ~ /^>=/ ? value >= limit : value <= limit
    printf "%-66s %9.3f %9s  %-5s %.3f to %.3f\n", name, value, wanted, met ? "ok" : "short", low, high }'
}

# floor PROGRAM FILTER COUNTER WANTED: a row for every benchmark that the filter picks
floor() {
  local program=$1 filter=$2 counter=$3 wanted=$4
  [[ "$program $filter" =~ $only ]] || return 0
  if [ ! -x "$build/benchmarks/benchmark_$program" ]; then
    echo "floors.sh: benchmark_$program was not built" >&2
    failed=1
    return 0
  fi
  "$build/benchmarks/benchmark_$program" --benchmark_filter="$filter" --benchmark_min_time="$min_time" \
    --benchmark_repetitions="$repetitions" --benchmark_format=json > "$work/json" 2> "$work/log" || {
    tail -5 "$work/log" >&2
    echo "floors.sh: benchmark_$program failed" >&2
    failed=1
    return 0
  }
  # One key per line: the counter of each repetition (the median is ours, so that one repetition,
  # which has no aggregates, will do too).
  awk -v counter="\"$counter\":" '
    /"run_name":/ { split($0, part, "\""); name = part[4] }
    /"run_type":/ { own = /iteration/ }
    /"error_message":/ { sub(/^[^:]*: /, ""); print name "\terror\t" $0 }
    own && index($0, counter) { sub(/.*: /, ""); sub(/,$/, ""); print name "\t" $0 + 0 }
    ' "$work/json" | sed 's,/manual_time,,' > "$work/values"
  if ! [ -s "$work/values" ] || grep -q "	error	" "$work/values"; then
    cat "$work/values" >&2
    echo "floors.sh: benchmark_$program --benchmark_filter='$filter' gives no \"$counter\"" >&2
    failed=1
    return 0
  fi
  cut -f 1 "$work/values" | uniq | while read -r name; do
    mapfile -t v < <(awk -F '\t' -v n="$name" '$1 == n { print $2 }' "$work/values" | sort -g)
    verdict "$name: $counter" "${v[$((${#v[@]} / 2))]}" "$wanted" "${v[0]}" "${v[-1]}"
  done
}

floor models_decode 'decode/cpu_(f32|bf16)/B:1/' 'of read' '>=0.80'
floor models_fork_join 'step_forks' 'fork-join of step' '<=0.03'
floor models_prefill 'prefill/cpu_(f32|bf16)/L:2048/layers:4/' 'ssd of layer' '<=0.10'
floor ops_ssd '^ssd<.*/L:2048/' 'of steps' '>=5'
floor ops_ssd '^ssd<.*/L:2048/' 'of sequential' '>=5'
floor ops_causal_conv1d 'causal_conv1d.*/L:2048/' 'of copy' '>=0.70'
floor ops_norm 'norm.*/T:2048/' 'of copy' '>=0.70'
floor ops_packed_gemm 'packed_gemm<(.*bf16, 0|int8, 64|int4, 64)>/M:[1378]/' 'of read' '>=0.80'
floor ops_packed_gemm 'packed_gemm<(f32|.*bf16|int8), 0>/M:512/N:10576/' 'of oneDNN' '>=0.70'
floor ops_gemm 'gemm<.*/M:(512/N:10576|729)/' 'of oneDNN' '>=0.70'

if [[ compile_time =~ $only ]]; then
  if CXX=$(cache CMAKE_CXX_COMPILER) "$here/compile_time/measure.sh" --repeat 2 > "$work/table" 2> "$work/log"; then
    scan=$(awk '$1 == "one_scan" && $2 == "header-only" { print $4 }' "$work/table")
    generate=$(awk '$1 == "generate" { print $6 }' "$work/table")
    demo=$(awk '$1 == "demo" { print $6 }' "$work/table")
    verdict "compile_time/one_scan/header-only: wall s" "$scan" '<=6' "$scan" "$scan"
    verdict "compile_time/generate, kernels apart: wall s" "$generate" '<=60' "$generate" "$generate"
    verdict "compile_time/demo, kernels included: wall s" "$demo" '<=90' "$demo" "$demo"
  else
    cat "$work/log" >&2
    failed=1
  fi
fi
printf '\nload      %s after\n' "$(cut -d ' ' -f 1-3 /proc/loadavg)"
exit $failed
