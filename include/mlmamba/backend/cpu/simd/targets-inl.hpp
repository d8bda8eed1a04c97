// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// All per-target code, in order; dispatch.hpp compiles this file once per target, so no include
// guards here, nor in the -inl.hpp files.
#include <hwy/highway.h>

#include "mlmamba/backend/cpu/simd/common-inl.hpp"
#include "mlmamba/backend/cpu/simd/row-inl.hpp"
//
#include "mlmamba/backend/cpu/simd/adamw-inl.hpp"
#include "mlmamba/backend/cpu/simd/elementwise-inl.hpp"
#include "mlmamba/backend/cpu/simd/gemm-inl.hpp"
#include "mlmamba/backend/cpu/simd/grid-inl.hpp"
#include "mlmamba/backend/cpu/simd/norm-inl.hpp"
#include "mlmamba/backend/cpu/simd/reduce-inl.hpp"
#include "mlmamba/backend/cpu/simd/tile-inl.hpp"
#include "mlmamba/backend/cpu/simd/attention-inl.hpp"
#include "mlmamba/backend/cpu/simd/cross_entropy-inl.hpp"
//
#include "mlmamba/backend/cpu/simd/causal_conv1d-inl.hpp"
#include "mlmamba/backend/cpu/simd/selective_scan-inl.hpp"
#include "mlmamba/backend/cpu/simd/ssd-inl.hpp"
#include "mlmamba/backend/cpu/simd/ssd_backward-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {

inline kernels make_kernels() {
  kernels k;
#if HWY_TARGET == HWY_SCALAR
  k.level = cpu_level::baseline;
#elif HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
  k.level = cpu_level::avx512;
#elif HWY_ARCH_X86 && HWY_TARGET == HWY_AVX2
  k.level = cpu_level::avx2;
#elif HWY_ARCH_X86 && HWY_TARGET == HWY_SSE4
  k.level = cpu_level::sse4;
#endif
#define MLMAMBA_SIMD_MAKE(family) k.family = make_##family##_kernels();
  MLMAMBA_SIMD_FAMILIES(MLMAMBA_SIMD_MAKE)
#undef MLMAMBA_SIMD_MAKE
  return k;
}

#if MLMAMBA_SIMD_ZEN4
namespace zen4 {
inline kernels make_kernels() {
  kernels k = HWY_NAMESPACE::make_kernels();
  k.level = cpu_level::avx512_bf16;
  k.gemm = zen4::make_gemm_kernels();
  return k;
}
}  // namespace zen4
#endif

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();
