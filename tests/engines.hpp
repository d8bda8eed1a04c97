// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The engines that typed tests run on: the CUDA ones exactly when a CUDA compiler reads this. One
// engine alone compiles sooner: -DMLMAMBA_TEST_ENGINES=mlmamba::cuda_f16
#pragma once

#include <doctest/doctest.h>

#if defined(__CUDACC__)
#include "mlmamba/cuda.cuh"
#endif
#if defined(MLMAMBA_TEST_ENGINES)
#elif defined(__CUDACC__)
#define MLMAMBA_TEST_ENGINES mlmamba::cuda_f32, mlmamba::cuda_bf16, mlmamba::cuda_f16
#else
#define MLMAMBA_TEST_ENGINES \
  mlmamba::cpu_f32, mlmamba::cpu_bf16, mlmamba::cpu_f64, mlmamba::reference_f32
#endif
