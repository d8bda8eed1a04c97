#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Copyright the mlmamba authors
#
# Installs what is missing (apt, as root or with sudo), builds in build, and runs the tests.
#   tests/run.sh          all tests but those that compile the library many times over; compiles the
#                         CUDA code where there is an nvcc
#   tests/run.sh --all    these too, formatting, clang, and a build with sanitizers
set -euo pipefail
cd "$(dirname "$0")/.."

all=0
for argument in "$@"; do
  case "$argument" in
    --all) all=1 ;;
    -h | --help) sed -n '5,8p' "$0" | cut -c3-; exit 0 ;;
    *) echo "tests/run.sh: \"$argument\" is not an option; wanted is --all or nothing" >&2; exit 2 ;;
  esac
done

. examples/install.sh
need="g++ cmake ninja-build pkg-config libhwy-dev doctest-dev nlohmann-json3-dev libjpeg-dev libpng-dev
      zlib1g-dev libutf8proc-dev libcli11-dev libcurl4-openssl-dev libgif-dev git dataset-fashion-mnist"
if [ "$all" = 1 ]; then need="$need clang-14 clang-format-14 libclang-rt-14-dev"; fi
# shellcheck disable=SC2086
install_missing $need

step() { printf '\n== %s (%s s)\n' "$*" "$SECONDS"; }
jobs=$(nproc)

step "build"
mkdir -p build
cmake -S . -B build -G Ninja > build/configure.log 2>&1 || { cat build/configure.log >&2; exit 1; }
cmake --build build -j "$jobs"

step "tests"
# what compiles the library again and again: --all only
leave_out=()
[ "$all" = 1 ] || leave_out=(-E '^(readme|package/(find_package|add_subdirectory))')
ctest --test-dir build --output-on-failure -j "$jobs" "${leave_out[@]}"

if command -v nvcc > /dev/null; then
  step "CUDA compilation (sm_80, sm_90a)"
  # Nothing of it runs here (tests/cuda.sh does that), so that nvcc may leave out what makes it fast, which
  # takes two thirds of the time; what it says of speed is then of no interest.
  fast=""
  if nvcc --help | grep Ofast-compile > /dev/null; then fast="-O0 -Ofc max"; fi
  cmake -S . -B build-cuda-check -G Ninja -DMLMAMBA_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES="80;90a" \
    -DMLMAMBA_TRAIN_ONE=ON -DCMAKE_CUDA_FLAGS_RELEASE="$fast -DNDEBUG" > /dev/null
  # check_fixture/cuda.cu has every op, forward and backward, in f32 and bf16
  objects=tests/CMakeFiles/check_fixture_cuda.dir/check_fixture/cuda.cu.o
  objects="$objects tests/CMakeFiles/backend_cuda_cuda_test.dir/backend/cuda_test.cu.o"
  objects="$objects tests/CMakeFiles/backend_cuda_products_cuda_test.dir/backend/cuda_products_test.cu.o"
  objects="$objects tests/CMakeFiles/backend_cuda_steps_cuda_test.dir/backend/cuda_steps_test.cu.o"
  objects="$objects examples/CMakeFiles/train_cuda.dir/train_cuda.cu.o"
  # shellcheck disable=SC2086
  cmake --build build-cuda-check -j "$jobs" --target $objects 2>&1 | sed '/^ptxas info .*(C75/d'
else
  step "CUDA compilation: skipped, there is no nvcc"
fi

if [ "$all" = 1 ]; then
  step "formatting"
  git ls-files '*.hpp' '*.cpp' '*.cuh' '*.cu' | xargs clang-format-14 --dry-run -Werror

  step "clang: all headers, and a program without CMake"
  for header in mlmamba io/checkpoint text/generate train/trainer verify/gradcheck; do
    echo "#include \"mlmamba/$header.hpp\"" | clang++-14 -std=c++20 -fsyntax-only -Wall -Wextra -Iinclude -x c++ -
  done
  tests/package/run.sh bare clang++-14 build

  step "sanitizers: memory, threads, kernels, files, text"
  cmake -S . -B build-sanitize -G Ninja -DMLMAMBA_SANITIZE=ON -DMLMAMBA_BUILD_EXAMPLES=OFF > /dev/null
  cmake --build build-sanitize -j "$jobs" --target mlmamba_sanitized_tests
  ctest --test-dir build-sanitize --output-on-failure -j "$jobs" -L sanitized

fi
step "done"
