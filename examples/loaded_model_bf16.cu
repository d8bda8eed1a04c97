// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Every model on a GPU, in bf16.
#include "mlmamba/cuda.cuh"

#include "loaded_model_of.hpp"
#include "made_model.hpp"

namespace mlmamba::examples {

std::unique_ptr<loaded_model> load_bf16(const checkpoint& files, int, bool only_exact) {
  if (only_exact) return nullptr;  // activations are rounded, whatever the files have
  using E = cuda_bf16;
  return std::make_unique<loaded_model_of<E>>(files, std::make_shared<context_of<E>>(),
                                              *make_model<E, E>(source_of(files)), "bf16");
}
std::unique_ptr<loaded_model> load_packed(const checkpoint& files, int, const weight_formats&,
                                          bool) {
  fail<error>(files.who(),
              ": prepared, int8 and int4 weights are for the CPU; on a GPU a model that is not "
              "quantised, and --weights auto, f32 or bf16 without --prepare, are wanted");
}

}  // namespace mlmamba::examples
