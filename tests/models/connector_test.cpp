// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Every connector: exact gradients, the reference on every engine, threads and neighbours.
#include "engines.hpp"
#include "mlmamba/backend/reference.hpp"
#include "mlmamba/models/connectors/mlp.hpp"
#include "mlmamba/models/connectors/pool.hpp"
#include "mlmamba/verify/gradcheck.hpp"

using namespace mlmamba;

#define CONNECTORS                                                                        \
  linear_connector<exact>, mlp_connector<exact>, fused_mlp_connector<exact>,              \
      ldp_connector<exact>, fused_ldp_connector<exact>, average_pool_connector<exact>,    \
      pixel_shuffle_connector<exact>

static_assert(connector<linear_connector<exact>> && connector<fused_ldp_connector<cpu_bf16>>);

TEST_CASE_TEMPLATE("connector: the gradient is exact", C, CONNECTORS) {
  for (const connector_shape n : {connector_shape{5, 4, 3, 3}, connector_shape{3, 2, 4, 2},
                                  connector_shape{2, 3, 1, 1}}) {
    const auto g = verify::gradcheck<C>({2, n.tokens(), n.d_vision}, n);
    INFO(C::kind, " worst at ", g.where);
    CHECK(g.worst < 1e-12);
    CHECK(g.checked > 0);
  }
}
