// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Random numbers: known answers, moments, independence of streams, resuming.
#include <doctest/doctest.h>

#include <cmath>
#include <set>

#include "mlmamba/core/random.hpp"

using namespace mlmamba;

TEST_CASE("philox gives the published known answers") {
  // Random123, kat_vectors: philox4x32 with 10 rounds.
  const philox_block zero = philox(0, 0, 0);
  CHECK(zero.v[0] == 0x6627e8d5u);
  CHECK(zero.v[1] == 0xe169c58du);
  CHECK(zero.v[2] == 0xbc57ac4cu);
  CHECK(zero.v[3] == 0x9b00dbd8u);
  const std::uint64_t ones = ~std::uint64_t{0};
  const philox_block all = philox(ones, ones, ones);
  CHECK(all.v[0] == 0x408f276du);
  CHECK(all.v[1] == 0x41c83b0eu);
  CHECK(all.v[2] == 0xa20bc7c6u);
  CHECK(all.v[3] == 0x6d5451fdu);
}

TEST_CASE("uniform and normal numbers have the right moments") {
  random_stream r{7};
  const int n = 200000;
  double mean = 0, square = 0, u = 0;
  for (int i = 0; i < n; ++i) {
    const double x = r.normal();
    mean += x;
    square += x * x;
    const double v = r.uniform(2, 4);
    REQUIRE(v >= 2);
    REQUIRE(v < 4);
    u += v;
  }
  // five standard errors of each mean
  CHECK(std::abs(mean / n) < 5 / std::sqrt(n));
  CHECK(std::abs(square / n - 1) < 5 * std::sqrt(2.0 / n));
  CHECK(std::abs(u / n - 3) < 5 * std::sqrt(4.0 / 12 / n));
}

TEST_CASE("below is in range and reaches every value") {
  random_stream r{1};
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t v = r.below(7);
    REQUIRE(v < 7);
    seen.insert(v);
  }
  CHECK(seen.size() == 7);
}

TEST_CASE("a stream is resumed from its three numbers, and forks differ by the whole path") {
  random_stream a{3};
  a.normal();
  random_stream b{a.seed, a.stream, a.counter};
  CHECK(a.bits() == b.bits());
  const random_stream r{3};
  std::set<std::uint64_t> first;
  for (auto s : {r.fork("a"), r.fork("b"), r.fork("a").fork("b"), r.fork("b").fork("a"),
                 r.fork("a").fork("a"), r.fork("ab")})
    first.insert(s.bits());
  CHECK(first.size() == 6);
}
