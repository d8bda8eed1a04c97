// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The SIMD kernels of norms and convolutions, compiled once (see kernels.cpp).
#include "mlmamba/backend/cpu/simd/kernels_unit.hpp"

namespace mlmamba::backend::simd {

MLMAMBA_KERNELS_OF(conv_entries)
MLMAMBA_KERNELS_OF(conv_backward_entries)
MLMAMBA_KERNELS_OF(gated_norm_entries)
MLMAMBA_KERNELS_OF(gated_norm_backward_entries)
MLMAMBA_KERNELS_OF_PAIRS(norm_entries)
MLMAMBA_KERNELS_OF_PAIRS(norm_backward_entries)

}  // namespace mlmamba::backend::simd
