// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Every model on the CPU, with its matrices as files have them. One unit for all three: what they
// share is two thirds of what one takes to compile.
#include "mlmamba/backend/cpu.hpp"

#include "made_model.hpp"

namespace mlmamba::examples {

std::optional<any_text_model<cpu_f32>> make_f32(const model_source& from) {
  return make_model<cpu_f32, cpu_f32>(from);
}
std::optional<any_text_model<cpu_f32>> make_bf16(const model_source& from, bool only_exact) {
  return make_model<cpu_f32, on<backend::cpu, float, float, bf16>>(from, only_exact);
}
std::optional<any_text_model<cpu_f32>> make_all_bf16(const model_source& from) {
  return make_model<cpu_f32, cpu_bf16>(from);
}

}  // namespace mlmamba::examples
