// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Everything of mlmamba.hpp, and the CUDA backend.
#pragma once

#if !defined(__CUDACC__)
#error \
    "mlmamba/cuda.cuh needs a CUDA compiler: rename this file to .cu, or include <mlmamba/mlmamba.hpp> for the CPU only"
#endif

// nvcc's front end passes the unrolling pragmas of the CPU kernels on to GCC, and says that it
// doesn't know them.
#pragma nv_diagnostic push
#pragma nv_diag_suppress 1675, 174
#include "mlmamba/backend/cuda.cuh"
#include "mlmamba/mlmamba.hpp"
#pragma nv_diagnostic pop
