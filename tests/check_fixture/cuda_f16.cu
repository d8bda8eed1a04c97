// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fixtures on the engine cuda_f16.
#include "check_fixture/run.hpp"
#include "mlmamba/cuda.cuh"

namespace mlmamba::check_fixture {

results run_on_cuda_f16(fixture& f) { return run_on<cuda_f16>(f); }

}  // namespace mlmamba::check_fixture
