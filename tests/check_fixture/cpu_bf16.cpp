// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fixtures on the engine cpu_bf16.
#include "check_fixture/run.hpp"
#include "mlmamba/mlmamba.hpp"

namespace mlmamba::check_fixture {

results run_on_cpu_bf16(fixture& f) { return run_on<cpu_bf16>(f); }

}  // namespace mlmamba::check_fixture
