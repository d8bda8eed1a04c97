// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The SIMD kernels of scans, compiled once (see kernels.cpp).
#include "mlmamba/backend/cpu/simd/kernels_unit.hpp"

namespace mlmamba::backend::simd {

MLMAMBA_KERNELS_OF(scan_entries)
MLMAMBA_KERNELS_OF(scan_backward_entries)
MLMAMBA_KERNELS_OF(scan_step_entries)
MLMAMBA_KERNELS(scan_step_entries<float, bf16>)
MLMAMBA_KERNELS(scan_step_entries<bf16, bf16>)
MLMAMBA_KERNELS_OF(ssd_entries)
MLMAMBA_KERNELS_OF(ssd_backward_entries)
MLMAMBA_KERNELS_OF(ssd_step_entries)
MLMAMBA_KERNELS(ssd_step_entries<float, bf16>)
MLMAMBA_KERNELS(ssd_step_entries<bf16, bf16>)

}  // namespace mlmamba::backend::simd
