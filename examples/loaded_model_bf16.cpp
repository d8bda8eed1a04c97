// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Every model on the CPU, with its matrices in bf16.
#include "mlmamba/backend/cpu.hpp"

#include "loaded_model_of.hpp"

namespace mlmamba::examples {

std::unique_ptr<loaded_model> load_bf16(const checkpoint& files, int threads, bool only_exact) {
  using E = on<backend::cpu, float, float, bf16>;
  return load_on<E>(files, std::make_shared<context_of<E>>(cpu_options{.threads = threads}),
                    only_exact);
}

}  // namespace mlmamba::examples
