#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# Installs what is missing, builds, and asks the shipped model about three pictures: scenes of real
# product photographs that it never saw in training.
#   demo.sh                     install (apt, as root or with sudo), build in build-demo, ask
#   demo.sh --program FILE      ask with a program that is built already
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source=$(dirname "$here")
program=
case "${1:-}" in
  "") ;;
  --program)
    program=${2:-}
    [ $# = 2 ] && [ -x "$program" ] || { echo "demo.sh: --program \"$program\"; one program is wanted" >&2; exit 2; }
    ;;
  -h | --help) sed -n '5,8p' "$0" | cut -c3-; exit 0 ;;
  *) echo "demo.sh: \"$1\" is not an option; wanted is --program FILE or nothing" >&2; exit 2 ;;
esac
if [ -z "$program" ]; then
  . "$here/install.sh"
  install_missing g++ cmake ninja-build pkg-config libhwy-dev nlohmann-json3-dev libjpeg-dev libpng-dev \
    zlib1g-dev libutf8proc-dev libcli11-dev
  echo "Building (about a minute and a half on two cores)"
  mkdir -p "$source/build-demo"
  log="$source/build-demo/configure.log"
  cmake -S "$source" -B "$source/build-demo" -G Ninja -DMLMAMBA_BUILD_TESTS=OFF \
    -DMLMAMBA_NATIVE=ON > "$log" 2>&1 || { cat "$log" >&2; exit 1; }
  cmake --build "$source/build-demo" --target generate
  program="$source/build-demo/examples/generate"
fi

# picture, question, the true answer
while IFS='|' read -r picture question truth; do
  case "$picture" in "" | "#"*) continue ;; esac
  if [ "$picture" != "${last:-}" ]; then printf '\nexamples/pictures/%s\n' "$picture"; fi
  last=$picture
  answer=$("$program" --image "$here/pictures/$picture" --prompt "$question")
  printf '  %-58s %-14s (true: %s)\n' "$question" "$answer" "$truth"
done < "$here/pictures/questions.txt"
