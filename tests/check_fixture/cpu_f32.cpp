// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fixtures on the engine cpu_f32.
#include "check_fixture/run.hpp"
#include "mlmamba/mlmamba.hpp"

namespace mlmamba::check_fixture {

results run_on_cpu_f32(fixture& f) { return run_on<cpu_f32>(f); }

}  // namespace mlmamba::check_fixture
