// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Everything that needs only a C++ compiler: ops, the reference and CPU backends, modules, models.
// Files and text (io/, text/, train/) are included by name: they need JSON and picture libraries.
#pragma once

#include "mlmamba/backend/cpu.hpp"
#include "mlmamba/backend/reference.hpp"
#include "mlmamba/core/context.hpp"
#include "mlmamba/core/random.hpp"
#include "mlmamba/models/connectors/mlp.hpp"
#include "mlmamba/models/connectors/pool.hpp"
#include "mlmamba/models/connectors/scan.hpp"
#include "mlmamba/models/preset.hpp"
#include "mlmamba/models/state.hpp"
#include "mlmamba/models/state_rows.hpp"
#include "mlmamba/nn/checkpointed.hpp"
#include "mlmamba/nn/mamba1.hpp"
#include "mlmamba/ops/ops.hpp"
#include "mlmamba/version.hpp"
