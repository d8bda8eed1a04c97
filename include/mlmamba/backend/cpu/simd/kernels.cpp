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

const kernels& cpu_kernels() {
  return *detail::current_kernels<detail::flags_of_this_file>().load(std::memory_order_acquire);
}

void limit_cpu_level(cpu_level most) {
  detail::current_kernels<detail::flags_of_this_file>().store(
      &detail::select_kernels<detail::flags_of_this_file>(most), std::memory_order_release);
}

}  // namespace mlmamba::backend::simd
