// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Softmax attention: gradients, contract, every backend.
#include "ops/attention_cases.hpp"

#include "mlmamba/verify/gradcheck.hpp"
#include "ops/drawn.hpp"
#include "ops/engine_checks.hpp"

using namespace mlmamba;
using verify::attention_options;

namespace {

std::vector<attention_options> small_cases() {
  std::vector<attention_options> all;
  for (index_t queries : {0, 1, 4})
    for (index_t keys : {0, 1, 2, 6})
      for (bool causal : {false, true})
        all.push_back({.queries = queries, .keys = keys, .causal = causal});
  for (bool causal : {false, true})
    all.push_back(
        {.batch = 1, .queries = 5, .keys = 5, .heads = 3, .causal = causal, .fused = true});
  all.push_back({.batch = 0});
  all.push_back({.batch = 1, .heads = 1, .width = 1});
  return all;
}

/// Around vectors and blocks of 16, 32, 64, 128 and 256, head sizes of the vision towers.
std::vector<attention_options> large_cases() {
  return {{.batch = 1, .queries = 36, .keys = 36, .heads = 3, .width = 32, .fused = true},
          {.batch = 1, .queries = 65, .keys = 65, .heads = 1, .width = 72, .fused = true},
          {.batch = 2, .queries = 33, .keys = 129, .heads = 2, .width = 64},
          {.batch = 1, .queries = 70, .keys = 300, .heads = 1, .width = 5},
          {.batch = 1, .queries = 130, .keys = 290, .heads = 1, .width = 17, .causal = true},
          {.batch = 1, .queries = 290, .keys = 140, .heads = 1, .width = 8, .causal = true},
          {.batch = 2, .queries = 130, .keys = 190, .heads = 2, .width = 64, .causal = true},
          {.batch = 1, .queries = 140, .keys = 140, .heads = 2, .width = 104, .fused = true},
          {.batch = 1, .queries = 17, .keys = 270, .heads = 2, .width = 40},
          {.batch = 1, .queries = 50, .keys = 33, .heads = 1, .width = 80, .causal = true},
          {.batch = 1, .queries = 64, .keys = 128, .heads = 1, .width = 128},
          {.batch = 1, .queries = 129, .keys = 63, .heads = 2, .width = 72, .causal = true},
          {.batch = 2, .queries = 63, .keys = 193, .heads = 1, .width = 80, .causal = true},
          {.batch = 1, .queries = 200, .keys = 130, .heads = 2, .width = 128, .causal = true},
          {.batch = 1, .queries = 200, .keys = 70, .heads = 2, .width = 24, .causal = true},
          // rows that begin at odd elements, or at whole vectors
          {.batch = 2, .queries = 70, .keys = 70, .width = 64, .fused = true, .spare = 1},
          {.batch = 2, .queries = 70, .keys = 70, .width = 72, .fused = true, .spare = 8}};
}

}  // namespace

TEST_SUITE("attention_test") {
  TEST_CASE("backward is the derivative of forward") {
    for (const attention_options& o : small_cases()) {
      const auto g = verify::gradcheck_case<verify::attention_case>(3, o);
      CHECK_MESSAGE(g.worst < 1e-12, g.where, ": ", g.worst, " T ", o.queries, " S ", o.keys);
    }
  }

  TEST_CASE("causal: the last query sees all keys, a query before the first key sees none") {
    context<backend::reference> ctx;
    const attention_options o{
        .batch = 1, .queries = 4, .keys = 2, .heads = 1, .width = 2, .causal = true};
    verify::attention_case<exact> c(o), d(o);
    verify::randomise(c, d, 1);
    c.forward(ctx);
    for (index_t i : {0, 1}) {
      CHECK(c.y(0, i, 0, 0) == 0);
      CHECK(c.log_sum_exp(0, 0, i) == -std::numeric_limits<double>::infinity());
    }
    CHECK(c.y(0, 2, 0, 1) == doctest::Approx(c.v(0, 0, 0, 1)).epsilon(1e-14));  // sees key 0 only
    const double before = c.y(0, 3, 0, 0);
    c.v(0, 1, 0, 0) += 1;
    c.forward(ctx);
    CHECK(c.y(0, 3, 0, 0) > before);
  }

  TEST_CASE("large scores do not overflow") {
    context<backend::reference> ctx;
    const attention_options o{.batch = 1, .queries = 3, .keys = 4, .heads = 1};
    verify::attention_case<exact> c(o), d(o);
    verify::randomise(c, d, 2);
    for (index_t j = 0; j < c.k.count(); ++j) c.k.data()[j] *= 1e6;
    c.forward(ctx);
    for (index_t j = 0; j < c.y.count(); ++j) CHECK(std::isfinite(c.y.data()[j]));
  }

  TEST_CASE("contract") {
    context<backend::reference> ctx;
    tensor<float, 4> q({1, 2, 3, 4}), k({1, 5, 3, 4}), few_heads({1, 5, 2, 4});
    using E = reference_f32;
    CHECK_THROWS_WITH_AS(run(ctx, ops::attention<E>{.q = q, .k = few_heads, .v = k, .y = q}),
                         "attention: k is (1, 5, 2, 4); wanted is (1, *, 3, 4)", shape_error);
    CHECK_THROWS_WITH_AS(run(ctx, ops::attention<E>{.q = q, .k = k, .v = q, .y = q}),
                         "attention: v is (1, 2, 3, 4); wanted is (1, 5, 3, 4)", shape_error);
    CHECK_THROWS_WITH_AS(run(ctx, ops::attention<E>{.q = q, .k = k, .v = k, .y = k}),
                         "attention: y is (1, 5, 3, 4); wanted is (1, 2, 3, 4)", shape_error);
    tensor<float, 4> turned({1, 2, 4, 4});
    CHECK_THROWS_WITH_AS(
        run(ctx,
            ops::attention<E>{
                .q = turned.view().transposed(2, 3), .k = turned, .v = turned, .y = turned}),
        "attention: q has stride 4 over its last axis; wanted is 1", shape_error);
  }

  TEST_CASE_TEMPLATE("equal to the reference in double", E, MLMAMBA_TEST_ENGINES) {
    verify::check_all<verify::attention_case, E>(small_cases());
    verify::check_all<verify::attention_case, E>(large_cases());
  }

  TEST_CASE_TEMPLATE("what log_sum_exp is", E, MLMAMBA_TEST_ENGINES) {
    context_of<E> ctx;
    context<backend::reference> plain;
    const attention_options o{.batch = 1, .queries = 40, .keys = 300, .causal = true};
    verify::attention_case<E> c(o);
    verify::attention_case<exact> x(o);
    verify::randomise(c, x, 9);
    c.forward(ctx);
    x.forward(plain);
    const auto got = to_host(c.log_sum_exp.view());
    for (index_t i = 0; i < got.count(); ++i)  // values are exact in both: an error of accum only
      CHECK(double(got.data()[i]) == doctest::Approx(x.log_sum_exp.data()[i]).epsilon(2e-6));
  }

  TEST_CASE_TEMPLATE("the same bits again", E, MLMAMBA_TEST_ENGINES) {
    context_of<E> ctx;
    for (index_t width : {64, 72, 128})
      CHECK(verify::same_bits<verify::attention_case, E>(ctx, ctx, 4,
                                                         attention_options{.batch = 1,
                                                                           .queries = 200,
                                                                           .keys = 140,
                                                                           .heads = 1,
                                                                           .width = width,
                                                                           .causal = true}));
  }

  TEST_CASE_TEMPLATE("large scores have gradients", E, MLMAMBA_TEST_ENGINES) {
    // With all scores of a query far below zero, what it sees of no key must not overflow.
    context_of<E> ctx;
    const attention_options o{.batch = 1, .queries = 70, .keys = 2, .heads = 1, .width = 64};
    verify::attention_case<E> c(o), same(o);
    verify::randomise(c, same, 5, 12);
    verify::run_case(c, ctx);
    const auto log_sums = to_host(c.log_sum_exp.view());
    double least = 0;
    for (index_t i = 0; i < log_sums.count(); ++i)
      least = std::min(least, double(log_sums.data()[i]));
    CHECK(least < -100);
    for (const verify::array& a : verify::results(c))
      for (double v : a.values) CHECK(std::isfinite(v));
  }

#if !defined(__CUDACC__)
  TEST_CASE("where one key has all the weight, scores have no gradient") {
    // p is e to a difference of numbers in the thousands: it adds up to 1 to some 1e-4 only.
    context_of<cpu_f32> ctx;
    const attention_options o{.batch = 1, .queries = 6, .keys = 5, .heads = 2, .width = 121};
    verify::attention_case<cpu_f32> c(o), same(o);
    verify::randomise(c, same, 5);
    for (index_t i = 0; i < c.q.count(); ++i) c.q.data()[i] *= 300;
    for (index_t i = 0; i < c.k.count(); ++i) c.k.data()[i] *= 300;
    verify::run_case(c, ctx);
    double most = 0;
    for (index_t i = 0; i < c.dq.count(); ++i)
      if (verify::is_worse(std::abs(double(c.dq.data()[i])), most))
        most = std::abs(double(c.dq.data()[i]));
    CHECK(most < 1e-3);
  }
#endif

  TEST_CASE_TEMPLATE("a picture is the same alone", E, MLMAMBA_TEST_ENGINES) {
    context_of<E> ctx;
    attention_options whole{.batch = 3, .queries = 37, .keys = 37, .width = 24, .fused = true}, one;
    one = whole;
    one.batch = 1;
    CHECK(verify::alone_is_the_same<verify::attention_case, E>(ctx, 1, 3, whole,
                                                               [&](index_t) { return one; }));
  }

#if !defined(__CUDACC__)
  TEST_CASE_TEMPLATE("drawn options", E, cpu_f32, cpu_bf16) {
    const auto options = [](verify::draw& d) {
      attention_options o;
      o.batch = d.size(3), o.queries = d.size(100), o.heads = d.size(3), o.width = d.size(130);
      o.causal = d.coin(), o.fused = d.coin(), o.spare = d.below(9);
      o.keys = o.fused ? o.queries : d.size(150);
      return o;
    };
    verify::check_drawn<verify::attention_case, E>(30, options, &attention_options::batch);
  }

  TEST_CASE_TEMPLATE("threads and instructions", E, cpu_f32, cpu_bf16) {
    verify::check_threads<verify::attention_case, E>(large_cases());
    verify::check_levels<verify::attention_case, E>(large_cases());
  }
#endif
}
