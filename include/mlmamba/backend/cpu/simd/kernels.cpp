// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The SIMD kernels of all targets, compiled once (see MLMAMBA_CPU_COMPILED in dispatch.hpp).
#define MLMAMBA_CPU_KERNELS_UNIT
#if !defined(MLMAMBA_ALL_TARGETS)
#define MLMAMBA_ALL_TARGETS
#endif
#include "mlmamba/backend/cpu/simd/dispatch.hpp"

namespace mlmamba::backend::simd {

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

MLMAMBA_KERNELS_OF(adamw_entries)
MLMAMBA_KERNELS_OF(argmax_entries)
MLMAMBA_KERNELS_OF(attention_entries)
MLMAMBA_KERNELS_OF(attention_backward_entries)
MLMAMBA_KERNELS_OF(conv_entries)
MLMAMBA_KERNELS_OF(conv_backward_entries)
MLMAMBA_KERNELS_OF(cross_entropy_entries)
MLMAMBA_KERNELS_OF(elementwise_entries)
MLMAMBA_KERNELS_OF(elementwise_backward_entries)
MLMAMBA_KERNELS_OF(gated_norm_entries)
MLMAMBA_KERNELS_OF(gated_norm_backward_entries)
MLMAMBA_KERNELS_OF(gemm_results_of)
MLMAMBA_KERNELS_OF(grid_entries)
MLMAMBA_KERNELS_OF(grid_backward_entries)
MLMAMBA_KERNELS_OF(scan_entries)
MLMAMBA_KERNELS_OF(scan_backward_entries)
MLMAMBA_KERNELS_OF(scan_step_entries)
MLMAMBA_KERNELS_OF(ssd_entries)
MLMAMBA_KERNELS_OF(ssd_backward_entries)
MLMAMBA_KERNELS_OF(ssd_step_entries)
MLMAMBA_KERNELS_OF(sum_rows_entries)
MLMAMBA_KERNELS_OF_SUMS(accum_entries)
MLMAMBA_KERNELS_OF_SUMS(add_rows_entries)
MLMAMBA_KERNELS_OF_SUMS(sum_squares_entries)
MLMAMBA_KERNELS(quantised_entries)
MLMAMBA_KERNELS(rounding_entries<float>)
MLMAMBA_KERNELS(rounding_entries<bf16>)
MLMAMBA_KERNELS_OF_PAIRS(gemm_path_of)
MLMAMBA_KERNELS(gemm_path_of<float, bf16>)
MLMAMBA_KERNELS_OF_PAIRS(norm_entries)
MLMAMBA_KERNELS_OF_PAIRS(norm_backward_entries)

}  // namespace mlmamba::backend::simd
