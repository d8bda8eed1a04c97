// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Everything of mlmamba.hpp, and the CUDA backend.
#pragma once

#if !defined(__CUDACC__)
#error \
    "mlmamba/cuda.cuh needs a CUDA compiler: rename this file to .cu, or include <mlmamba/mlmamba.hpp> for the CPU only"
#endif

#include "mlmamba/backend/cuda.cuh"
#include "mlmamba/mlmamba.hpp"
