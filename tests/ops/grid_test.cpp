// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Pooling, pixel shuffle and depthwise convolution of grids: gradients, contract, every backend.
#include "ops/grid_cases.hpp"

#include "mlmamba/verify/gradcheck.hpp"
#include "ops/engine_checks.hpp"

using namespace mlmamba;
using verify::conv2d_options;
using verify::pool_options;
using verify::shuffle_options;

namespace {
std::vector<pool_options> pools() {
  return {{},
          {.rows = 3, .columns = 5, .out_rows = 3, .out_columns = 5},  // the identity
          {.rows = 5, .columns = 7, .out_rows = 1, .out_columns = 1},  // the mean
          {.rows = 5, .columns = 4, .out_rows = 3, .out_columns = 3},  // windows overlap
          {.rows = 2, .columns = 2, .out_rows = 5, .out_columns = 3},  // enlarging
          {.batch = 0}};
}
std::vector<shuffle_options> shuffles() {
  std::vector<shuffle_options> all;
  for (bool inverse : {false, true}) {
    all.push_back({.inverse = inverse});
    all.push_back(
        {.batch = 1, .rows = 3, .columns = 3, .factor = 3, .width = 2, .inverse = inverse});
    all.push_back({.factor = 1, .inverse = inverse});
    all.push_back({.batch = 0, .inverse = inverse});
  }
  return all;
}
std::vector<conv2d_options> convolutions() {
  std::vector<conv2d_options> all;
  for (index_t rows : {1, 2, 4})
    for (index_t columns : {1, 3})
      for (bool bias : {false, true})
        all.push_back({.rows = rows, .columns = columns, .bias = bias});
  all.push_back({.batch = 0});
  return all;
}
std::vector<pool_options> large_pools() {
  return {{.batch = 1, .rows = 27, .columns = 27, .out_rows = 14, .out_columns = 14, .width = 70},
          {.rows = 9, .columns = 5, .out_rows = 4, .out_columns = 5, .width = 37}};
}
std::vector<shuffle_options> large_shuffles() {
  return {{.rows = 12, .columns = 6, .width = 50},
          {.rows = 12, .columns = 6, .width = 50, .inverse = true}};
}
std::vector<conv2d_options> large_convolutions() {
  return {{.rows = 14, .columns = 14, .width = 37}, {.rows = 6, .columns = 9, .width = 260}};
}
}  // namespace

TEST_SUITE("grid_test") {
  TEST_CASE("backward is the derivative of forward") {
    for (const pool_options& o : pools()) {
      const auto g = verify::gradcheck_case<verify::adaptive_pool_case>(3, o);
      CHECK_MESSAGE(g.worst < 1e-12, g.where, ": ", g.worst, " ", o.rows, " x ", o.columns);
    }
    for (const shuffle_options& o : shuffles())
      CHECK(verify::gradcheck_case<verify::pixel_shuffle_case>(3, o).worst < 1e-12);
    for (const conv2d_options& o : convolutions()) {
      const auto g = verify::gradcheck_case<verify::depthwise_conv2d_case>(3, o);
      CHECK_MESSAGE(g.worst < 1e-12, g.where, ": ", g.worst, " ", o.rows, " x ", o.columns);
    }
  }

  TEST_CASE("27 to 14: the windows are (0, 2), (1, 4), (3, 6) ... (25, 27)") {
    // x is 1 at one row only, so y tells which windows hold that row and how long they are.
    context<backend::reference> ctx;
    tensor<double, 3> x({1, 27, 1}), y({1, 14, 1});
    for (index_t row = 0; row < 27; ++row) {
      for (index_t i = 0; i < 27; ++i) x(0, i, 0) = i == row ? 1 : 0;
      run(ctx, ops::adaptive_pool<exact>{
                   .x = x, .y = y, .rows = 27, .columns = 1, .out_rows = 14, .out_columns = 1});
      for (index_t i = 0; i < 14; ++i) {
        const index_t from = i == 0 ? 0 : 2 * i - 1, to = i == 13 ? 27 : 2 * i + 2;
        CHECK(y(0, i, 0) == (row >= from && row < to ? 1.0 / double(to - from) : 0.0));
      }
    }
  }

  TEST_CASE("pixel shuffle keeps every number, and inverse undoes it") {
    context<backend::reference> ctx;
    tensor<float, 3> x({1, 24, 2}), y({1, 6, 8}), back({1, 24, 2});
    for (index_t i = 0; i < 48; ++i) x.data()[i] = float(i);
    ops::pixel_shuffle<reference_f32> op{.x = x, .y = y, .rows = 4, .columns = 6, .factor = 2};
    run(ctx, op);
    // token (1, 2) of the coarse grid holds fine tokens (2, 4), (2, 5), (3, 4), (3, 5)
    const index_t fine[] = {2 * 6 + 4, 2 * 6 + 5, 3 * 6 + 4, 3 * 6 + 5};
    for (index_t k = 0; k < 8; ++k) CHECK(y(0, 5, k) == float(fine[k / 2] * 2 + k % 2));
    op.x = y, op.y = back, op.inverse = true;
    run(ctx, op);
    for (index_t i = 0; i < 48; ++i) CHECK(back.data()[i] == x.data()[i]);
  }

  TEST_CASE("contract") {
    context<backend::reference> ctx;
    tensor<float, 3> x({1, 6, 2}), y({1, 4, 2});
    tensor<float, 3> w({2, 3, 3});
    using E = reference_f32;
    CHECK_THROWS_WITH_AS(
        run(ctx,
            ops::adaptive_pool<E>{
                .x = x, .y = y, .rows = 2, .columns = 2, .out_rows = 2, .out_columns = 2}),
        "adaptive_pool: there are 6 tokens in x and its grid is 2 x 2; wanted is a grid of all "
        "tokens",
        shape_error);
    CHECK_THROWS_WITH_AS(
        run(ctx, ops::pixel_shuffle<E>{.x = x, .y = y, .rows = 2, .columns = 3, .factor = 2}),
        "pixel_shuffle: the grid is 2 x 3 and the factor is 2; wanted is a factor that divides "
        "both",
        shape_error);
    CHECK_THROWS_WITH_AS(
        run(ctx, ops::depthwise_conv2d<E>{.x = x, .weight = w, .y = y, .rows = 2, .columns = 3}),
        "depthwise_conv2d: y is (1, 4, 2); wanted is (1, 6, 2)", shape_error);
  }

  TEST_CASE_TEMPLATE("equal to the reference in double", E, MLMAMBA_TEST_ENGINES) {
    verify::check_all<verify::adaptive_pool_case, E>(pools());
    verify::check_all<verify::adaptive_pool_case, E>(large_pools());
    verify::check_all<verify::pixel_shuffle_case, E>(shuffles());
    verify::check_all<verify::pixel_shuffle_case, E>(large_shuffles());
    verify::check_all<verify::depthwise_conv2d_case, E>(convolutions());
    verify::check_all<verify::depthwise_conv2d_case, E>(large_convolutions());
  }

  TEST_CASE_TEMPLATE("a picture is the same alone", E, MLMAMBA_TEST_ENGINES) {
    verify::check_alone<verify::adaptive_pool_case, E>(
        std::vector<pool_options>{
            {.batch = 3, .rows = 5, .columns = 4, .out_rows = 3, .out_columns = 3, .width = 19}},
        &pool_options::batch);
    verify::check_alone<verify::depthwise_conv2d_case, E>(
        std::vector<conv2d_options>{{.batch = 3, .width = 19}}, &conv2d_options::batch);
    verify::check_alone<verify::pixel_shuffle_case, E>(large_shuffles(), &shuffle_options::batch);
  }

#if !defined(__CUDACC__)
  TEST_CASE_TEMPLATE("threads and instructions", E, cpu_f32, cpu_bf16) {
    verify::check_threads<verify::adaptive_pool_case, E>(large_pools());
    verify::check_levels<verify::adaptive_pool_case, E>(large_pools());
    verify::check_threads<verify::pixel_shuffle_case, E>(large_shuffles());
    verify::check_levels<verify::pixel_shuffle_case, E>(large_shuffles());
    verify::check_threads<verify::depthwise_conv2d_case, E>(large_convolutions());
    verify::check_levels<verify::depthwise_conv2d_case, E>(large_convolutions());
  }
#endif
}
