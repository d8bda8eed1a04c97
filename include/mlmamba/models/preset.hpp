// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Published compositions by name; their sizes are in vit_config.hpp and config.hpp.
#pragma once

#include "mlmamba/models/connectors/mlp.hpp"
#include "mlmamba/models/connectors/scan.hpp"
#include "mlmamba/models/fused_vision.hpp"
#include "mlmamba/models/mamba_lm.hpp"
#include "mlmamba/models/ml_mamba.hpp"
#include "mlmamba/models/vit.hpp"
#include "mlmamba/nn/mamba1.hpp"

namespace mlmamba {

/// Two towers side by side: DINOv2 and SigLIP, or DINOv2 and CLIP.
template <engine E>
using two_towers = fused<vit<E>, vit<E>>;

/// ML-Mamba: two towers, the Mamba-2 scan connector, Mamba-2. Published with 2.7 billion parameters
/// in the language model.
template <engine E>
using ml_mamba_3b = ml_mamba<two_towers<E>, scan_connector<E>, mamba_lm<E>>;

/// Cobra: two towers, the fused MLP, Mamba-1 of 2.8 billion parameters.
template <engine E>
using cobra_3b = ml_mamba<two_towers<E>, fused_mlp_connector<E>, mamba_lm<E, nn::mamba1>>;

}  // namespace mlmamba
