#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# The chat of the program generate: commands, pictures, CTRL-C. Answers are compared with those of
# the same program without a chat.
#   chat.sh PROGRAM
set -u
shopt -s lastpipe # what stands after a pipe is in this shell: what is wrong there counts
program=$1
here=$(cd "$(dirname "$0")" && pwd)
pictures=$here/../examples/pictures
one=$pictures/1.png two=$pictures/2.png
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0
wrong() { echo "chat: $*" >&2; bad=1; }

ask() { "$program" --image "$1" --prompt "$2" 2> /dev/null; }
first="Is there a bag?" second="What is at the top left?"
first_one=$(ask "$one" "$first") second_one=$(ask "$one" "$second") first_two=$(ask "$two" "$first")
[ -n "$first_one" ] && [ -n "$second_one" ] && [ -n "$first_two" ] || wrong "no answers to compare with"

# said NAME WANTED OPTION...: standard input gives these answers, and exit code 0
said() {
  local name=$1 wanted=$2
  shift 2
  timeout 60 "$program" "$@" > "$work/out" 2> "$work/err" || wrong "$name: exit $?"
  [ "$(cat "$work/out")" = "$wanted" ] ||
    wrong "$name: $(cat "$work/out"); wanted is $wanted; $(tail -3 "$work/err")"
}
told() { grep -qF -- "$2" "$work/err" || wrong "$1: \"$2\" is not said: $(cat "$work/err")"; }

printf 'q\n' | said "q" "" --image "$one"
told "q" "<INSERT PROMPT HERE>"
told "q" "Picture: $one"
printf 'Quit it\n' | said "Q of any case" "" --image "$one"
printf '' | said "no input" "" --image "$one"
printf '\n%s' "$first" | said "a line without end" "$first_one" --image "$one"
printf 'What is at the top left?\r\n' | said "the line that begins the chat" "$second_one" --image "$one"
printf '\n%s\n\nq\n%s\n' "$first" "$second" | said "an empty line, then q" "$first_one" --image "$one"
# A picture or a system prompt starts anew; q is a command at the outer prompt only.
printf 'p\nBe brief.\n\n%s\n' "$first" | said "p" "$first_one" --image "$one"
told "p" "no system prompt"
printf '\n%s\n\nprompt\n\n\n%s\n' "$first" "$second" |
  said "p starts anew" "$first_one"$'\n'"$second_one" --image "$one"
printf '\n%s\n\nI %s\n\n%s\n' "$second" "$two" "$first" |
  said "I FILE" "$second_one"$'\n'"$first_two" --image "$one"
told "I FILE" "Picture: $two"
printf 'image\n%s\n\n%s\n' "$two" "$first" | said "image" "$first_two" --image "$one"
printf 'IMAGE %s\n\n%s\n' "$two" "$first" | said "IMAGE FILE" "$first_two" --image "$one"
printf 'Is there?\n%s\n\n%s\n' "$two" "$first" | said "i is a command" "$first_two" --image "$one"
printf 'i %s\n\n%s\n' "$one" "$first" | said "a picture later" "$first_one"
printf 'i %s/none.png\n\n%s\n' "$work" "$first" | said "a file that is not there" "$first_one" --image "$one"
told "a file that is not there" "none.png"
printf 'i http://127.0.0.1:1/a.png\n\n%s\n' "$first" | said "an address" "$first_one" --image "$one"
told "an address" "http://127.0.0.1:1/a.png"
printf 'i\n\n\n%s\n' "$first" | said "no name" "$first_one" --image "$one"

# The original's names of options, with a value as it takes them.
hot() { "$program" --image "$one" --prompt "$first" --temperature 1000 --max_new_tokens 8 "$@" 2> /dev/null; }
[ "$(hot --do_sample False)" = "$first_one" ] || wrong "--do_sample False is not greedy"
for value in "" True true; do
  sampled=$(hot --seed 4 --do_sample $value) || wrong "--do_sample $value: exit $?"
  [ "$sampled" = "$(hot --seed 4)" ] || wrong "--do_sample $value: $sampled"
done
[ "$(hot --seed 4)" != "$first_one" ] || wrong "seed 4 draws the greedy answer: the tests above can't fail"

# CTRL-C: back to the outer prompt, and the conversation is as it was. Second answers may depend on
# first ones, so those of an undisturbed chat are what is wanted.
printf '\n%s\n%s\n' "$first" "$second" | timeout 60 "$program" --image "$one" > "$work/whole" 2> /dev/null
mkfifo "$work/in"
rm "$work/out" "$work/err" # or what others said counts until the program has opened them
set -m # a job of its own, in which SIGINT is not ignored
"$program" --image "$one" < "$work/in" > "$work/out" 2> "$work/err" &
job=$!
exec 3> "$work/in"
outer="(i)mage, (p)rompt, (q)uit, or anything else to chat: "
prompts() { grep -oF -- "$outer" "$work/err" 2> /dev/null | wc -l; }
# wait_for COMMAND...: until it is true, at most half a minute
wait_for() {
  local i
  for ((i = 0; i < 3000; ++i)); do
    "$@" && return
    sleep 0.01
  done
  wrong "waited in vain for $*: $(cat "$work/err")"
}
answers() { [ "$(cat "$work/out" 2> /dev/null | wc -l)" = "$1" ]; }
shown() { [ "$(prompts)" = "$1" ]; }
printf '\n%s\n' "$first" >&3
wait_for answers 1
kill -INT $job # at the inner prompt, or about to be there
wait_for shown 2
printf '\n%s\n' "$second" >&3
wait_for answers 2
cmp -s "$work/out" "$work/whole" || wrong "after CTRL-C: $(cat "$work/out"); wanted is $(cat "$work/whole")"
kill -INT $job
wait_for shown 3
kill -INT $job # at the outer prompt: the end
wait $job || wrong "CTRL-C at the outer prompt: exit $?"
exec 3>&-

# During an answer: one of random tokens, which is long. If it has ended already, CTRL-C comes to the
# inner prompt, and the same has to follow.
rm "$work/out" "$work/err"
"$program" --image "$one" --temperature 1000 --seed 4 --max-new-tokens 100000 \
  < "$work/in" > "$work/out" 2> "$work/err" &
job=$!
exec 3> "$work/in"
begun() { [ -s "$work/out" ]; } 2> /dev/null
printf '\n%s\n' "$first" >&3
wait_for begun
kill -INT $job
wait_for shown 2
printf 'q\n' >&3
wait $job || wrong "CTRL-C during an answer: exit $?"
exec 3>&-
exit $bad
