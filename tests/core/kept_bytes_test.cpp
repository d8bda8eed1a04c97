// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Memory of weights: shared blocks, zeros, copies.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "mlmamba/core/kept_bytes.hpp"

namespace mlmamba {
namespace {

bool all(const kept_bytes& a, unsigned char v) {
  return std::all_of(a.data(), a.data() + a.bytes(),
                     [&](std::byte b) { return b == std::byte(v); });
}

TEST_SUITE("kept_bytes") {
  TEST_CASE("arrays of all sizes are aligned, zero, and nobody else's") {
    std::vector<kept_bytes> arrays;
    // Below what shares a block; several blocks' worth of what does; above it.
    for (const int n : {0, 1, 65535, 65536, 65537, 9000001, 9000001, 9000001, 9000001, 20000000})
      arrays.emplace_back(std::size_t(n));
    for (std::size_t i = 0; i < arrays.size(); ++i) {
      CHECK(reinterpret_cast<std::uintptr_t>(arrays[i].data()) % 64 == 0);
      CHECK(all(arrays[i], 0));
      if (arrays[i].bytes()) std::memset(arrays[i].data(), int(i + 1), arrays[i].bytes());
    }
    for (std::size_t i = 0; i < arrays.size(); i += 2) arrays[i] = {};  // neighbours go
    for (std::size_t i = 1; i < arrays.size(); i += 2)
      CHECK(all(arrays[i], (unsigned char)(i + 1)));
    CHECK(all(kept_bytes(300000), 0));  // not what was released
  }

  TEST_CASE("copying copies, moving moves") {
    kept_bytes a(100000);
    std::memset(a.data(), 7, a.bytes());
    kept_bytes b = a;
    REQUIRE(b.bytes() == a.bytes());
    CHECK(b.data() != a.data());
    CHECK(all(b, 7));
    std::memset(a.data(), 1, a.bytes());
    CHECK(all(b, 7));
    const std::byte* const p = b.data();
    const kept_bytes c = std::move(b);
    CHECK(c.data() == p);
    CHECK(b.bytes() == 0);
    kept_bytes empty, other = empty;
    CHECK(other.bytes() == 0);
  }
}

}  // namespace
}  // namespace mlmamba
