#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# README.md keeps its word: its code is compiled and run, its commands, tests and files exist.
#   readme.sh BUILD_DIR
set -euo pipefail
build=$(cd "$1" && pwd)
source=$(cd "$(dirname "$0")/.." && pwd)
work="$build/readme"
rm -rf "$work"
mkdir -p "$work"
cd "$source"
bad=0
wrong() { echo "readme: $*" >&2; bad=1; }

# block LANGUAGE WORDS: the code block of that language that has WORDS
block() {
  awk -v language="$1" -v words="$2" '
    /^```/ { if (inside) { if (wanted && index(text, words)) printf "%s", text; inside = 0 }
             else { inside = 1; text = ""; wanted = ($0 == "```" language) }
             next }
    inside { text = text $0 "\n" }' README.md
}

# The first program: the command is in its first line, what it prints in a comment.
block cpp 'hello.cpp' > "$work/hello.cpp"
command=$(sed -n '1s,^// \(g++.*-pthread\) .*,\1,p' "$work/hello.cpp")
wanted=$(sed -n 's,.*std::cout.*// \(.*\),\1,p' "$work/hello.cpp")
[ -n "$command" ] && [ -n "$wanted" ] || wrong "hello.cpp has no command or no output in its comments"
ln -s "$source/include" "$work/include"
(cd "$work" && echo "$command" && $command)
got=$("$work/a.out")
[ "$got" = "$wanted" ] || wrong "hello.cpp prints \"$got\"; \"$wanted\" is wanted"

# The function and the CMake lines, in a project with a main of ours.
mkdir "$work/app"
{
  block cpp 'std::string answer('
  cat << 'END'
#include <iostream>
int main(int argc, char** argv) {
  for (int i = 1; i + 1 < argc; i += 2) std::cout << answer(argv[i], argv[i + 1]) << '\n';
}
END
} > "$work/app/main.cpp"
{
  echo 'cmake_minimum_required(VERSION 3.22)'
  echo 'project(app CXX)'
  echo 'add_executable(app main.cpp)'
  block cmake 'find_package(mlmamba'
} > "$work/app/CMakeLists.txt"
cmake --install "$build" --prefix "$work/prefix" > /dev/null
cmake -S "$work/app" -B "$work/app/build" -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_BUILD_TYPE=Release > /dev/null
cmake --build "$work/app/build"
arguments=() truths=()
while IFS='|' read -r picture question truth; do
  case $picture in "" | "#"*) continue ;; esac
  arguments+=("examples/pictures/$picture" "$question") truths+=("$truth")
done < examples/pictures/questions.txt
mapfile -t answers < <("$work/app/build/app" "${arguments[@]}")
right=0
for i in "${!truths[@]}"; do [ "${answers[i]:-}" != "${truths[i]}" ] || right=$((right + 1)); done
echo "the program answers $right of ${#truths[@]} questions right"
[ ${#answers[@]} = ${#truths[@]} ] || wrong "${#answers[@]} answers to ${#truths[@]} questions"
[ $((2 * right)) -gt ${#truths[@]} ] || wrong "most answers are wrong: ${answers[*]}"

# The commands: each script knows --help, and says what the README says of it.
while read -r script _; do
  [ -x "$script" ] || { wrong "$script is not there, or can't be run"; continue; }
  [ -n "$("$script" --help)" ] || wrong "$script --help says nothing"
done < <(block sh demo.sh)

# Training, as in the text, but two small updates of it.
if [ -x "$build/examples/train" ] && [ -d /usr/share/datasets/fashion-mnist ]; then
  command=$(grep -o '`examples/train [^`]*`' README.md | head -1 | tr -d '`')
  [ -n "$command" ] || wrong "there is no command with examples/train"
  command=${command/examples\/train/$build/examples/train}
  command="${command/--out run/--out $work/run} --steps 2 --batch 2 --micro-batch 2 --test-scenes 2"
  echo "$command"
  $command > "$work/train.log" 2>&1 || { cat "$work/train.log" >&2; wrong "the training command fails"; }
  [ -f "$work/run/model/config.json" ] || wrong "the training command wrote no model"
fi

# Tests that are named, files that are linked or named, examples in reading order.
while read -r names; do
  ctest --test-dir "$build" -N -R "$names" | grep 'Test *#' > /dev/null || wrong "ctest -R '$names' finds no test"
done < <(grep -o "ctest -R '[^']*'" README.md | sed "s,ctest -R '\(.*\)',\1,; s,\\\\|,|,g")
while read -r file; do
  [ -e "$file" ] || wrong "$file is linked and not there"
done < <(grep -oE '\]\([^)#]+\)' README.md | sed 's,^](,,; s,)$,,' | grep -v '://')
while read -r file; do
  [ -e "$file" ] || [ -e "$file.cpp" ] || wrong "$file is named and not there"
done < <(grep -oE '`(examples|tests|include|benchmarks)/[A-Za-z0-9_./-]+' README.md | tr -d '`')
while read -r name; do
  [ -e "examples/$name.cpp" ] || wrong "examples/$name.cpp is in the reading order and not there"
done < <(sed -n '/^## Reading order/,/^## [^R]/p' README.md | grep -oE '`[a-z0-9_]+`' | tr -d '`')
for file in examples/*.cpp; do
  grep -q '^int main' "$file" || continue  # a part of programs
  grep -qF "\`$(basename "$file" .cpp)\`" README.md || wrong "$file is not in the reading order"
done
[ $bad = 0 ] && echo "readme: all of it is true"
exit $bad
