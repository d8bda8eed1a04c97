// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// AdamW: what a step does, contract, every backend.
#include "ops/adamw_cases.hpp"

#include "ops/engine_checks.hpp"

using namespace mlmamba;
using verify::adamw_options;

namespace {
std::vector<adamw_options> all_cases() {
  std::vector<adamw_options> all;
  for (index_t n : {0, 1, 15, 16, 17, 100, 30000})
    for (bool master : {false, true}) all.push_back({.n = n, .master = master});
  all.push_back({.n = 40, .weight_decay = 0, .grad_scale = 0.25, .step = 1});
  all.push_back({.n = 40, .master = true, .grad_scale = 3, .step = 100000});
  return all;
}
}  // namespace

TEST_SUITE("adamw_test") {
  TEST_CASE("the first step moves by the learning rate against the sign of the gradient") {
    context<backend::reference> ctx;
    tensor<double, 1> w({2}), g({2}), m({2}), v({2});
    w(0) = 1, w(1) = -1, g(0) = 3, g(1) = -0.01;
    run(ctx, ops::adamw<exact>{
                 .weight = w, .grad = g, .m = m, .v = v, .learning_rate = 0.5, .epsilon = 0});
    CHECK(w(0) == doctest::Approx(0.5).epsilon(1e-12));
    CHECK(w(1) == doctest::Approx(-0.5).epsilon(1e-12));
  }

  TEST_CASE("weight decay is decoupled: it acts without a gradient") {
    context<backend::reference> ctx;
    tensor<double, 1> w({1}), g({1}), m({1}), v({1});
    w(0) = 2;
    run(ctx,
        ops::adamw<exact>{
            .weight = w, .grad = g, .m = m, .v = v, .learning_rate = 0.1, .weight_decay = 0.5});
    CHECK(w(0) == doctest::Approx(2 * (1 - 0.1 * 0.5)).epsilon(1e-12));
    CHECK(m(0) == 0);
  }

  TEST_CASE("contract") {
    context<backend::reference> ctx;
    using E = reference_f32;
    tensor<float, 1> w({3}), g({3}), m({3}), v({2});
    CHECK_THROWS_WITH_AS(run(ctx, ops::adamw<E>{.weight = w, .grad = g, .m = m, .v = v}),
                         "adamw: v is (2); wanted is (3)", shape_error);
    CHECK_THROWS_WITH_AS(run(ctx, ops::adamw<E>{.weight = w, .grad = g, .m = m, .v = m, .step = 0}),
                         "adamw: step is 0; wanted is at least 1", shape_error);
  }

  TEST_CASE_TEMPLATE("equal to the reference in double", E, MLMAMBA_TEST_ENGINES) {
    verify::check_all<verify::adamw_case, E>(all_cases());
  }

#if !defined(__CUDACC__)
  TEST_CASE_TEMPLATE("threads and instructions", E, cpu_f32, cpu_bf16) {
    verify::check_threads<verify::adamw_case, E>(all_cases());
    verify::check_levels<verify::adamw_case, E>(all_cases());
  }

  TEST_CASE("weights are the rounded master") {
    context<backend::cpu> ctx;
    verify::adamw_case<cpu_bf16> a({.n = 50, .master = true}), b({.n = 50, .master = true});
    verify::randomise(a, b, 3);
    a.forward(ctx);
    for (index_t i = 0; i < 50; ++i) CHECK(a.weight(i).bits == bf16(a.master(i)).bits);
  }
#endif
}
