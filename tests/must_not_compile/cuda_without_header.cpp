// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A CUDA context in a file that does not include <mlmamba/cuda.cuh>.
// must say: backend::cuda>
#include "mlmamba/core/context.hpp"
using namespace mlmamba;
#if defined(CONTROL)
context<backend::cpu> ctx;
#else
context<backend::cuda> ctx;
#endif
