// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The engines that typed tests run on: the CUDA ones exactly when a CUDA compiler reads this.
#pragma once

#include <doctest/doctest.h>

#if defined(__CUDACC__)
#include "mlmamba/cuda.cuh"
#define MLMAMBA_TEST_ENGINES mlmamba::cuda_f32, mlmamba::cuda_bf16
#else
#define MLMAMBA_TEST_ENGINES \
  mlmamba::cpu_f32, mlmamba::cpu_bf16, mlmamba::cpu_f64, mlmamba::reference_f32
#endif
