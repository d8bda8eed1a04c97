// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Every model on the CPU, with its matrices in f32.
#include "mlmamba/backend/cpu.hpp"

#include "made_model.hpp"

namespace mlmamba::examples {

std::optional<any_text_model<cpu_f32>> make_f32(const model_source& from) {
  return make_model<cpu_f32, cpu_f32>(from);
}

}  // namespace mlmamba::examples
