// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Every model on the CPU, with prepared or quantised matrices, and activations in bf16.
#include "mlmamba/backend/cpu.hpp"

#include "made_model.hpp"

namespace mlmamba::examples {

std::optional<any_text_model<cpu_f32>> make_packed_bf16(const model_source& from,
                                                        const weight_formats& formats) {
  return make_model<cpu_f32, cpu_packed_bf16>(from, false, {.weights = formats});
}

}  // namespace mlmamba::examples
