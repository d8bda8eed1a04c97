// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What the programs that train share: the engine they are compiled for, how they are stopped, and
// how they end.
#pragma once

#include <CLI/CLI.hpp>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <exception>
#include <type_traits>

#if defined(__CUDACC__)
#include "mlmamba/cuda.cuh"
#else
#include "mlmamba/backend/cpu.hpp"
#endif
#include "mlmamba/backend/traced.hpp"
#include "mlmamba/train/prefetch.hpp"
#include "program.hpp"

namespace mlmamba::examples {

#if defined(__CUDACC__)  // NAME_cuda: the same file, on a GPU
using training_device = backend::cuda;
#else
using training_device = backend::cpu;
#endif
#if defined(MLMAMBA_TRAIN_BF16)  // with master weights and moments in float
using training_value = bf16;
#else
using training_value = float;
#endif
using training_engine = on<backend::traced<training_device>, training_value>;

inline const int usual_prefetch =
    train::usual_prefetch_threads(!std::is_same_v<training_device, backend::cpu>);

inline std::atomic<bool> interrupted{false};  ///< by SIGINT or SIGTERM

/// Reads the options and calls `run`. Returns the exit code: that of `run`; 2 for bad options and
/// input, 1 for other failures.
template <class Run>
int run_training(const char* program, CLI::App& app, int argc, char** argv, Run&& run) {
  if (const auto code = parse(app, argc, argv)) return *code;
  std::signal(SIGINT, [](int) { interrupted = true; });
  std::signal(SIGTERM, [](int) { interrupted = true; });
  try {
    return written(run());
  } catch (const error& e) {
    std::fprintf(stderr, "%s: %s\n", program, e.what());
    return 2;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s: %s\n", program, e.what());
    return 1;
  }
}

}  // namespace mlmamba::examples
