// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The reference backend: plain loops on any scalar, complex included; the definition of correct.
#pragma once

#include "mlmamba/backend/reference/adamw.hpp"
#include "mlmamba/backend/reference/attention.hpp"
#include "mlmamba/backend/reference/causal_conv1d.hpp"
#include "mlmamba/backend/reference/cross_entropy.hpp"
#include "mlmamba/backend/reference/elementwise.hpp"
#include "mlmamba/backend/reference/embedding.hpp"
#include "mlmamba/backend/reference/gemm.hpp"
#include "mlmamba/backend/reference/grid.hpp"
#include "mlmamba/backend/reference/norm.hpp"
#include "mlmamba/backend/reference/packed_gemm.hpp"
#include "mlmamba/backend/reference/patchify.hpp"
#include "mlmamba/backend/reference/reduce.hpp"
#include "mlmamba/backend/reference/sample.hpp"
#include "mlmamba/backend/reference/scan_order.hpp"
#include "mlmamba/backend/reference/selective_scan.hpp"
#include "mlmamba/backend/reference/ssd.hpp"
