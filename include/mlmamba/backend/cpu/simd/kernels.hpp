// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The table of SIMD kernels: one struct of function pointers per family of ops.
#pragma once

#include "mlmamba/backend/cpu/simd/adamw.hpp"
#include "mlmamba/backend/cpu/simd/attention.hpp"
#include "mlmamba/backend/cpu/simd/causal_conv1d.hpp"
#include "mlmamba/backend/cpu/simd/cross_entropy.hpp"
#include "mlmamba/backend/cpu/simd/elementwise.hpp"
#include "mlmamba/backend/cpu/simd/gemm.hpp"
#include "mlmamba/backend/cpu/simd/grid.hpp"
#include "mlmamba/backend/cpu/simd/norm.hpp"
#include "mlmamba/backend/cpu/simd/reduce.hpp"
#include "mlmamba/backend/cpu/simd/selective_scan.hpp"
#include "mlmamba/backend/cpu/simd/ssd.hpp"

namespace mlmamba::backend::simd {

/// What a processor can do, as far as the kernels differ. `avx512_bf16` is `avx512` with native dot
/// products of bf16 and int8 (Zen 4, Sapphire Rapids).
enum class cpu_level : int { baseline, sse4, avx2, avx512, avx512_bf16 };

inline const char* to_string(cpu_level l) {
  constexpr const char* names[] = {"baseline", "sse4", "avx2", "avx512", "avx512_bf16"};
  return names[int(l)];
}

// To add a family x: write simd/x.hpp (struct x_kernels) and simd/x-inl.hpp (per-target code with
// inline x_kernels make_x_kernels()), then add an include above, a line here, and an include in
// targets-inl.hpp.
#define MLMAMBA_SIMD_FAMILIES(family)                                                             \
  family(adamw) family(attention) family(causal_conv1d) family(cross_entropy) family(elementwise) \
      family(gemm) family(grid) family(norm) family(reduce) family(selective_scan) family(ssd)

struct kernels {
  cpu_level level = cpu_level::baseline;
#define MLMAMBA_SIMD_MEMBER(family) family##_kernels family;
  MLMAMBA_SIMD_FAMILIES(MLMAMBA_SIMD_MEMBER)
#undef MLMAMBA_SIMD_MEMBER
};

}  // namespace mlmamba::backend::simd
