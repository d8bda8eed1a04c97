// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Cross-entropy: gradients, ignored rows, labels out of range, every backend.
#include "ops/cross_entropy_cases.hpp"

#include "engines.hpp"
#include "mlmamba/backend/reference.hpp"
#include "mlmamba/verify/gradcheck.hpp"

using namespace mlmamba;
using verify::cross_entropy_options;

namespace {
std::vector<cross_entropy_options> small_cases() {
  return {{},
          {.rows = 0},
          {.rows = 1, .vocabulary = 1},
          {.rows = 4, .vocabulary = 2},
          {.one_scale = true},
          {.in_place = true},
          {.rows = 7, .vocabulary = 19, .one_scale = true, .in_place = true}};
}
}  // namespace

TEST_SUITE("cross_entropy_test") {
  TEST_CASE("backward is the derivative of forward") {
    for (const cross_entropy_options& o : small_cases()) {
      const auto g = verify::gradcheck_case<verify::cross_entropy_case>(3, o);
      CHECK_MESSAGE(g.worst < 1e-12, g.where, ": ", g.worst);
    }
  }

  TEST_CASE("contract") {
    context<backend::reference> ctx;
    using E = reference_f32;
    tensor<float, 2> logits({3, 4});
    tensor<std::int32_t, 1> label({3}), few({2});
    tensor<float, 1> loss({3});
    CHECK_THROWS_WITH_AS(
        run(ctx, ops::cross_entropy<E>{.logits = logits, .label = few, .loss = loss}),
        "cross_entropy: label is (2); wanted is (3)", shape_error);
    CHECK_THROWS_WITH_AS(run(ctx, ops::cross_entropy_backward<E>{.logits = logits, .label = label}),
                         "cross_entropy_backward: dlogits is missing; wanted is an array of rank 2",
                         shape_error);
  }
}
