// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Table look-ups: gradients, indices out of range, every backend.
#include "ops/embedding_cases.hpp"

#include "engines.hpp"
#include "mlmamba/backend/reference.hpp"
#include "mlmamba/verify/gradcheck.hpp"

using namespace mlmamba;
using verify::embedding_options;

TEST_SUITE("embedding_test") {
  TEST_CASE("backward is the derivative of forward, repeated indices add up") {
    for (const embedding_options& o : {embedding_options{},
                                       {.tokens = 0},
                                       {.tokens = 1, .vocabulary = 1, .width = 1},
                                       {.tokens = 20, .vocabulary = 3, .width = 2}}) {
      const auto g = verify::gradcheck_case<verify::embedding_case>(3, o);
      CHECK_MESSAGE(g.worst < 1e-12, g.where, ": ", g.worst);
    }
  }

  TEST_CASE("contract") {
    context<backend::reference> ctx;
    using E = reference_f32;
    tensor<float, 2> table({4, 2}), y({3, 2}), wide({3, 3});
    tensor<std::int32_t, 1> index({3});
    CHECK_THROWS_WITH_AS(run(ctx, ops::embedding<E>{.index = index, .table = table, .y = wide}),
                         "embedding: y is (3, 3); wanted is (3, 2)", shape_error);
  }
}
