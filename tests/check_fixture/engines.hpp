// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// One function per engine, each compiled in a file of its own: together they would take long.
#pragma once

#include "check_fixture/fixture.hpp"

namespace mlmamba::check_fixture {

results run_on_cpu_f32(fixture& f);
results run_on_cpu_bf16(fixture& f);
results run_on_reference(fixture& f);
results run_on_cuda_f32(fixture& f);   // in the CUDA build only
results run_on_cuda_bf16(fixture& f);  // in the CUDA build only
results run_on_cuda_f16(fixture& f);   // in the CUDA build only

}  // namespace mlmamba::check_fixture
