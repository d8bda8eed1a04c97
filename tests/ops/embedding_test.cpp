// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Table look-ups: gradients, indices out of range, every backend.
#include "ops/embedding_cases.hpp"

#include "mlmamba/verify/gradcheck.hpp"
#include "ops/engine_checks.hpp"

using namespace mlmamba;
using verify::embedding_options;

namespace {
std::vector<embedding_options> all_cases() {
  return {{},
          {.tokens = 0},
          {.tokens = 1, .vocabulary = 1, .width = 1},
          {.tokens = 20, .vocabulary = 3, .width = 2},
          {.tokens = 150, .vocabulary = 9, .width = 200},
          {.tokens = 700, .vocabulary = 2, .width = 40},
          {.tokens = 192, .vocabulary = 1, .width = 3},
          {.tokens = 40, .vocabulary = 100, .width = 67}};
}
}  // namespace

TEST_SUITE("embedding_test") {
  TEST_CASE("backward is the derivative of forward, repeated indices add up") {
    for (const embedding_options& o : all_cases()) {
      if (o.tokens > 20) continue;
      const auto g = verify::gradcheck_case<verify::embedding_case>(3, o);
      CHECK_MESSAGE(g.worst < 1e-12, g.where, ": ", g.worst);
    }
  }

  TEST_CASE("contract") {
    context<backend::reference> ctx;
    using E = reference_f32;
    tensor<float, 2> table({4, 2}), y({3, 2}), wide({3, 3});
    tensor<std::int32_t, 1> index({3});
    CHECK_THROWS_WITH_AS(run(ctx, ops::embedding<E>{.index = index, .table = table, .y = wide}),
                         "embedding: y is (3, 3); wanted is (3, 2)", shape_error);
  }

  TEST_CASE_TEMPLATE("equal to the reference in double", E, MLMAMBA_TEST_ENGINES) {
    verify::check_all<verify::embedding_case, E>(all_cases());
  }

  TEST_CASE_TEMPLATE("a token is the same alone", E, MLMAMBA_TEST_ENGINES) {
    verify::check_alone<verify::embedding_case, E>(all_cases(), &verify::embedding_options::tokens);
  }

#if !defined(__CUDACC__)
  TEST_CASE_TEMPLATE("threads and instructions", E, cpu_f32, cpu_bf16) {
    verify::check_threads<verify::embedding_case, E>(all_cases());
    verify::check_levels<verify::embedding_case, E>(all_cases());
  }
#endif

#if !defined(__CUDACC__)
  TEST_CASE_TEMPLATE("an index out of range throws before anything is written", E,
                     MLMAMBA_TEST_ENGINES) {
    if (std::is_same_v<E, reference_f32>) return;  // it throws, but on the way
    context_of<E> ctx;
    using V = typename E::value;
    tensor<V, 2> table({4, 2}), y({3, 2}), dy({3, 2});
    tensor<typename E::accum, 2> dtable({4, 2});
    tensor<std::int32_t, 1> index({3});
    for (index_t i = 0; i < 8; ++i) table.data()[i] = V(1.0f);
    for (index_t i = 0; i < 6; ++i) dy.data()[i] = V(1.0f);
    for (std::int32_t bad : {4, -1}) {
      index(2) = bad;
      const std::string what = "index " + std::to_string(bad) + " at 2; wanted is 0 to 3";
      CHECK_THROWS_WITH_AS(run(ctx, ops::embedding<E>{.index = index, .table = table, .y = y}),
                           ("embedding: " + what).c_str(), shape_error);
      CHECK_THROWS_WITH_AS(
          run(ctx, ops::embedding_backward<E>{.index = index, .dy = dy, .dtable = dtable}),
          ("embedding_backward: " + what).c_str(), shape_error);
      for (index_t i = 0; i < 6; ++i) CHECK(float(y.data()[i]) == 0);
      for (index_t i = 0; i < 8; ++i) CHECK(float(dtable.data()[i]) == 0);
    }
  }
  TEST_CASE("a table of bf16 in a float model") {
    using E = on<backend::cpu, float, float, bf16>;
    context<backend::cpu> ctx;
    tensor<bf16, 2> table({3, 5});
    for (index_t i = 0; i < 15; ++i) table.data()[i] = bf16(float(i));
    tensor<float, 2> y({2, 5});
    tensor<std::int32_t, 1> index({2});
    index(0) = 2;
    run(ctx, ops::embedding<E>{.index = index, .table = table, .y = y});
    for (index_t i = 0; i < 10; ++i) CHECK(y.data()[i] == float(i < 5 ? i + 10 : i - 5));
  }
#endif
}
