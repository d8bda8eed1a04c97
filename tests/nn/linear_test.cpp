// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The affine map and the embedding: exact gradients with each option, initialisation, freezing.
#include "mlmamba/nn/linear.hpp"

#include "mlmamba/nn/embedding.hpp"
#include "nn/mixer_checks.hpp"

using namespace mlmamba;

namespace {
using linear = nn::linear<exact>;
double root_mean_square(const auto& p) {
  double s = 0;
  for (index_t i = 0; i < p.value.count(); ++i) s += p.value.data()[i] * p.value.data()[i];
  return std::sqrt(s / double(p.value.count()));
}
double largest(const auto& p) {
  double s = 0;
  for (index_t i = 0; i < p.value.count(); ++i) s = std::max(s, std::abs(p.value.data()[i]));
  return s;
}
}  // namespace

TEST_SUITE("linear_test") {
  TEST_CASE("gradients are exact: with and without bias, with each activation, at odd sizes") {
    for (const bool bias : {true, false})
      for (const activation a : {activation::none, activation::silu, activation::gelu,
                                 activation::gelu_tanh, activation::quick_gelu, activation::relu})
        verify::check_gradients<linear>({{2, 3, 5}}, index_t(5), index_t(4), bias, a);
    verify::check_gradients<linear>({{1, 1, 1}}, index_t(1), index_t(1));
    verify::check_gradients<linear>({{1, 7, 3}}, index_t(3), index_t(9));
  }
  TEST_CASE("no tokens and an empty batch pass through") {
    context_of<exact> ctx;
    linear m(3, 2);
    nn::allocate_grads(m);
    for (const auto& n : {shape<3>{{2, 0, 3}}, shape<3>{{0, 4, 3}}}) {
      linear::saved s;
      const tensor<double, 3> x(n);
      const auto y = m.forward(ctx, x, s);
      CHECK(y.size[2] == 2);
      CHECK(m.backward(ctx, y, s).shape() == n);
    }
    CHECK(largest(m.weight) == 0);
  }
  TEST_CASE("a wrong width is refused") {
    context_of<exact> ctx;
    const linear m(3, 2);
    linear::saved s;
    const tensor<double, 3> x({1, 2, 4});
    CHECK_THROWS_AS(m.forward(ctx, x, s), shape_error);
  }
  TEST_CASE("it starts as PyTorch's does, or by Xavier") {
    linear m(400, 100);
    nn::initialise(m, {1, 0, 0});
    const double bound = 1 / std::sqrt(400.0);
    CHECK((largest(m.weight) <= bound && largest(m.weight) > 0.99 * bound));
    CHECK((largest(m.bias) <= bound && largest(m.bias) > 0.9 * bound));
    CHECK(root_mean_square(m.weight) == doctest::Approx(bound / std::sqrt(3.0)).epsilon(0.02));
    m.init = nn::linear_init::xavier;
    nn::initialise(m, {1, 0, 0});
    CHECK(root_mean_square(m.weight) == doctest::Approx(std::sqrt(2.0 / 500)).epsilon(0.02));
    CHECK(largest(m.bias) == 0);
  }
  TEST_CASE("the same stream gives the same numbers on every engine, whatever stands before") {
    linear a(5, 4);
    nn::linear<reference_f32> b(5, 4);
    nn::initialise(a, {7, 0, 0});
    nn::initialise(b, {7, 0, 0});
    for (index_t i = 0; i < 20; ++i)
      CHECK(float(a.weight.value.data()[i]) == b.weight.value.data()[i]);
  }
  TEST_CASE("gradients accumulate; a frozen parameter has none") {
    context_of<exact> ctx;
    linear m(3, 2);
    nn::initialise(m, {1, 0, 0});
    nn::freeze(m, "bias");
    nn::allocate_grads(m);
    const auto x = verify::random_tensor<exact, 3>({{1, 4, 3}}, 2);
    linear::saved s;
    const auto y = m.forward(ctx, x, s);
    m.backward(ctx, y, s);
    const auto once = verify::values(m.weight.grad.view());
    m.backward(ctx, y, s);
    const auto twice = verify::values(m.weight.grad.view());
    for (std::size_t i = 0; i < once.size(); ++i) CHECK(twice[i] == doctest::Approx(2 * once[i]));
    CHECK_FALSE(bool(m.bias.grad));
    CHECK_THROWS_AS(nn::freeze(m, "no_such"), error);
    CHECK(nn::freeze(m, "", true) == 2);
  }
  TEST_CASE("an embedding picks rows; its gradient adds up where an id comes twice") {
    context_of<exact> ctx;
    nn::embedding<exact> m(4, 2);
    nn::initialise(m, {1, 0, 0});
    nn::allocate_grads(m);
    tensor<std::int32_t, 2> ids({1, 3});
    ids(0, 0) = 2, ids(0, 1) = 0, ids(0, 2) = 2;
    nn::embedding<exact>::saved s;
    const auto y = m.forward(ctx, ids, s);
    CHECK(y(0, 2, 1) == m.weight.value(2, 1));
    const auto dy = verify::random_tensor<exact, 3>({{1, 3, 2}}, 2);
    m.backward(ctx, dy, s);
    for (index_t d = 0; d < 2; ++d) {
      CHECK(m.weight.grad(2, d) == dy(0, 0, d) + dy(0, 2, d));
      CHECK(m.weight.grad(0, d) == dy(0, 1, d));
      CHECK(m.weight.grad(1, d) == 0);
    }
  }
}
