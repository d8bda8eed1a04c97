#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# The test programs on processors that this machine is not: not part of a usual run, for a nightly
# one (x86-64 hosts).
#   other_cpus.sh [--tests REGEX] [--build DIR] [--jobs N] [--limit SECONDS] [CPU...]
# CPU    avx2, sse4, baseline: this machine, kernels limited (MLMAMBA_CPU_TARGET);
#        avx2-qemu, sse4-qemu, baseline-qemu: a processor that has nothing more, emulated;
#        neon: cross-compiled for AArch64, emulated. Default: all. (No SVE: its vectors have no size,
#        and GCC refuses them as elements of arrays, with -msve-vector-bits too, which the sums of
#        tiles are; see backend/cpu/simd/dispatch.hpp.)
#        Emulated, arithmetic takes some 70 times as long. So what does not ask the processor's
#        kernels is left out there: gradients of the reference against its complex step, and what is
#        on the reference's engine. So are "threads and instructions" and "drawn options" on x86-64,
#        one level after the other, which run on the limited kernels of this machine.
# REGEX  of names of tests as ctest has them; default: ^(core|ops)/
# DIR    build-other-cpus; has a folder for each way to compile, and logs.
# Each case is a process of its own, N (of this machine's processors) at a time, which may take
# SECONDS (3600).
# Needs qemu-user-static, and g++-aarch64-linux-gnu for neon; what is missing is installed
# with apt where that may be done. Exit code 1 if a test fails, 2 if something is missing.
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
tests='^(core|ops)/' build=$source/build-other-cpus jobs=$(nproc) limit=3600 cpus=()
while [ $# -gt 0 ]; do
  case "$1" in
    --tests) tests=${2:?other_cpus.sh: --tests wants a regular expression}; shift 2 ;;
    --build) build=${2:?other_cpus.sh: --build wants a folder}; shift 2 ;;
    --jobs) jobs=${2:?other_cpus.sh: --jobs wants a number}; shift 2 ;;
    --limit) limit=${2:?other_cpus.sh: --limit wants a number}; shift 2 ;;
    -h | --help) sed -n '5,22p' "$0" | cut -c3-; exit 0 ;;
    avx2 | sse4 | baseline | avx2-qemu | sse4-qemu | baseline-qemu | neon) cpus+=("$1"); shift ;;
    *) echo "other_cpus.sh: \"$1\" is no option and no CPU; see --help" >&2; exit 2 ;;
  esac
done
[ ${#cpus[@]} -gt 0 ] || cpus=(avx2 sse4 baseline avx2-qemu sse4-qemu baseline-qemu neon)

need() { # need PROGRAM PACKAGE
  command -v "$1" > /dev/null && return
  local as=()
  [ "$(id -u)" = 0 ] || as=(sudo)
  echo "other_cpus.sh: installing $2"
  "${as[@]}" apt-get update > /dev/null && "${as[@]}" apt-get install -y --no-install-recommends "$2" > /dev/null ||
    { echo "other_cpus.sh: $1 is missing (Debian: $2)" >&2; exit 2; }
}

# build FOLDER CMAKE-ARGUMENT...: the programs of the wanted tests
build() {
  local folder=$build/$1
  shift
  mkdir -p "$folder"
  cmake -S "$source" -B "$folder" -DMLMAMBA_BUILD_EXAMPLES=OFF "$@" > "$folder/configure.log" 2>&1 ||
    { tail -20 "$folder/configure.log" >&2; exit 2; }
  mapfile -t names < <(ctest --test-dir "$folder" -N | sed -n 's/^ *Test *#[0-9]*: //p' | grep -E "$tests" |
    sed 's,/,_,g; s,$,_test,')
  # Tests that are scripts have no program of that name.
  local have targets=()
  have=$(cmake --build "$folder" --target help)
  for name in "${names[@]}"; do grep -qw "$name" <<< "$have" && targets+=("$name"); done
  [ ${#targets[@]} -gt 0 ] || { echo "other_cpus.sh: no program of a test matches $tests" >&2; exit 2; }
  cmake --build "$folder" -j "$jobs" --target "${targets[@]}" > "$folder/build.log" 2>&1 ||
    { grep -m 20 -E 'error|FAILED' "$folder/build.log" >&2; echo "other_cpus.sh: $folder does not build" >&2; exit 1; }
  programs=("${targets[@]/#/$folder/tests/}")
}

failed=0 without=()
# one LOG NUMBER COMMAND...: a case of a program by its number; LOG.failed if it does
one() {
  local log=$1 number=$2
  shift 2
  timeout "$limit" "$@" --first="$number" --last="$number" > "$log" 2>&1 ||
    { echo "exit code $? (124: after $limit s)" >> "$log"; mv "$log" "$log.failed"; }
}
# each CPU COMMAND...: runs the programs through COMMAND
each() {
  local cpu=$1 program logs i bad begin=$SECONDS
  local -A cases=()
  shift
  for program in "${programs[@]}"; do
    logs=$build/logs/$cpu/$(basename "$program")
    rm -rf "$logs" && mkdir -p "$logs"
    cases[$program]=$("$@" "$program" "${without[@]}" --count 2> /dev/null | sed -n 's/.*current filters: *//p') || true
    for ((i = 1; i <= ${cases[$program]:-0}; i++)); do
      while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || true; done
      one "$logs/$i" "$i" "$@" "$program" "${without[@]}" &
    done
  done
  wait
  for program in "${programs[@]}"; do
    logs=$build/logs/$cpu/$(basename "$program")
    bad=$(find "$logs" -name '*.failed' | wc -l)
    if [ "$bad" = 0 ] && [ "${cases[$program]:-0}" -gt 0 ]; then
      printf '%-14s %-32s ok      %s cases\n' "$cpu" "$(basename "$program")" "${cases[$program]}"
    else
      printf '%-14s %-32s FAILED  %s of %s cases\n' "$cpu" "$(basename "$program")" "$bad" "${cases[$program]:-no}"
      for log in "$logs"/*.failed; do
        grep -m 12 -E 'TEST CASE|ERROR|FAILED|values|terminate|uncaught|Illegal|signal|exit code' "$log" 2> /dev/null | sed 's/^/    /' || true
      done
      failed=1
    fi
  done
  printf '%-14s %s s\n' "$cpu" $((SECONDS - begin))
}
plain='*backend::reference*,*gradients are exact*,*derivative*'  # what no kernel is in
x86() { build x86; }
arm() {
  need aarch64-linux-gnu-g++ g++-aarch64-linux-gnu
  need qemu-aarch64-static qemu-user-static
  # The host's own headers must stay out of the way of the cross compiler's.
  local headers=$build/headers name
  mkdir -p "$headers"
  for name in hwy doctest nlohmann; do ln -sfn "/usr/include/$name" "$headers/$name"; done
  build neon -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
    -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DCMAKE_CXX_FLAGS=-march=armv8-a+crypto \
    -DCMAKE_FIND_ROOT_PATH=/usr/aarch64-linux-gnu -DCMAKE_FIND_ROOT_PATH_MODE_INCLUDE=ONLY \
    -DCMAKE_FIND_ROOT_PATH_MODE_LIBRARY=ONLY -DCMAKE_FIND_ROOT_PATH_MODE_PACKAGE=ONLY \
    -DMLMAMBA_HIGHWAY_INCLUDE_DIR="$headers" -DMLMAMBA_DOCTEST_INCLUDE_DIR="$headers" \
    -DMLMAMBA_JSON_INCLUDE_DIR="$headers"
}
for cpu in "${cpus[@]}"; do
  case "$cpu" in
    avx2 | sse4 | baseline) x86; each "$cpu" env "MLMAMBA_CPU_TARGET=$cpu" ;;
    *-qemu)
      need qemu-x86_64-static qemu-user-static
      x86
      case "$cpu" in avx2-*) model=Haswell ;; sse4-*) model=Westmere ;; *) model=qemu64,-sse4.2,-pclmulqdq ;; esac
      without=("--test-case-exclude=$plain,*threads and instructions*,*drawn options*")
      each "$cpu" qemu-x86_64-static -cpu "$model"
      without=() ;;
    neon)
      arm
      without=("--test-case-exclude=$plain")
      each neon qemu-aarch64-static -L /usr/aarch64-linux-gnu
      without=() ;;
  esac
done
exit $failed
