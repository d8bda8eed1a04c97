#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# Each header compiles alone.   headers.sh COMPILER PART PARTS FLAGS...
# (every PARTS-th header, from PART on, so that a test runner can do the parts in parallel)
# The SIMD kernels are left to kernels_*.cpp here; other tests compile them inside programs.
set -u
compiler=$1 part=$2 parts=$3
shift 3
# -isystem /usr/include would hide the compiler's own wrappers from include_next
flags=()
while [ $# -gt 1 ]; do
  [ "$2" = /usr/include ] || flags+=("$1" "$2")
  shift 2
done
set -- "${flags[@]}"
include=$(cd "$(dirname "$0")/../include" && pwd)
bad=0 n=0 done=0
while read -r header; do
  n=$((n + 1))
  [ $((n % parts)) = "$part" ] || continue
  case "$header" in
    *-inl.hpp) continue ;; # re-included per target by dispatch.hpp only
    */curl_client.hpp) echo '#include <curl/curl.h>' | "$compiler" -fsyntax-only -x c++ - 2> /dev/null || continue ;;
  esac
  if ! printf '#include "%s"\n' "$header" |
    "$compiler" -std=c++20 -fsyntax-only -Wall -Wextra -Wshadow -Wconversion -Werror -DMLMAMBA_CPU_COMPILED -I "$include" "$@" -x c++ -; then
    echo "headers: $header does not compile alone"
    bad=1
  fi
  done=$((done + 1))
done < <(cd "$include" && find mlmamba -name '*.hpp' | sort)
echo "headers: $done compiled alone"
[ $done -gt 0 ] || bad=1
exit $bad
