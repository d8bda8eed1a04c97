// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Scan orders: permutations, their inverses, every backend.
#include "ops/scan_order_cases.hpp"

#include "mlmamba/verify/gradcheck.hpp"
#include "ops/engine_checks.hpp"

using namespace mlmamba;
using ops::scan_direction;
using verify::scan_order_options;

namespace {
constexpr scan_direction directions[] = {scan_direction::raster, scan_direction::reverse,
                                         scan_direction::column, scan_direction::column_reverse,
                                         scan_direction::snake};
std::vector<index_t> sequence(scan_direction d, index_t rows, index_t columns) {
  std::vector<index_t> s;
  for (index_t k = 0; k < rows * columns; ++k) s.push_back(ops::scan_source(d, k, rows, columns));
  return s;
}
std::vector<scan_order_options> large_cases() {
  std::vector<scan_order_options> all;
  for (scan_direction d : directions)
    for (int k = 0; k < 4; ++k)
      all.push_back({.rows = 13,
                     .columns = 7,
                     .width = 67,
                     .direction = d,
                     .inverse = (k & 1) != 0,
                     .strided = (k & 2) != 0});
  all.push_back({.rows = 0});
  return all;
}
}  // namespace

TEST_SUITE("scan_order_test") {
  TEST_CASE("the order of a 2 x 3 grid") {
    using v = std::vector<index_t>;
    CHECK(sequence(scan_direction::raster, 2, 3) == v{0, 1, 2, 3, 4, 5});
    CHECK(sequence(scan_direction::reverse, 2, 3) == v{5, 4, 3, 2, 1, 0});
    CHECK(sequence(scan_direction::column, 2, 3) == v{0, 3, 1, 4, 2, 5});
    CHECK(sequence(scan_direction::column_reverse, 2, 3) == v{5, 2, 4, 1, 3, 0});
    CHECK(sequence(scan_direction::snake, 2, 3) == v{0, 1, 2, 5, 4, 3});
  }

  TEST_CASE("every order is a permutation, and inverse undoes it") {
    context<backend::reference> ctx;
    using E = reference_f32;
    for (scan_direction d : directions)
      for (index_t rows : {1, 2, 3, 5})
        for (index_t columns : {1, 2, 4, 7}) {
          const index_t n = rows * columns;
          tensor<float, 3> x({2, n, 1}), y({2, n, 1}), back({2, n, 1});
          for (index_t i = 0; i < 2 * n; ++i) x.data()[i] = float(i);
          ops::scan_order<E> op{
              .x = x, .y = y, .direction = d, .grid_rows = rows, .grid_columns = columns};
          run(ctx, op);
          std::vector<bool> seen(std::size_t(2 * n));
          for (index_t i = 0; i < 2 * n; ++i) seen[std::size_t(y.data()[i])] = true;
          for (bool s : seen) CHECK(s);
          op.x = y, op.y = back, op.inverse = true;
          run(ctx, op);
          for (index_t i = 0; i < 2 * n; ++i) CHECK(back.data()[i] == x.data()[i]);
        }
  }

  TEST_CASE("backward is the derivative of forward") {
    for (scan_direction d : directions)
      for (int k = 0; k < 4; ++k) {
        const auto g = verify::gradcheck_case<verify::scan_order_case>(
            3,
            scan_order_options{.direction = d, .inverse = (k & 1) != 0, .strided = (k & 2) != 0});
        CHECK_MESSAGE(g.worst < 1e-12, g.where, ": ", g.worst);
      }
    CHECK(verify::gradcheck_case<verify::scan_order_case>(3, scan_order_options{.rows = 0}).worst ==
          0);
  }

  TEST_CASE("contract") {
    context<backend::reference> ctx;
    tensor<float, 3> x({1, 6, 2});
    tensor<float, 3> y({1, 6, 2});
    using E = reference_f32;
    CHECK_THROWS_WITH_AS(
        run(ctx, ops::scan_order<E>{.x = x, .y = y, .grid_rows = 2, .grid_columns = 4}),
        "scan_order: x is (1, 6, 2) and the grid is 2 x 4; wanted is a grid of all tokens",
        shape_error);
  }

  TEST_CASE_TEMPLATE("equal to the reference in double", E, MLMAMBA_TEST_ENGINES) {
    verify::check_all<verify::scan_order_case, E>(large_cases());
  }

  TEST_CASE_TEMPLATE("a picture is the same alone", E, MLMAMBA_TEST_ENGINES) {
    verify::check_alone<verify::scan_order_case, E>(large_cases(), &scan_order_options::batch);
  }

#if !defined(__CUDACC__)
  TEST_CASE_TEMPLATE("threads and instructions", E, cpu_f32, cpu_bf16) {
    verify::check_threads<verify::scan_order_case, E>(large_cases());
    verify::check_levels<verify::scan_order_case, E>(large_cases());
  }
#endif
}
