// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Every model on a GPU, in f32.
#include "mlmamba/cuda.cuh"

#include "loaded_model_of.hpp"

namespace mlmamba::examples {

std::unique_ptr<loaded_model> load_f32(const checkpoint& files, int) {
  return load_on<cuda_f32>(files, std::make_shared<context_of<cuda_f32>>());
}

}  // namespace mlmamba::examples
