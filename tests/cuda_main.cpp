// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The main of CUDA tests: without a usable GPU they say so and are skipped (exit code 77).
#define DOCTEST_CONFIG_IMPLEMENT
#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <cstdio>

int main(int argc, char** argv) {
  int count = 0;
  const cudaError_t e = cudaGetDeviceCount(&count);
  if (e != cudaSuccess || count == 0) {
    std::printf("skipped: no usable GPU (%s)\n",
                e == cudaSuccess ? "there is none" : cudaGetErrorString(e));
    return 77;
  }
  return doctest::Context(argc, argv).run();
}
