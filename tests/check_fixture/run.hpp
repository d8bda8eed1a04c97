// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// All ops on one engine: which function answers for which name.
#pragma once

#include "check_fixture/engines.hpp"
#include "check_fixture/models.hpp"
#include "check_fixture/ops.hpp"

namespace mlmamba::check_fixture {

template <engine E>
results run_on(fixture& f) {
  static context_of<E> ctx;
  const std::string& op = f.op();
  op_runner<E> ops{f, ctx, {}};
  if (op == "causal_conv1d") return ops.causal_conv1d(), ops.out;
  if (op == "selective_scan") return ops.selective_scan(), ops.out;
  if (op == "ssd") return ops.ssd(), ops.out;
  if (op == "rms_norm") return ops.rms_norm(), ops.out;
  if (op == "vit") return vit_results<E>(f, ctx);
  if (op == "mamba2_scan_connector") return connector_results<E>(f, ctx);
  if (op == "mamba_lm" || op == "mamba2_lm") return language_results<E>(f, ctx);
  if (op == "ml_mamba") return ml_mamba_results<E>(f, ctx);
  fail<io_error>("op \"", op,
                 "\" is not known; causal_conv1d, selective_scan, ssd, rms_norm, vit, mamba_lm, "
                 "mamba2_lm, mamba2_scan_connector, image_transform or ml_mamba is wanted");
}

}  // namespace mlmamba::check_fixture
