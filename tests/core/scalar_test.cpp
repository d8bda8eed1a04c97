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

TEST_CASE("f16 is the float counted in its own units, over all exponents and signs") {
  // In double the count is exact, and nearbyint rounds ties to even.
  const auto want = [](float x) {
    const double size = std::abs(double(x));
    const int e = size == 0 ? -14 : std::max(std::ilogb(size), -14);
    const double unit = std::ldexp(1.0, e - 10);
    const double v = std::nearbyint(size / unit) * unit;
    return std::copysign(v >= 65536 ? double(INFINITY) : v, double(x));
  };
  std::uint32_t wrong = 0;
  for (std::uint64_t bits = 0; bits <= 0xffffffffu; bits += 0x3ff) {  // 4.2 million
    const float x = std::bit_cast<float>(std::uint32_t(bits));
    if (std::isnan(x) || std::isinf(x)) continue;
    const float got = f16(x);
    if (double(got) != want(x) || std::signbit(got) != std::signbit(x)) ++wrong;
  }
  CHECK(wrong == 0);
  CHECK(f16(INFINITY).bits == 0x7c00);
  CHECK(f16(-INFINITY).bits == 0xfc00);
  CHECK(f16(-0.0f).bits == 0x8000);
}

TEST_CASE("arithmetic of 16-bit numbers is that of floats, rounded once") {
  const f16 one = 1.0f, little = 0x1p-11f;  // half a unit of 1
  CHECK(one + little == 1.0f + 0x1p-11f);
  CHECK(f16(one + little).bits == one.bits);
  CHECK(float(f16(one + little + little)) == 1.0f + 0x1p-10f);
  CHECK(std::is_same_v<decltype(one * little), float>);
  CHECK(std::is_same_v<accum_t<f16>, float>);
  CHECK(float(f16(60000.0f) * f16(2.0f)) == 120000.0f);
  CHECK(is_16_bit<f16> == is_16_bit<bf16>);
  CHECK(!is_16_bit<float>);
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
