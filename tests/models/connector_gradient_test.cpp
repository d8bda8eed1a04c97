// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The gradient of every connector is exact.
#include <doctest/doctest.h>

#include "mlmamba/backend/reference.hpp"
#include "mlmamba/models/connectors/mlp.hpp"
#include "mlmamba/models/connectors/pool.hpp"
#include "mlmamba/models/connectors/scan.hpp"
#include "mlmamba/verify/gradcheck.hpp"
#include "models/gated_connector.hpp"

using namespace mlmamba;

#define CONNECTORS                                                                                 \
  linear_connector<exact>, mlp_connector<exact>, fused_mlp_connector<exact>, ldp_connector<exact>, \
      fused_ldp_connector<exact>, average_pool_connector<exact>, pixel_shuffle_connector<exact>,   \
      scan_connector<exact>, cross_scan_connector<exact>, verify::gated_connector<exact>

TEST_CASE_TEMPLATE("connector: the gradient is exact", C, CONNECTORS) {
  for (const connector_shape n :
       {connector_shape{5, 4, 3, 3}, connector_shape{2, 2, 4, 2}, connector_shape{2, 3, 1, 1}}) {
    const auto g = verify::gradcheck<C>({2, n.tokens(), n.d_vision}, n);
    INFO("worst at ", g.where, ": ", g.worst);
    CHECK(g.worst < 1e-12);
    CHECK(g.checked > 0);
  }
}

TEST_SUITE("connector_gradient_test") {
  TEST_CASE("options of the scan connector differentiate exactly") {
    const connector_shape n{4, 4, 2, 3};
    auto basic = scan_options_for(n);
    basic.swiglu = false;
    basic.projector = projector_kind::linear;
    auto ldp = scan_options_for(n);
    ldp.n_layer = 1;
    ldp.projector = projector_kind::fused_ldpnet;
    ldp.mixer.ngroups = 2;
    ldp.mixer.headdim = 2;
    auto narrow = scan_options_for(n);
    narrow.n_layer = 0;
    narrow.mixer.d_model = 6;
    narrow.projector = projector_kind::gelu_mlp;
    for (const auto& o : {basic, ldp, narrow}) {
      const auto g = verify::gradcheck<scan_connector<exact>>({1, 6, 4}, n, o);
      INFO("worst at ", g.where, ": ", g.worst);
      CHECK(g.worst < 1e-12);
    }
  }
}
