// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Every model on the CPU, with its matrices in bf16.
#include "mlmamba/backend/cpu.hpp"

#include "made_model.hpp"

namespace mlmamba::examples {

std::optional<any_text_model<cpu_f32>> make_bf16(const model_source& from, bool only_exact) {
  return make_model<cpu_f32, on<backend::cpu, float, float, bf16>>(from, only_exact);
}

}  // namespace mlmamba::examples
