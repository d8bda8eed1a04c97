// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The SIMD kernels of products, attention, and what goes element by element, compiled once (see
// kernels.cpp).
#include "mlmamba/backend/cpu/simd/kernels_unit.hpp"

namespace mlmamba::backend::simd {

MLMAMBA_KERNELS_OF(adamw_entries)
MLMAMBA_KERNELS_OF(argmax_entries)
MLMAMBA_KERNELS_OF(attention_entries)
MLMAMBA_KERNELS_OF(attention_backward_entries)
MLMAMBA_KERNELS_OF(cross_entropy_entries)
MLMAMBA_KERNELS_OF(elementwise_entries)
MLMAMBA_KERNELS_OF(elementwise_backward_entries)
MLMAMBA_KERNELS_OF(gemm_results_of)
MLMAMBA_KERNELS_OF(grid_entries)
MLMAMBA_KERNELS_OF(grid_backward_entries)
MLMAMBA_KERNELS_OF(sum_rows_entries)
MLMAMBA_KERNELS_OF_SUMS(accum_entries)
MLMAMBA_KERNELS_OF_SUMS(add_rows_entries)
MLMAMBA_KERNELS_OF_SUMS(sum_squares_entries)
MLMAMBA_KERNELS(quantised_entries)
MLMAMBA_KERNELS(rounding_entries<float>)
MLMAMBA_KERNELS(rounding_entries<bf16>)
MLMAMBA_KERNELS_OF_PAIRS(gemm_path_of)
MLMAMBA_KERNELS(gemm_path_of<float, bf16>)

}  // namespace mlmamba::backend::simd
