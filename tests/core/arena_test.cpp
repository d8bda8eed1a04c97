// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Arenas: frames, growth, repeating addresses, poison.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "mlmamba/core/context.hpp"

using namespace mlmamba;

TEST_CASE("memory is aligned, disjoint, and NaN until written") {
  arena<memory::host> a;
  auto frame = a.make_frame();
  auto x = a.make<float>(shape<2>{{3, 5}});
  auto y = a.make<double>(shape<1>{{7}});
  CHECK(reinterpret_cast<std::uintptr_t>(x.data) % 256 == 0);
  CHECK(reinterpret_cast<std::uintptr_t>(y.data) % 256 == 0);
  CHECK(static_cast<void*>(y.data) >= static_cast<void*>(x.data + 15));
  for (index_t i = 0; i < 15; ++i) CHECK(std::isnan(x.data[i]));
  CHECK_THROWS_AS(a.make<float>(shape<1>{{-1}}), shape_error);
}

TEST_CASE("a frame releases what came after it, and released memory is NaN again") {
  arena<memory::host> a;
  auto outer = a.make_frame();
  float* p = nullptr;
  {
    auto inner = a.make_frame();
    auto x = a.make<float>(shape<1>{{100}});
    p = x.data;
    x(0) = 1;
  }
  CHECK(std::isnan(*p));
  CHECK(a.make<float>(shape<1>{{100}}).data == p);
}

TEST_CASE("after the first pass an arena neither grows nor moves: addresses repeat") {
  arena<memory::host> a;
  auto pass = [&] {
    std::vector<void*> addresses;
    auto frame = a.make_frame();
    for (index_t n = 1; n < 40; ++n) addresses.push_back(a.make<float>(shape<1>{{n * 10000}}).data);
    return addresses;
  };
  pass();  // grows by blocks, merged at the end
  const auto first = pass();
  const std::size_t capacity = a.capacity();
  CHECK(pass() == first);
  CHECK(pass() == first);
  CHECK(a.capacity() == capacity);
  CHECK(a.peak() <= capacity);
}

TEST_CASE("an empty array is there") {
  arena<memory::host> a;
  auto frame = a.make_frame();
  CHECK(bool(a.make<float>(shape<2>{{0, 5}})));
}
