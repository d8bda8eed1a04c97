// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fixtures on the CUDA engines.
#include "check_fixture/run.hpp"
#include "mlmamba/cuda.cuh"

namespace mlmamba::check_fixture {

results run_on_cuda_f32(fixture& f) { return run_on<cuda_f32>(f); }
results run_on_cuda_bf16(fixture& f) { return run_on<cuda_bf16>(f); }

}  // namespace mlmamba::check_fixture
