// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The SIMD kernels of all targets, compiled once (see MLMAMBA_CPU_COMPILED in dispatch.hpp). A
// build that can compile several units side by side takes the three instead of this one.
#include "mlmamba/backend/cpu/simd/kernels_norm.cpp"
#include "mlmamba/backend/cpu/simd/kernels_product.cpp"
#include "mlmamba/backend/cpu/simd/kernels_scan.cpp"
