// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fixtures on the engine reference.
#include "check_fixture/run.hpp"
#include "mlmamba/mlmamba.hpp"

namespace mlmamba::check_fixture {

results run_on_reference(fixture& f) { return run_on<exact>(f); }

}  // namespace mlmamba::check_fixture
