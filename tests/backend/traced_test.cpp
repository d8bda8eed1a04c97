// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The stopwatch backend: the same numbers, and a table of where the time went.
#include "mlmamba/backend/traced.hpp"

#include <doctest/doctest.h>

#include "mlmamba/backend/reference/elementwise.hpp"
#include "mlmamba/backend/reference/gemm.hpp"

using namespace mlmamba;

TEST_SUITE("traced_test") {
  TEST_CASE("ops run as on the parent, and are counted while tracing is on") {
    using E = on<backend::traced<backend::reference>, float>;
    context_of<E> ctx;
    tensor_of<E, 2> x({2, 3}), w({4, 3}), y({2, 4});
    for (int i = 0; i < 6; ++i) x.data()[i] = float(i);
    for (int i = 0; i < 12; ++i) w.data()[i] = float(i % 5);
    const ops::gemm<E> product{.x = x, .w = w, .y = y};
    run(ctx, product);
    CHECK(y(1, 2) == 3 * 1 + 4 * 2 + 5 * 3);
    CHECK(ctx.totals.empty());
    ctx.tracing = true;
    run(ctx, product);
    run(ctx, product);
    run(ctx, ops::add<E>{.a = y, .b = y, .y = y});
    REQUIRE(ctx.totals.size() == 2);
    CHECK(ctx.totals.at("gemm 2x3x4").calls == 2);
    CHECK(ctx.totals.at("gemm 2x3x4").flops == 2 * 2.0 * 2 * 3 * 4);
    CHECK(ctx.totals.at("add").calls == 1);
    const std::string table = ctx.table();
    CHECK(table.find("gemm 2x3x4") != std::string::npos);
    CHECK(table.find("all ops") != std::string::npos);
    ctx.clear_totals();
    CHECK(ctx.totals.empty());
  }
}
