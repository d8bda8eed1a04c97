// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// All ops.
#pragma once

#include "mlmamba/ops/adamw.hpp"
#include "mlmamba/ops/attention.hpp"
#include "mlmamba/ops/causal_conv1d.hpp"
#include "mlmamba/ops/cross_entropy.hpp"
#include "mlmamba/ops/elementwise.hpp"
#include "mlmamba/ops/embedding.hpp"
#include "mlmamba/ops/gemm.hpp"
#include "mlmamba/ops/grid.hpp"
#include "mlmamba/ops/mamba2_block_step.hpp"
#include "mlmamba/ops/norm.hpp"
#include "mlmamba/ops/packed_gemm.hpp"
#include "mlmamba/ops/patchify.hpp"
#include "mlmamba/ops/reduce.hpp"
#include "mlmamba/ops/sample.hpp"
#include "mlmamba/ops/scan_order.hpp"
#include "mlmamba/ops/selective_scan.hpp"
#include "mlmamba/ops/series.hpp"
#include "mlmamba/ops/ssd.hpp"
