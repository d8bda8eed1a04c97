#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# The test programs on processors that this machine is not: not part of a usual run, for a nightly
# one (x86-64 hosts).
#   other_cpus.sh [--tests REGEX] [--build DIR] [--jobs N] [CPU...]
# CPU    avx2, sse4, baseline: this machine, kernels limited (MLMAMBA_CPU_TARGET);
#        avx2-qemu, sse4-qemu, baseline-qemu: a processor that has nothing more, emulated, without the
#        cases of "many channels" (some 70 times slower: gemm or norm takes a minute);
#        neon: cross-compiled for AArch64, emulated. Default: all. (No SVE: its vectors have no size,
#        so the library does without, see backend/cpu/simd/dispatch.hpp.)
# REGEX  of names of tests as ctest has them; default: ^(core|ops)/
# DIR    build-other-cpus; has a folder for each way to compile.
# Needs qemu-user-static, and g++-aarch64-linux-gnu for neon; what is missing is installed
# with apt where that may be done. Exit code 1 if a test fails, 2 if something is missing.
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
tests='^(core|ops)/' build=$source/build-other-cpus jobs=$(nproc) cpus=()
while [ $# -gt 0 ]; do
  case "$1" in
    --tests) tests=${2:?other_cpus.sh: --tests wants a regular expression}; shift 2 ;;
    --build) build=${2:?other_cpus.sh: --build wants a folder}; shift 2 ;;
    --jobs) jobs=${2:?other_cpus.sh: --jobs wants a number}; shift 2 ;;
    -h | --help) sed -n '5,18p' "$0" | cut -c3-; exit 0 ;;
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
# each CPU COMMAND...: runs the programs through COMMAND
each() {
  local cpu=$1 program begin
  shift
  for program in "${programs[@]}"; do
    begin=$SECONDS
    if "$@" "$program" "${without[@]}" > "$build/log" 2>&1; then
      printf '%-14s %-32s ok      %4d s  %s\n' "$cpu" "$(basename "$program")" $((SECONDS - begin)) \
        "$(sed -n 's/.*test cases: *\([0-9]*\).*/\1 cases/p' "$build/log")"
    else
      printf '%-14s %-32s FAILED  %4d s\n' "$cpu" "$(basename "$program")" $((SECONDS - begin))
      grep -m 12 -E 'ERROR|FAILED|values|terminate|uncaught|Illegal|signal' "$build/log" | sed 's/^/    /' || tail -3 "$build/log"
      failed=1
    fi
  done
}
x86() { build x86 -DCMAKE_CXX_FLAGS=-DMLMAMBA_ALL_TARGETS; }
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
      without=("--test-case-exclude=*many channels*")
      each "$cpu" qemu-x86_64-static -cpu "$model"
      without=() ;;
    neon) arm; each neon qemu-aarch64-static -L /usr/aarch64-linux-gnu ;;
  esac
done
exit $failed
