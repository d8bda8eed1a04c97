#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# Snippets that must not compile, and the words that the compiler must say.
#   run.sh COMPILER FLAGS...
# A snippet's lines "// must say: WORDS" are looked for in the output. With -DCONTROL each snippet
# must compile: so it fails for the reason that it is about.
set -u
compiler=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
bad=0 n=0
for snippet in "$here"/*.cpp; do
  n=$((n + 1))
  if ! output=$("$compiler" -std=c++20 -fsyntax-only -DCONTROL -I "$here/../../include" "$@" "$snippet" 2>&1); then
    printf '%s: the control does not compile:\n%s\n' "$(basename "$snippet")" "$(head -5 <<< "$output")"
    bad=1
  fi
  if output=$("$compiler" -std=c++20 -fsyntax-only -I "$here/../../include" "$@" "$snippet" 2>&1); then
    echo "$(basename "$snippet"): compiles, and must not"
    bad=1
    continue
  fi
  while read -r words; do
    if ! grep -qF -- "$words" <<< "$output"; then
      printf '%s: the compiler does not say "%s" but\n%s\n' "$(basename "$snippet")" "$words" "$(head -8 <<< "$output")"
      bad=1
    fi
  done < <(sed -n 's,^// must say: ,,p' "$snippet")
done
echo "must_not_compile: $n snippets"
[ $n -gt 0 ] || bad=1
exit $bad
