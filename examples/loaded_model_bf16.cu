// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Every model on a GPU, in bf16.
#include "mlmamba/cuda.cuh"

#include "loaded_model_of.hpp"
#include "made_model.hpp"

namespace mlmamba::examples {

std::unique_ptr<loaded_model> load_bf16(const checkpoint& files, int, const weight_options& o) {
  if (o.choice == weight_choice::automatic && o.activations != activation_choice::bf16)
    return nullptr;  // activations would be rounded, whatever the files have
  if (o.activations == activation_choice::f32)
    fail<error>(files.who(),
                ": on a GPU activations are bf16 if weights are; --weights f32, or no "
                "--activations, is wanted");
  using E = cuda_bf16;
  return std::make_unique<loaded_model_of<E>>(files, std::make_shared<context_of<E>>(),
                                              *make_model<E, E>(source_of(files)), "bf16");
}
std::unique_ptr<loaded_model> load_packed(const checkpoint& files, int, const weight_formats&,
                                          const weight_options&) {
  fail<error>(files.who(),
              ": prepared, int8 and int4 weights are for the CPU; on a GPU a model that is not "
              "quantised, and --weights auto, f32 or bf16 without --prepare, are wanted");
}

}  // namespace mlmamba::examples
