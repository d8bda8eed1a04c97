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
#include "mlmamba/backend/cpu/simd/packed_gemm-inl.hpp"
#include "mlmamba/backend/cpu/simd/grid-inl.hpp"
#include "mlmamba/backend/cpu/simd/norm-inl.hpp"
#include "mlmamba/backend/cpu/simd/reduce-inl.hpp"
#include "mlmamba/backend/cpu/simd/tile-inl.hpp"
#include "mlmamba/backend/cpu/simd/amx_pairs-inl.hpp"
#include "mlmamba/backend/cpu/simd/attention-inl.hpp"
#include "mlmamba/backend/cpu/simd/attention_amx-inl.hpp"
#include "mlmamba/backend/cpu/simd/cross_entropy-inl.hpp"
//
#include "mlmamba/backend/cpu/simd/causal_conv1d-inl.hpp"
#include "mlmamba/backend/cpu/simd/selective_scan-inl.hpp"
#include "mlmamba/backend/cpu/simd/selective_scan_backward-inl.hpp"
#include "mlmamba/backend/cpu/simd/ssd-inl.hpp"
#include "mlmamba/backend/cpu/simd/ssd_backward-inl.hpp"
#include "mlmamba/backend/cpu/simd/ssd_amx-inl.hpp"

#if MLMAMBA_SIMD_ZEN4
HWY_BEFORE_NAMESPACE();
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {
// What a level has no kernels of its own for is as in the level below.
namespace vnni {
template <class Entries>
Entries kernels_for(wanted<Entries> w) {
  return HWY_NAMESPACE::kernels_for(w);
}
}  // namespace vnni
namespace zen4 {
template <class Entries>
Entries kernels_for(wanted<Entries> w) {
  return vnni::kernels_for(w);
}
}  // namespace zen4
#if MLMAMBA_SIMD_AMX
namespace amx {
template <class Entries>
Entries kernels_for(wanted<Entries> w) {
  return zen4::kernels_for(w);
}
}  // namespace amx
#endif
}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();
#endif
