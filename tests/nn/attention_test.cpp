// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Self attention as a module: exact gradients, engines, and what attention must not depend on.
#include "engines.hpp"
#include "mlmamba/mlmamba.hpp"
#include "mlmamba/nn/attention.hpp"
#include "mlmamba/verify/gradcheck.hpp"

using namespace mlmamba;

namespace {
struct sizes {
  index_t batch, tokens, width, heads;
  bool qkv_bias;
};
constexpr sizes cases[] = {
    {1, 1, 1, 1, true}, {2, 5, 6, 2, true}, {1, 4, 6, 6, false}, {1, 17, 18, 2, true}};

template <engine E>
struct attention_case : verify::module_case<nn::attention<E>> {
  explicit attention_case(sizes n)
      : verify::module_case<nn::attention<E>>(shape<3>{{n.batch, n.tokens, n.width}}, n.width,
                                              n.heads, n.qkv_bias) {}
};
}  // namespace

TEST_SUITE("attention_test") {
  TEST_CASE("the gradient is exact") {
    for (const sizes& n : cases) {
      const auto g = verify::gradcheck_case<attention_case>(5, n);
      INFO("tokens ", n.tokens, " worst at ", g.where);
      CHECK(g.worst < 1e-12);
      CHECK(g.checked > 0);
    }
  }

  TEST_CASE("a permutation of the tokens permutes the result") {
    nn::attention<exact> m(4, 2);
    random_stream r{1, 2, 3};
    nn::initialise(m, r);
    tensor<double, 3> x({1, 3, 4}), turned({1, 3, 4});
    for (index_t i = 0; i < x.count(); ++i) x.data()[i] = r.normal();
    for (index_t t = 0; t < 3; ++t)
      for (index_t d = 0; d < 4; ++d) turned(0, (t + 1) % 3, d) = x(0, t, d);
    context<backend::reference> ctx;
    nn::attention<exact>::saved s;
    const auto y = m.forward(ctx, x, s), z = m.forward(ctx, turned, s);
    for (index_t t = 0; t < 3; ++t)
      for (index_t d = 0; d < 4; ++d)
        CHECK(z(0, (t + 1) % 3, d) == doctest::Approx(y(0, t, d)).epsilon(1e-13));
  }

  TEST_CASE("heads must divide the width") {
    CHECK_THROWS_AS(nn::attention<exact>(6, 4), shape_error);
    CHECK_THROWS_AS(nn::attention<exact>(6, 0), shape_error);
  }
}

TEST_CASE_TEMPLATE("attention: engines agree with the reference", E, MLMAMBA_TEST_ENGINES) {
  context_of<E> ctx;
  for (const sizes& n : cases) {
    const auto d = verify::compare<attention_case, E>(ctx, 13, n);
    INFO("tokens ", n.tokens, " ", d.where, " relative ", d.relative, " tolerance ", d.tolerance);
    CHECK(d.ok);
  }
}
