#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# Headers that are not installed are fetched; where they can't be, one line says what is wanted.
#   fetch.sh BUILD_DIR
set -euo pipefail
command -v git > /dev/null || { echo "package: skipped, there is no git"; exit 77; }
source=$(cd "$(dirname "$0")/../.." && pwd)
work="$1/package_fetch"
rm -rf "$work"
mkdir -p "$work"

# configure FOLDER ARGUMENTS...: as if nothing were installed, with git reading from this disk
configure() {
  local to=$1
  shift
  GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.file://$work/repositories/.insteadOf" \
    GIT_CONFIG_VALUE_0=https://github.com/ cmake -S "$source" -B "$work/$to" \
    -DCMAKE_SYSTEM_IGNORE_PATH="/usr/include;/usr/local/include" "$@" > "$work/$to.log" 2>&1
}
if configure alone; then
  echo "package: headers that are nowhere were found" >&2
  exit 1
fi
tr -s '\n ' ' ' < "$work/alone.log" | grep -F "hwy/highway.h is not installed, and https://github.com/google/highway can't be" > /dev/null
tr -s '\n ' ' ' < "$work/alone.log" | grep -F "Wanted is the package libhwy-dev, or -DMLMAMBA_HIGHWAY_INCLUDE_DIR=FOLDER" > /dev/null

# repository NAME TAG HEADER: a stand-in with the header where the published one has it
repository() {
  local at="$work/repositories/$1"
  mkdir -p "$(dirname "$at/$3")"
  echo '// a header' > "$at/$3"
  git -C "$at" -c init.defaultBranch=main init -q
  git -C "$at" add .
  git -C "$at" -c user.name=test -c user.email=test@localhost commit -qm header
  git -C "$at" tag "$2"
}
repository google/highway 1.0.3 hwy/highway.h
repository nlohmann/json v3.11.2 include/nlohmann/json.hpp
repository doctest/doctest v2.4.9 doctest/doctest.h
configure fetched -DMLMAMBA_BUILD_EXAMPLES=ON -DMLMAMBA_BUILD_TESTS=ON || { cat "$work/fetched.log" >&2; exit 1; }
for found in HIGHWAY:hwy/highway.h JSON:nlohmann/json.hpp DOCTEST:doctest/doctest.h; do
  folder=$(sed -n "s/^MLMAMBA_${found%%:*}_INCLUDE_DIR:PATH=//p" "$work/fetched/CMakeCache.txt")
  case $folder in "$work"*) ;; *) echo "package: ${found#*:} is from \"$folder\", not fetched" >&2; exit 1 ;; esac
  [ -f "$folder/${found#*:}" ] || { echo "package: $folder has no ${found#*:}" >&2; exit 1; }
done
echo "package: what is missing is fetched, or named"
