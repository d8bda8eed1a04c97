#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# The scan lab on tiny shapes: every algorithm is right, the report draws ours and foreign results.
#   scan_lab.sh PROGRAM
set -euo pipefail
lab=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
bad() { echo "scan_lab: $*" >&2; exit 1; }

"$lab" --shape 1,53,2,8,16 --scan_shape 1,40,24,4 --threads 1 --threads 2 --rounds 1 --seconds 0 \
  --out ours.json > screen 2> /dev/null || bad "the lab fails"
algorithms=$("$lab" list | wc -l)
[ "$algorithms" -ge 16 ] || bad "only $algorithms algorithms are there"
# The dtypes of each (one of a user's may have one), two numbers of threads, warm and cold.
dtypes=$("$lab" list | grep -oE ' (f32|bf16)' | wc -l)
[ "$(wc -l < screen)" -eq $((dtypes * 4)) ] || bad "$algorithms algorithms and $(wc -l < screen) rows"
# No algorithm is wrong: the error of float is rounding, that of bf16 is its storage.
awk '{ dtype = ($0 ~ / bf16 /) ? "bf16" : "f32"; match($0, /error [^ ]+/)
       e = substr($0, RSTART + 6, RLENGTH - 6)
       if (!(e ~ /^[0-9]/) || e + 0 > (dtype == "f32" ? 1e-5 : 2e-2)) { print; wrong = 1 } }
     END { exit wrong }' screen >&2 || bad "these rows are wrong"

cat > theirs.json <<'JSON'
{"results": [{"kind": "ssd", "name": "other library", "shape": "B1 L53 H2 P8 N16 G1",
              "seconds": 1e-4, "error": 1e-6}]}
JSON
"$lab" report ours.json theirs.json --out page.html > screen || bad "the report fails"
for words in '<!doctype html>' '<svg ' 'Roofline' 'Speed over threads' 'other library (theirs)' 'two-pass'; do
  grep -qF "$words" page.html || bad "page.html lacks \"$words\""
done
grep -qE 'src=|href=|<script' page.html && bad "page.html is not self-contained"

wrong() { # wrong WORDS ARGUMENT...: exit code 2, and one line with these words
  local words=$1 rc=0
  shift
  timeout 60 "$lab" "$@" > screen 2> line || rc=$?
  [ $rc = 2 ] && [ "$(wc -l < line)" = 1 ] && grep -qF -- "$words" line || bad "$* gives $rc: $(cat line)"
}
wrong 'wanted are 5 or 6' --shape 1,2
wrong 'is not an option' --speed 1
# Before anything is measured, and without harm to what is there.
wrong "no-such/x.json: can't create it" --out no-such/x.json
wrong 'it is a folder' --out .
echo kept > kept.json
wrong 'no algorithm matches' --only nothing-like-it --out kept.json
[ "$(cat kept.json)" = kept ] || bad "kept.json is $(cat kept.json)"
[ -z "$(find . -name '*.tmp*')" ] || bad "files are left over: $(ls)"
wrong '--out wants a value' --out ''
wrong '--threads wants a value' --threads ''
wrong '--seconds wants a value' --seconds ''
wrong 'inf is no time' --seconds inf
wrong 'list extra: nothing after list is wanted' list extra
wrong '--threads has no effect on report' report ours.json --threads 2
echo '{"results": [{"name": "x", "shape": "y"}]}' > no_time.json
echo '{"results": [{"name": "x", "shape": "y", "seconds": 0}]}' > zero.json
wrong 'there is no "seconds"' report no_time.json
wrong 'not above 0' report zero.json
wrong 'missing.json' report missing.json
echo "scan_lab: $algorithms algorithms are right and drawn"
