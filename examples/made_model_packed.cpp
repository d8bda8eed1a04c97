// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Every model on the CPU, with its matrices prepared for the kernels, or quantised.
#include "mlmamba/backend/cpu.hpp"

#include "made_model.hpp"

namespace mlmamba::examples {

std::optional<any_text_model<cpu_f32>> make_packed(const model_source& from,
                                                   const weight_formats& formats) {
  return make_model<cpu_f32, cpu_packed>(from, false, {.weights = formats});
}
std::optional<any_text_model<cpu_f32>> make_packed_states(const model_source& from,
                                                          const weight_formats& formats) {
  using E = on<backend::cpu, float, float, packed, bf16>;
  return make_model<cpu_f32, E>(from, false, {.weights = formats});
}
std::optional<any_text_model<cpu_f32>> make_packed_bf16(const model_source& from,
                                                        const weight_formats& formats) {
  return make_model<cpu_f32, cpu_packed_bf16>(from, false, {.weights = formats});
}
std::optional<any_text_model<cpu_f32>> make_packed_bf16_states(const model_source& from,
                                                               const weight_formats& formats) {
  using E = on<backend::cpu, bf16, float, packed, bf16>;
  return make_model<cpu_f32, E>(from, false, {.weights = formats});
}

}  // namespace mlmamba::examples
