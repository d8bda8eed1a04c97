#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# The ways into a user's project.   run.sh WAY COMPILER BUILD_DIR [HIGHWAY_INCLUDE]
set -euo pipefail
way=$1 compiler=$2 build=$3 highway=${4:-/usr/include}
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
work="$build/package_$way"
rm -rf "$work"
mkdir -p "$work"
flags=(-std=c++20 -I "$source/include")
[ "$highway" = /usr/include ] || flags+=(-isystem "$highway")
case $way in
  find_package)
    cmake --install "$build" --prefix "$work/prefix" > /dev/null
    options=(-DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_BUILD_TYPE=Release)
    # where Highway's headers are not found, what is wanted is said
    if said=$(cmake -S "$here/find_package" -B "$work/none" "${options[@]}" \
      -DCMAKE_IGNORE_PATH="$highway" 2>&1) ||
      ! grep -q "Wanted is the package libhwy-dev" <<< "$said"; then
      echo "package: without hwy/highway.h, CMake says: $said"
      exit 1
    fi
    cmake -S "$here/find_package" -B "$work/b" "${options[@]}" -DMLMAMBA_HIGHWAY_INCLUDE_DIR="$highway" > /dev/null
    cmake --build "$work/b"
    "$work/b/app" && "$work/b/app_compiled"
    ;;
  add_subdirectory)
    cmake -S "$here/add_subdirectory" -B "$work/b" -DMLMAMBA_SOURCE="$source" \
      -DMLMAMBA_HIGHWAY_INCLUDE_DIR="$highway" -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_BUILD_TYPE=Release > /dev/null
    cmake --build "$work/b" --target app
    "$work/b/app"
    ;;
  two_units)
    "$compiler" "${flags[@]}" -O2 -Wall -Wextra -Wpedantic -Werror -c "$here/two_units/plain.cpp" -o "$work/plain.o"
    "$compiler" "${flags[@]}" -O3 -march=native -c "$here/two_units/native.cpp" -o "$work/native.o"
    "$compiler" "$work/plain.o" "$work/native.o" -pthread -o "$work/app"
    "$work/app"
    "$compiler" "$work/native.o" "$work/plain.o" -pthread -o "$work/app2"
    "$work/app2"
    ;;
  bare) # one command, no CMake, nothing linked but threads
    "$compiler" "${flags[@]}" -O2 "$here/find_package/main.cpp" -pthread -o "$work/app"
    "$work/app"
    if ldd "$work/app" | grep -E 'hwy|jpeg|png'; then
      echo "package: a bare include must link nothing"
      exit 1
    fi
    ;;
  every_op) # no warnings in a user's program, who has asked for more of them than we have
    "$compiler" "${flags[@]}" -fsyntax-only -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror "$here/every_op.cpp"
    ;;
  *) echo "package: \"$way\" is not a way; wanted is find_package, add_subdirectory, two_units, bare or every_op" >&2; exit 2 ;;
esac
echo "package: $way works"
