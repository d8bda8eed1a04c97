// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Every model on a GPU, in bf16, the states of its scans too.
#include "mlmamba/cuda.cuh"

#include "loaded_model_of.hpp"
#include "made_model.hpp"

namespace mlmamba::examples {

std::unique_ptr<loaded_model> load_bf16_states(const checkpoint& files, const weight_options& o) {
  const bool narrow = o.activations == activation_choice::bf16 ||
                      (o.choice == weight_choice::bf16 && o.activations != activation_choice::f32);
  if (!narrow)
    fail<error>(files.who(),
                ": on a GPU states in bf16 go with weights and activations in bf16; --weights bf16 "
                "is wanted");
  using E = on<backend::cuda, bf16, float, bf16, bf16>;
  return std::make_unique<loaded_model_of<E>>(files, std::make_shared<context_of<E>>(),
                                              *make_model<E, E>(source_of(files)), "bf16");
}

}  // namespace mlmamba::examples
