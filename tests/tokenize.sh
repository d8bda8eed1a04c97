#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# The program tokenize: ids on one line, the same bytes back, clear errors.
#   tokenize.sh PROGRAM
set -u
program=$1
here=$(cd "$(dirname "$0")" && pwd)
words=$here/../examples/garment_model
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0
wrong() { echo "tokenize: $*" >&2; bad=1; }

back() {  # back NAME WANTED: standard input there and back again is the file WANTED
  "$program" --tokenizer "$words" > "$work/ids" || wrong "$1: exit $?"
  [ "$(wc -l < "$work/ids")" = 1 ] || wrong "$1: not one line"
  grep -qE '^[0-9]+( [0-9]+)*$|^$' "$work/ids" || wrong "$1: not ids: $(head -c 80 "$work/ids")"
  "$program" --tokenizer "$words" --decode < "$work/ids" > "$work/text" || wrong "$1: --decode exit $?"
  cmp -s "$work/text" "$2" || wrong "$1: came back as $(head -c 80 "$work/text" | od -c | head -3)"
}
printf 'Hello  world\n\n\tis 12.5 %% \xc3\xa9 \xe6\xbc\xa2 \xf0\x9f\x98\x80 <|endoftext|> done' > "$work/a"
back "mixed text" "$work/a" < "$work/a"
: > "$work/empty"
back "no text" "$work/empty" < "$work/empty"
printf 'no newline is added' > "$work/b"
back "no newline" "$work/b" < "$work/b"
printf 'zero \0 byte' > "$work/c"
back "a zero byte" "$work/c" < "$work/c"
printf 'bad \xff\xfe byte' > "$work/d"
printf 'bad \xef\xbf\xbd\xef\xbf\xbd byte' > "$work/e"
back "not UTF-8" "$work/e" < "$work/d"

refused() {  # refused WORD INPUT OPTION...: exit 2, one line that has WORD, nothing printed
  local word=$1 input=$2
  shift 2
  printf '%s' "$input" | "$program" "$@" > "$work/out" 2> "$work/err"
  local status=$?
  [ $status = 2 ] || wrong "$*: exit $status, wanted is 2"
  grep -qF -- "$word" "$work/err" || wrong "$*: \"$(cat "$work/err")\" does not say \"$word\""
  [ ! -s "$work/out" ] || wrong "$*: something was printed"
}
refused "no-such" x --tokenizer "$work/no-such.json"
refused "--tokenizer" x
refused "999999" "1 999999" --tokenizer "$words" --decode
refused "-1" "-1" --tokenizer "$words" --decode
refused "1x" "1 1x" --tokenizer "$words" --decode
refused "99999999999" "99999999999" --tokenizer "$words" --decode
"$program" --help | grep -q -- --decode || wrong "--help"

# The published one, where it is: the ids that everybody has.
neox=$here/../../shared/data/gpt-neox-20b/tokenizer.json
if [ -e "$neox" ]; then
  ids=$(printf '<|user|>\nProvide a detailed description of this image<|endoftext|>\n<|assistant|>\n' |
    "$program" --tokenizer "$neox")
  want="29 93 4537 49651 187 11509 504 247 7000 5740 273 436 2460 0 187 29 93 515 5567 49651 187"
  [ "$ids" = "$want" ] || wrong "GPT-NeoX: $ids"
else
  echo "skipped: GPT-NeoX's tokenizer.json is not there"
fi
exit $bad
