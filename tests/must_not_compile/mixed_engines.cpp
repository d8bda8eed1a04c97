// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A model of parts on different engines.
// must say: same_engine
#include "mlmamba/models/connectors/mlp.hpp"
#include "mlmamba/models/mamba_lm.hpp"
#include "mlmamba/models/ml_mamba.hpp"
#include "mlmamba/models/vit.hpp"
using namespace mlmamba;
#if defined(CONTROL)
using E = exact;
#else
using E = reference_f32;
#endif
using test = ml_mamba<vit<exact>, mlp_connector<E>, mamba_lm<exact>>;
using saved = test::saved;
