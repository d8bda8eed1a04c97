#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# Searches for inputs that break a fuzz target, with libFuzzer, AddressSanitizer and UBSan.
#   tests/fuzz/run.sh TARGET [RUNS [LENGTH]]     10,000,000 runs of at most 1,000 bytes without numbers
# New inputs go to build/fuzz/TARGET; a finding is written there as crash-* and the exit code is not 0.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${1:-} runs=${2:-10000000} length=${3:-1000}
if [ ! -f "tests/fuzz/${target}_fuzz.cpp" ]; then
  echo "run.sh: \"$target\" is no fuzz target; one of these is wanted:" \
    "$(cd tests/fuzz && ls ./*_fuzz.cpp | sed 's,./\(.*\)_fuzz.cpp,\1,' | tr '\n' ' ')" >&2
  exit 2
fi
compiler=$(command -v clang++-14 || command -v clang++) || {
  echo "run.sh: there is no clang++; apt-get install clang-14 libclang-rt-14-dev" >&2
  exit 2
}
folder=build/fuzz/$target
mkdir -p "$folder/corpus"
"$compiler" -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
  -I include "tests/fuzz/${target}_fuzz.cpp" -o "$folder/fuzz" -ljpeg -lpng -lz -lutf8proc \
  $([ "$target" = gif ] && echo -lgif) -pthread
"$folder/fuzz" -runs="$runs" -max_len="$length" -timeout=20 -rss_limit_mb=3000 -print_final_stats=1 \
  -artifact_prefix="$folder/" "$folder/corpus" "tests/fuzz/corpus/$target"
