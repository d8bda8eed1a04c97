// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The SIMD kernels by name: one struct of function pointers (`entries`) per op and element type.
#pragma once

#include "mlmamba/backend/cpu/simd/adamw.hpp"
#include "mlmamba/backend/cpu/simd/attention.hpp"
#include "mlmamba/backend/cpu/simd/causal_conv1d.hpp"
#include "mlmamba/backend/cpu/simd/cross_entropy.hpp"
#include "mlmamba/backend/cpu/simd/elementwise.hpp"
#include "mlmamba/backend/cpu/simd/gemm.hpp"
#include "mlmamba/backend/cpu/simd/grid.hpp"
#include "mlmamba/backend/cpu/simd/norm.hpp"
#include "mlmamba/backend/cpu/simd/packed_gemm.hpp"
#include "mlmamba/backend/cpu/simd/reduce.hpp"
#include "mlmamba/backend/cpu/simd/selective_scan.hpp"
#include "mlmamba/backend/cpu/simd/ssd.hpp"

namespace mlmamba::backend::simd {

/// Asks a target for its kernels. Each target has an overload per struct of entries,
///
///   template <class T> x_entries<T> kernels_for(wanted<x_entries<T>>);
///
/// so a program compiles the kernels of the ops that it runs, and no others (that is why it is a
/// template even for one type: what a function calls is instantiated, called or not). To add
/// kernels: write simd/x.hpp (the entries) and simd/x-inl.hpp (per-target code and kernels_for),
/// include the first above and the second in targets-inl.hpp, and name the entries in one of
/// kernels_*.cpp.
template <class Entries>
struct wanted {};

}  // namespace mlmamba::backend::simd
