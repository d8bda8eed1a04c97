#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# Each header compiles alone.   headers.sh COMPILER PART PARTS FLAGS...
# (every PARTS-th unit, from PART on, so that a test runner can do the parts in parallel)
#
# A unit is a chain of headers, each of which, directly or not, includes the one before it. So all that
# comes before a header in its unit is what it includes itself, it sees no more than it would alone, and
# a third of the compilations do. An include inside #if is not counted as one.
#
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
cd "$(dirname "$0")/../include" || exit 1

without='-inl\.hpp$'  # re-included per target by dispatch.hpp only
echo '#include <curl/curl.h>' | "$compiler" -fsyntax-only -x c++ - 2> /dev/null || without="$without|/curl_client\.hpp$"
mapfile -t headers < <(find mlmamba -name '*.hpp' | grep -vE -e "$without" | sort)

# One unit a line: from the header that includes least, each goes behind the chain whose last header is
# the largest of those that it includes.
units() {
  awk '
    function includes_of(header, direct, n, i, k) {
      if (header in size) return
      size[header] = 0
      n = split(includes[header], direct, " ")
      for (i = 1; i <= n; i++) {
        if (!(direct[i] in listed)) continue
        includes_of(direct[i])
        reached[header, direct[i]] = 1
        for (k in listed) if ((direct[i], k) in reached) reached[header, k] = 1
      }
      for (k in listed) if ((header, k) in reached) size[header]++
    }
    FNR == 1 { depth = 0; listed[FILENAME] = 1; order[++count] = FILENAME }
    /^[ \t]*#[ \t]*if/ { depth++ }
    /^[ \t]*#[ \t]*endif/ { depth-- }
    depth == 0 && /^#include "/ { split($0, quoted, "\""); includes[FILENAME] = includes[FILENAME] " " quoted[2] }
    END {
      for (i = 1; i <= count; i++) includes_of(order[i])
      for (s = 0; s < count; s++)
        for (i = 1; i <= count; i++) {
          header = order[i]
          if (size[header] != s) continue
          best = 0
          for (c = 1; c <= chains; c++)
            if ((header, last[c]) in reached && (!best || size[last[c]] > size[last[best]])) best = c
          if (!best) best = ++chains
          chain[best] = chain[best] " " header
          last[best] = header
        }
      for (c = 1; c <= chains; c++) print chain[c]
    }' "${headers[@]}"
}

bad=0 n=0 done=0
while read -r -a unit; do
  n=$((n + 1))
  [ $((n % parts)) = "$part" ] || continue
  if ! printf '#include "%s"\n' "${unit[@]}" |
    "$compiler" -std=c++20 -fsyntax-only -Wall -Wextra -Wshadow -Wconversion -Werror -DMLMAMBA_CPU_COMPILED -I . "$@" -x c++ -; then
    echo "headers: of ${unit[*]} one does not compile alone"
    bad=1
  fi
  done=$((done + ${#unit[@]}))
done < <(units)
echo "headers: $done compiled alone"
[ $done -gt 0 ] || bad=1
exit $bad
