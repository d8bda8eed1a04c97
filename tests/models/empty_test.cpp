// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Nothing in, nothing out: models with no rows (B = 0) and with no text (L = 0), both ways.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "mlmamba/mlmamba.hpp"
#include "models/ml_mamba_case.hpp"

using namespace mlmamba;
using E = cpu_f32;
using model_type = verify::tiny_ml_mamba<E>;

namespace {

model_type made() {
  model_type m = verify::make_tiny_ml_mamba<E>(2);
  nn::initialise(m, random_stream{1});
  nn::allocate_grads(m);
  return m;
}
struct pictures_of {
  tensor<float, 4> first, second;
  explicit pictures_of(index_t batch) : first({batch, 3, 5, 5}), second({batch, 3, 5, 5}) {
    for (auto* t : {&first, &second})
      for (index_t i = 0; i < t->count(); ++i) t->data()[i] = float(i % 5) - 2;
  }
  std::array<in<E, 4>, 2> views() const { return {first, second}; }
};
/// The largest gradient of all parameters.
double largest_gradient(const model_type& m) {
  double largest = 0;
  nn::for_each_parameter(m, [&](const std::string&, const auto& p) {
    for (index_t i = 0; i < p.grad.count(); ++i)
      largest = std::max(largest, std::abs(double(p.grad.data()[i])));
  });
  return largest;
}

}  // namespace

TEST_SUITE("empty_test") {
  TEST_CASE("a batch of no rows has no logits, and its backward adds nothing") {
    context<backend::cpu> ctx;
    model_type m = made();
    for (const index_t length : {0, 3}) {
      CAPTURE(length);
      const pictures_of none(0);
      const tensor<std::int32_t, 2> ids({0, length});
      model_type::saved s;
      const auto y = m.forward(ctx, none.views(), ids, s);
      CHECK(y.shape() == shape<3>{{0, 4 + length, m.vocabulary()}});
      m.backward(ctx, y, s);
      CHECK(largest_gradient(m) == 0);

      model_type::state st = m.make_state(0);
      CHECK(m.prefill(ctx, none.views(), ids, st).count() == 0);
      CHECK(st.position == 4 + length);
      CHECK(m.step(ctx, tensor<std::int32_t, 1>(shape<1>{{0}}), st).count() == 0);
    }
  }

  TEST_CASE("a picture without text has the logits of the picture's tokens") {
    context<backend::cpu> ctx;
    model_type m = made();
    const pictures_of two(2);
    const tensor<std::int32_t, 2> ids({2, 0});
    model_type::saved s;
    const auto y = m.forward(ctx, two.views(), ids, s);
    CHECK(y.shape() == shape<3>{{2, 4, m.vocabulary()}});
    m.backward(ctx, y, s);
    CHECK(largest_gradient(m) > 0);
    CHECK(std::isfinite(largest_gradient(m)));

    model_type::state st = m.make_state(2);
    const auto last = m.prefill(ctx, two.views(), ids, st);
    CHECK(last.shape() == shape<2>{{2, m.vocabulary()}});
    for (index_t v = 0; v < m.vocabulary(); ++v)
      CHECK(last(1, v) == doctest::Approx(y(1, 3, v)).epsilon(1e-4));
  }

  TEST_CASE("no text at all: no logits, and the state stays as it was") {
    context<backend::cpu> ctx;
    model_type m = made();
    const tensor<std::int32_t, 2> ids({2, 0});
    model_type::saved s;
    const auto y = m.forward(ctx, {}, ids, s);
    CHECK(y.shape() == shape<3>{{2, 0, m.vocabulary()}});
    m.backward(ctx, y, s);
    CHECK(largest_gradient(m) == 0);

    const pictures_of two(2);
    model_type::state st = m.make_state(2);
    m.prefill(ctx, two.views(), ids, st);
    const model_type::state before = st;
    CHECK(m.prefill(ctx, m.embed(ctx, ids), st).count() == 0);
    CHECK(equal(before, st));
  }
}
