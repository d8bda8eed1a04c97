#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# How long does the compiler take, and how large are the objects? Prints a table beside the budgets;
# a time never decides the exit code, a program that does not compile does.
#   measure.sh [--repeat N] [--only PROGRAM | --only headers] [-- FLAG...]
# CXX is the compiler (g++). FLAGs are added to all commands, such as -isystem and a folder.
# "header-only" compiles the kernels in the program itself; "compiled" leaves them to the units
# simd/kernels_*.cpp, which are built once. The lowest time of N (1) runs counts.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
repeat=1 only=
while [ $# -gt 0 ]; do
  case "$1" in
    --repeat) repeat=${2:?measure.sh: --repeat wants a number}; shift 2 ;;
    --only) only=${2:?measure.sh: --only wants a program}; shift 2 ;;
    -h | --help) sed -n '5,10p' "$0" | cut -c3-; exit 0 ;;
    --) shift; break ;;
    *) echo "measure.sh: \"$1\" is not an option; wanted is --repeat N, --only PROGRAM or -- FLAG..." >&2; exit 2 ;;
  esac
done
cxx=${CXX:-g++}
base=(-std=c++20 -I "$source/include" "$@")
compiled=(-DMLMAMBA_CPU_COMPILED)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# seconds FILE COMMAND...: "wall user" of one run
TIMEFORMAT='%R %U'
seconds() {
  local log=$1
  shift
  { time "$@" 2> "$log" > /dev/null; } 2>&1 || { cat "$log" >&2; return 1; }
}
row() { printf '%-26s %-12s %8s %8s %10s  %s\n' "$@"; }
# compile NAME MODE BUDGET SOURCE FLAG...
compile() {
  local name=$1 mode=$2 budget=$3 file=$4 best= wall user
  shift 4
  [ -z "$only" ] || [ "$only" = "$name" ] || return 0
  local flags=("$@")
  [ "$mode" = compiled ] && flags+=("${compiled[@]}")
  for _ in $(seq "$repeat"); do
    read -r wall user < <(seconds "$work/log" "$cxx" "${base[@]}" "${flags[@]}" -c "$file" -o "$work/out.o")
    [ -n "${user:-}" ] || { echo "measure.sh: $name ($mode) does not compile" >&2; cat "$work/log" >&2; exit 1; }
    best=$(printf '%s\n%s' "${best:-$wall $user}" "$wall $user" | sort -n | head -1)
  done
  row "$name" "$mode" "${best#* }" "${best% *}" "$(($(stat -c %s "$work/out.o") / 1024))" "$budget"
  rm -f "$work/out.o"
}

"$cxx" --version | head -1
row program mode "user s" "wall s" "object KiB" budget
for mode in header-only compiled; do
  compile include_only "$mode" "" "$here/include_only.cpp" -O2
  compile one_scan "$mode" "wall <= 6 s" "$here/one_scan.cpp" -O2
  compile one_ssd "$mode" "" "$here/one_ssd.cpp" -O2
done
for part in norm product scan; do
  compile kernels_$part compiled "" "$source/include/mlmamba/backend/cpu/simd/kernels_$part.cpp" -O2
done

# What each header costs alone, with all that it includes: the kernels are compiled apart.
for header in core/context core/tensor ops/ssd nn/mamba2 models/mamba_lm models/ml_mamba backend/reference \
    backend/cpu mlmamba verify/op_case io/safetensors text/tokenizer train/trainer; do
  [ -z "$only" ] || [ "$only" = headers ] || break
  printf '#include "mlmamba/%s.hpp"\n' "$header" > "$work/header.cpp"
  if [ -f "$source/include/mlmamba/$header.hpp" ]; then
    (only='' && compile "$header.hpp" compiled "" "$work/header.cpp" -O2)
  fi
done

# What a newcomer waits for, as demo.sh builds: two compilers beside each other, the kernels first.
if [ -z "$only" ] || [ "$only" = demo ]; then
  cmake -S "$source" -B "$work/demo" -G Ninja -DCMAKE_CXX_COMPILER="$cxx" -DMLMAMBA_BUILD_TESTS=OFF \
    -DMLMAMBA_NATIVE=ON > "$work/log" && cmake "$work/demo" -DCMAKE_CXX_FLAGS="$*" > "$work/log"
  all=0
  for target in mlmamba_cpu generate; do
    read -r wall user < <(seconds "$work/log" cmake --build "$work/demo" --target $target --parallel 2)
    [ -n "${user:-}" ] || { echo "measure.sh: $target does not build" >&2; exit 1; }
    all=$(awk "BEGIN { print $all + $wall }")
    built=$work/demo/libmlmamba_cpu.a
    [ $target = mlmamba_cpu ] || built=$work/demo/examples/generate
    size=$(stat -c %s "$built")
    row $target "two at once" "$user" "$wall" "$((size / 1024))" \
      "$([ $target = generate ] && echo "wall <= 60 s on 2 cores")"
  done
  row demo "two at once" - "$all" - "wall <= 90 s on 2 cores"
fi
