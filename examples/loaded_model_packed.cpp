// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Every model on the CPU, with its matrices prepared for the kernels, or quantised.
#include "mlmamba/backend/cpu.hpp"

#include "loaded_model_of.hpp"

namespace mlmamba::examples {

std::unique_ptr<loaded_model> load_packed(const checkpoint& files, int threads,
                                          const weight_formats& formats) {
  return load_on<cpu_packed>(
      files, std::make_shared<context_of<cpu_packed>>(cpu_options{.threads = threads}), false,
      {.weights = formats});
}

}  // namespace mlmamba::examples
