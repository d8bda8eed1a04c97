// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The CUDA backend: every op it implements.
#pragma once

#include "mlmamba/backend/cuda/adamw.cuh"
#include "mlmamba/backend/cuda/attention.cuh"
#include "mlmamba/backend/cuda/attention_backward.cuh"
#include "mlmamba/backend/cuda/causal_conv1d.cuh"
#include "mlmamba/backend/cuda/causal_conv1d_backward.cuh"
#include "mlmamba/backend/cuda/cross_entropy.cuh"
#include "mlmamba/backend/cuda/elementwise.cuh"
#include "mlmamba/backend/cuda/embedding.cuh"
#include "mlmamba/backend/cuda/embedding_backward.cuh"
#include "mlmamba/backend/cuda/gated_norm.cuh"
#include "mlmamba/backend/cuda/gemm.cuh"
#include "mlmamba/backend/cuda/grid.cuh"
#include "mlmamba/backend/cuda/grid_backward.cuh"
#include "mlmamba/backend/cuda/mamba2_block_step.cuh"
#include "mlmamba/backend/cuda/mamba2_scan.cuh"
#include "mlmamba/backend/cuda/norm.cuh"
#include "mlmamba/backend/cuda/norm_backward.cuh"
#include "mlmamba/backend/cuda/patchify.cuh"
#include "mlmamba/backend/cuda/reduce.cuh"
#include "mlmamba/backend/cuda/sample.cuh"
#include "mlmamba/backend/cuda/scan_order.cuh"
#include "mlmamba/backend/cuda/selective_scan.cuh"
#include "mlmamba/backend/cuda/selective_scan_backward.cuh"
#include "mlmamba/backend/cuda/ssd.cuh"
#include "mlmamba/backend/cuda/ssd_backward.cuh"
#include "mlmamba/backend/cuda/ssd_step.cuh"
