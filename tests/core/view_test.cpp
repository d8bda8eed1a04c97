// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Views and tensors: strides, slices, ownership.
#include <doctest/doctest.h>

#include <numeric>
#include <utility>

#include "mlmamba/core/check.hpp"
#include "mlmamba/core/tensor.hpp"

using namespace mlmamba;

// Names that programs have themselves, and test frameworks too, stay free under the
// using-directive.
static int check(int n) { return n; }
static int given(int n) { return check(n); }

static tensor<float, 3> counted(index_t a, index_t b, index_t c) {
  tensor<float, 3> t({a, b, c});
  std::iota(t.data(), t.data() + t.count(), 0.0f);
  return t;
}

TEST_CASE("a view addresses its elements last index fastest") {
  auto t = counted(2, 3, 4);
  CHECK(t(1, 2, 3) == 23);
  CHECK(t.view().select(0, 1)(2, 3) == 23);
  CHECK(t.view().slice(2, 1, 2)(1, 2, 1) == 22);
  CHECK(t.view().transposed()(1, 3, 2) == 23);
  CHECK(t.view().transposed(0, 2)(3, 2, 1) == 23);
  CHECK(t.view().split(2, 2)(1, 2, 1, 1) == 23);
  CHECK(t.view().flat()(23) == 23);
  CHECK(t.view().reshape(shape<2>{{6, 4}})(5, 3) == 23);
}

TEST_CASE("a strided view is not contiguous and cannot be reshaped") {
  auto t = counted(2, 3, 4);
  CHECK(t.view().contiguous());
  CHECK_FALSE(t.view().slice(2, 0, 2).contiguous());
  CHECK(t.view().slice(2, 0, 1).slice(1, 0, 1).slice(0, 0, 1).contiguous());
  CHECK_THROWS_WITH_AS(t.view().slice(2, 0, 2).flat(),
                       "view: cannot reshape a view of 12 strided elements to 12", shape_error);
}

TEST_CASE("rows merges leading axes, also of a slice of the last axis") {
  auto t = counted(2, 3, 4);
  const auto r = rows(t.view().slice(2, 1, 2));
  CHECK(r.size[0] == 6);
  CHECK(r.size[1] == 2);
  CHECK(r(5, 1) == 22);
  CHECK_THROWS_AS(rows(t.view().slice(1, 0, 2)), shape_error);
  CHECK(rows(t.view().slice(1, 0, 2).slice(0, 0, 1)).size[0] == 2);
}

TEST_CASE("copying a tensor copies, aliasing shares, moving leaves nothing behind") {
  auto a = counted(1, 2, 3);
  auto b = a;
  auto c = a.alias();
  a(0, 0, 0) = 7;
  CHECK(b(0, 0, 0) == 0);
  CHECK(c(0, 0, 0) == 7);
  auto d = std::move(a);
  CHECK(d(0, 0, 0) == 7);
  CHECK_FALSE(bool(a));  // NOLINT: a moved-from tensor is empty
  CHECK(a.count() == 0);
}

TEST_CASE("new tensors are zero, empty ones are there, negative sizes are refused") {
  tensor<float, 2> z({0, 5});
  CHECK(bool(z));
  CHECK(z.count() == 0);
  CHECK(counted(0, 2, 2).count() == 0);
  tensor<double, 1> t({100});
  for (index_t i = 0; i < 100; ++i) CHECK(t(i) == 0);
  CHECK_THROWS_AS((tensor<float, 2>({-1, 5})), shape_error);
}

TEST_CASE("a program may call its functions check and given") { CHECK(given(3) == 3); }

TEST_CASE("checks name the operand, what was given and what is wanted") {
  auto t = counted(2, 3, 4);
  CHECK_THROWS_WITH_AS(ops::check::size("op", "x", t.view(), shape<3>{{2, ops::check::any, 5}}),
                       "op: x is (2, 3, 4); wanted is (2, *, 5)", shape_error);
  CHECK_THROWS_WITH_AS(ops::check::given("op", "x", view<float, 2>{}),
                       "op: x is missing; wanted is an array of rank 2", shape_error);
  CHECK_THROWS_WITH_AS(ops::check::unit_stride("op", "x", t.view().transposed()),
                       "op: x has stride 4 over its last axis; wanted is 1", shape_error);
}
