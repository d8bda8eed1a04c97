// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Every model on the CPU, with its matrices in f32.
#include "mlmamba/backend/cpu.hpp"

#include "loaded_model_of.hpp"

namespace mlmamba::examples {

std::unique_ptr<loaded_model> load_f32(const checkpoint& files, int threads) {
  return load_on<cpu_f32>(files,
                          std::make_shared<context_of<cpu_f32>>(cpu_options{.threads = threads}));
}

}  // namespace mlmamba::examples
