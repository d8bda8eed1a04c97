// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The embedding of tokens as a module: its gradient, repeated and absent tokens, a frozen table.
#include "mlmamba/nn/embedding.hpp"

#include <doctest/doctest.h>

#include "mlmamba/backend/reference.hpp"
#include "mlmamba/nn/functional.hpp"
#include "mlmamba/verify/gradcheck.hpp"

using namespace mlmamba;

namespace {

/// y = x + E(ids): a module with an input that has a gradient, as the check wants it.
template <engine E>
struct embedded {
  using engine_type = E;
  nn::embedding<E> table{5, 3};
  tensor<std::int32_t, 2> ids{shape<2>{{2, 4}}};  // 3 twice and more, 4 never

  embedded() {
    for (index_t i = 0; i < ids.count(); ++i) ids.data()[i] = std::int32_t(i * i % 8 % 5);
  }
  static void fields(auto& self, auto&& f) { f("table", self.table); }
  struct saved {
    typename nn::embedding<E>::saved table;
  };
  out<E, 3> forward(context_of<E>& ctx, in<E, 3> x, saved& s) const {
    return nn::add(ctx, x, table.forward(ctx, in_index<E, 2>(ids.view()), s.table));
  }
  out<E, 3> backward(context_of<E>& ctx, in<E, 3> dy, const saved& s) {
    table.backward(ctx, dy, s.table);
    const out<E, 3> dx = ctx.template make<E, 3>(dy.shape());
    nn::assign(ctx, dx, dy);
    return dx;
  }
};

TEST_SUITE("embedding_test") {
  TEST_CASE("the gradient of the table is exact, and zero for tokens that do not occur") {
    const auto g = verify::gradcheck<embedded<exact>>({2, 4, 3});
    INFO("worst at ", g.where, ": ", g.worst);
    CHECK(g.worst < 1e-12);
    CHECK(g.checked == 24 + 15);
  }

  TEST_CASE("each token gets its row; a frozen table gets no gradient") {
    context_of<exact> ctx;
    embedded<exact> m;
    nn::initialise(m, {3, 0, 0});
    typename embedded<exact>::saved s;
    const auto y = m.table.forward(ctx, in_index<exact, 2>(m.ids.view()), s.table);
    CHECK(y.shape() == shape<3>{{2, 4, 3}});
    for (index_t b = 0; b < 2; ++b)
      for (index_t t = 0; t < 4; ++t)
        for (index_t d = 0; d < 3; ++d) CHECK(y(b, t, d) == m.table.weight.value(m.ids(b, t), d));
    nn::freeze(m, "table");
    m.table.backward(ctx, y, s.table);
    CHECK_FALSE(m.table.weight.grad);
  }
}

}  // namespace
