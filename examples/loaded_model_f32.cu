// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Every model on a GPU, in f32.
#include "mlmamba/cuda.cuh"

#include "loaded_model_of.hpp"
#include "made_model.hpp"

namespace mlmamba::examples {

std::unique_ptr<loaded_model> load_f32(const checkpoint& files, int) {
  using E = cuda_f32;
  return std::make_unique<loaded_model_of<E>>(files, std::make_shared<context_of<E>>(),
                                              *make_model<E, E>(source_of(files)), "f32");
}

}  // namespace mlmamba::examples
