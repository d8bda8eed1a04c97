// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The CPU backend: threads and SIMD kernels. One include line per family of ops.
#pragma once

#include "mlmamba/backend/cpu/simd/dispatch.hpp"
//
#include "mlmamba/backend/cpu/adamw.hpp"
#include "mlmamba/backend/cpu/attention.hpp"
#include "mlmamba/backend/cpu/causal_conv1d.hpp"
#include "mlmamba/backend/cpu/cross_entropy.hpp"
#include "mlmamba/backend/cpu/elementwise.hpp"
#include "mlmamba/backend/cpu/embedding.hpp"
#include "mlmamba/backend/cpu/gemm.hpp"
#include "mlmamba/backend/cpu/grid.hpp"
#include "mlmamba/backend/cpu/norm.hpp"
#include "mlmamba/backend/cpu/packed_gemm.hpp"
#include "mlmamba/backend/cpu/patchify.hpp"
#include "mlmamba/backend/cpu/reduce.hpp"
#include "mlmamba/backend/cpu/sample.hpp"
#include "mlmamba/backend/cpu/scan_order.hpp"
#include "mlmamba/backend/cpu/selective_scan.hpp"
#include "mlmamba/backend/cpu/ssd.hpp"
