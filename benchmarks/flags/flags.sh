#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# Is a build without flags as fast as one for this machine? Compiles flags.cpp header-only at -O2, and
# at -O2 -march=native, lets the programs take turns, and prints the fastest round of each; last
# the ratio of their medians, which tells how idle the machine was.
#   flags.sh [--rounds N] [--keep DIR]
# --rounds  5;  --keep: the programs stay in DIR, and are taken from there if they are there already
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
rounds=5 dir=
while [ $# -gt 0 ]; do
  case "$1" in
    --rounds) rounds=${2:?flags.sh: --rounds wants a number}; shift 2 ;;
    --keep) dir=${2:?flags.sh: --keep wants a folder}; shift 2 ;;
    -h | --help) sed -n '5,9p' "$0" | cut -c3-; exit 0 ;;
    *) echo "flags.sh: \"$1\" is not an option; wanted is --rounds N or --keep DIR" >&2; exit 2 ;;
  esac
done
if [ -z "$dir" ]; then
  dir=$(mktemp -d)
  trap 'rm -rf "$dir"' EXIT
fi
mkdir -p "$dir"
build() { # build NAME FLAG...
  local name=$1
  shift
  [ -x "$dir/$name" ] || "${CXX:-g++}" -std=c++20 -O2 "$@" -I "$here/../../include" "$here/flags.cpp" -o "$dir/$name" -pthread
}
build plain
build native -march=native
rm -f "$dir"/*.txt
for _ in $(seq "$rounds"); do
  for name in plain native; do "$dir/$name" >> "$dir/$name.txt"; done
done
# Names hold spaces: the time is what stands last.
awk '
  # v: the times of a list, the fastest first
  function sorted(list,   n, i, j, t) {
    n = split(list, v, " ")
    for (i = 2; i <= n; ++i) for (j = i; j > 1 && v[j-1] + 0 > v[j] + 0; --j) { t = v[j]; v[j] = v[j-1]; v[j-1] = t }
    return n
  }
  { time = $NF; sub(/ +[^ ]+$/, ""); if (!($0 in seen)) { seen[$0] = 1; names[++count] = $0 } times[FILENAME, $0] = times[FILENAME, $0] " " time }
  END {
    printf "%-28s %10s %12s %8s %8s\n", "", "-O2, ms", "native, ms", "ratio", "median"
    for (i = 1; i <= count; ++i) {
      n = sorted(times[ARGV[1], names[i]]); a = v[1]; am = v[int((n + 1) / 2)]
      n = sorted(times[ARGV[2], names[i]]); b = v[1]; bm = v[int((n + 1) / 2)]
      printf "%-28s %10.3f %12.3f %8.2f %8.2f\n", names[i], a, b, a / b, am / bm
    }
  }' "$dir/plain.txt" "$dir/native.txt"
