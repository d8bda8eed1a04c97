// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What the units kernels_*.cpp begin with: the kernels of all targets, and how they are named.
#pragma once

#define MLMAMBA_CPU_KERNELS_UNIT
#if !defined(MLMAMBA_ALL_TARGETS)
#define MLMAMBA_ALL_TARGETS
#endif
#include "mlmamba/backend/cpu/simd/dispatch.hpp"

#define MLMAMBA_KERNELS(...) template const __VA_ARGS__& cpu_kernels<__VA_ARGS__>();
#define MLMAMBA_KERNELS_OF(entries) \
  MLMAMBA_KERNELS(entries<float>)   \
  MLMAMBA_KERNELS(entries<bf16>)    \
  MLMAMBA_KERNELS(entries<double>)
#define MLMAMBA_KERNELS_OF_SUMS(entries) \
  MLMAMBA_KERNELS(entries<float>)        \
  MLMAMBA_KERNELS(entries<double>)
#define MLMAMBA_KERNELS_OF_PAIRS(entries) \
  MLMAMBA_KERNELS(entries<float, float>)  \
  MLMAMBA_KERNELS(entries<bf16, bf16>)    \
  MLMAMBA_KERNELS(entries<bf16, float>)   \
  MLMAMBA_KERNELS(entries<double, double>)
