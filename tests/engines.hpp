// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The engines that typed tests run on: the CUDA ones exactly when a CUDA compiler reads this, f16
// where the build is asked for it (CMake: MLMAMBA_TEST_F16), since each takes long to compile. One
// alone, by hand: -DMLMAMBA_TEST_ENGINES=mlmamba::cuda_f16
#pragma once

#include <doctest/doctest.h>

#include "mlmamba/core/engine.hpp"

#if defined(__CUDACC__)
#include "mlmamba/cuda.cuh"
#endif
namespace mlmamba {
/// Scans that store states in bf16, with values of type V.
#if defined(__CUDACC__)
template <class V>
using states_in_bf16 = on<backend::cuda, V, float, V, bf16>;
#else
template <class V>
using states_in_bf16 = on<backend::cpu, V, float, V, bf16>;
#endif
}  // namespace mlmamba
#if defined(MLMAMBA_TEST_ENGINES)
#elif defined(__CUDACC__) && defined(MLMAMBA_TEST_F16)
#define MLMAMBA_TEST_ENGINES mlmamba::cuda_f32, mlmamba::cuda_bf16, mlmamba::cuda_f16
#elif defined(__CUDACC__)
#define MLMAMBA_TEST_ENGINES mlmamba::cuda_f32, mlmamba::cuda_bf16
#else
#define MLMAMBA_TEST_ENGINES \
  mlmamba::cpu_f32, mlmamba::cpu_bf16, mlmamba::cpu_f64, mlmamba::reference_f32
#endif
