// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Storage types round to nearest even; scalar functions and their derivatives agree.
#include <doctest/doctest.h>

#include <cmath>
#include <complex>
#include <cstring>

#include "mlmamba/core/scalar.hpp"

using namespace mlmamba;

TEST_CASE("bf16 keeps every value it can hold and rounds the others to nearest even") {
  for (std::uint32_t i = 0; i < 65536; ++i) {
    bf16 b;
    b.bits = std::uint16_t(i);
    const float f = b;
    if (std::isnan(f)) {
      CHECK(std::isnan(float(bf16(f))));
      continue;
    }
    REQUIRE(bf16(f).bits == b.bits);
    bf16 next = b;
    ++next.bits;
    if ((i & 0x7fffu) >= 0x7f7fu) continue;  // no finite neighbour away from zero
    const double middle = (double(f) + double(float(next))) / 2;
    const std::uint16_t even = std::uint16_t(i % 2 == 0 ? i : i + 1);
    REQUIRE(bf16(float(middle)).bits == even);
    REQUIRE(bf16(std::nextafter(float(middle), f)).bits == b.bits);
    REQUIRE(bf16(std::nextafter(float(middle), float(next))).bits == next.bits);
  }
  CHECK(std::isinf(float(bf16(3.4e38f))));
}

TEST_CASE("f16 keeps every value it can hold and rounds the others to nearest even") {
  for (std::uint32_t i = 0; i < 65536; ++i) {
    f16 b;
    b.bits = std::uint16_t(i);
    const float f = b;
    if (std::isnan(f)) {
      CHECK(std::isnan(float(f16(f))));
      continue;
    }
    REQUIRE(f16(f).bits == b.bits);
    if ((i & 0x7fffu) >= 0x7bffu) continue;
    f16 next = b;
    ++next.bits;
    const float middle = (f + float(next)) / 2;  // exact: float has 13 bits more
    REQUIRE(f16(middle).bits == std::uint16_t(i % 2 == 0 ? i : i + 1));
    REQUIRE(f16(std::nextafter(middle, f)).bits == b.bits);
    REQUIRE(f16(std::nextafter(middle, float(next))).bits == next.bits);
  }
  CHECK(float(f16(65519.0f)) == 65504.0f);
  CHECK(std::isinf(float(f16(65520.0f))));
  CHECK(float(f16(1e-9f)) == 0.0f);
}

TEST_CASE("activation_derivative is the complex-step derivative of apply_activation") {
  for (activation a : {activation::none, activation::silu, activation::gelu, activation::gelu_tanh,
                       activation::quick_gelu, activation::relu}) {
    for (double x = -30; x <= 30; x += 0.37) {
      const std::complex<double> y = apply_activation(a, std::complex<double>(x, 1e-20));
      CHECK(y.imag() / 1e-20 == doctest::Approx(activation_derivative(a, x)).epsilon(1e-13));
      CHECK(y.real() == doctest::Approx(apply_activation(a, x)).epsilon(1e-15));
    }
  }
}

TEST_CASE("softplus is accurate far below zero and the identity above 20") {
  CHECK(math::softplus(-40.0) == doctest::Approx(std::exp(-40.0)).epsilon(1e-15));
  CHECK(math::softplus(-20.0f) == doctest::Approx(2.0611537e-9).epsilon(1e-6));
  CHECK(math::softplus(20.5) == 20.5);
  CHECK(math::softplus(0.0) == doctest::Approx(std::log(2.0)));
  for (double x : {-50.0, -3.0, 0.0, 2.5, 19.0, 25.0}) {
    const std::complex<double> y = math::softplus(std::complex<double>(x, 1e-20));
    CHECK(y.imag() / 1e-20 == doctest::Approx(math::softplus_derivative(x)).epsilon(1e-13));
  }
}

TEST_CASE("sigmoid does not overflow") {
  CHECK(math::sigmoid(-1000.0) == 0.0);
  CHECK(math::sigmoid(1000.0f) == 1.0f);
  CHECK(math::sigmoid(0.0) == 0.5);
}
