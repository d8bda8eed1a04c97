// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Elementwise ops: gradients, contract, copies of every layout and type, every backend.
#include "ops/elementwise_cases.hpp"

#include "mlmamba/verify/gradcheck.hpp"
#include "ops/engine_checks.hpp"

using namespace mlmamba;
using verify::elementwise_options;

namespace {

constexpr activation activations[] = {activation::none,       activation::silu,
                                      activation::gelu,       activation::gelu_tanh,
                                      activation::quick_gelu, activation::relu};

std::vector<elementwise_options> small_cases() {
  std::vector<elementwise_options> all;
  for (activation act : activations) all.push_back({.rows = 2, .width = 7, .act = act});
  for (index_t rows : {0, 1, 3})
    for (index_t width : {0, 1, 5})
      for (bool strided : {false, true})
        all.push_back({.rows = rows,
                       .width = width,
                       .act = activation::silu,
                       .strided = strided,
                       .residual = rows == 3,
                       .scale = 0.5f});
  return all;
}

/// Sizes around vectors, blocks of activations and tasks.
std::vector<elementwise_options> large_cases() {
  std::vector<elementwise_options> all;
  for (activation act : activations)
    all.push_back({.rows = 9, .width = 300, .act = act, .strided = act == activation::gelu});
  for (index_t width : {15, 16, 17, 31, 33, 63, 255, 257, 1000})
    all.push_back({.rows = 5, .width = width, .act = activation::silu, .residual = true});
  all.push_back({.rows = 3, .width = 30000, .act = activation::quick_gelu, .scale = 0.25f});
  all.push_back({.rows = 500, .width = 70, .act = activation::silu, .strided = true});
  return all;
}

template <template <class> class Case>
double worst_gradient() {
  double worst = 0;
  for (const elementwise_options& o : small_cases()) {
    const auto g = verify::gradcheck_case<Case>(4, o);
    if (verify::is_worse(g.worst, worst)) worst = g.worst;
    CHECK_MESSAGE(g.worst < 1e-12, g.where, " activation ", to_string(o.act));
  }
  return worst;
}

template <engine E, class To, class From, int R>
void check_copy(context_of<E>& ctx, view<const From, R> x, view<To, R> y) {
  run(ctx, ops::copy<typename E::backend, To, From, R>{.x = x, .y = y});
}

}  // namespace

TEST_SUITE("elementwise_test") {
  TEST_CASE("backward is the derivative of forward") {
    CHECK(worst_gradient<verify::activate_case>() < 1e-12);
    CHECK(worst_gradient<verify::gated_case>() < 1e-12);
    CHECK(worst_gradient<verify::channel_scale_case>() < 1e-12);
    CHECK(worst_gradient<verify::add_position_case>() < 1e-12);
    CHECK(worst_gradient<verify::negative_exp_case>() < 1e-12);
  }

  TEST_CASE("contract") {
    context<backend::reference> ctx;
    using E = reference_f32;
    tensor<float, 2> x({3, 4}), y({3, 4}), narrow({3, 3}), square({4, 4});
    tensor<float, 1> gamma({3});
    CHECK_THROWS_WITH_AS(run(ctx, ops::activate<E>{.x = x, .y = narrow}),
                         "activate: y is (3, 3); wanted is (3, 4)", shape_error);
    CHECK_THROWS_WITH_AS(run(ctx, ops::activate<E>{.y = y}),
                         "activate: x is missing; wanted is an array of rank 2", shape_error);
    CHECK_THROWS_WITH_AS(run(ctx, ops::activate<E>{.x = square.view().transposed(), .y = square}),
                         "activate: x has stride 4 over its last axis; wanted is 1", shape_error);
    CHECK_THROWS_WITH_AS(run(ctx, ops::channel_scale<E>{.x = x, .gamma = gamma, .y = y}),
                         "channel_scale: gamma is (3); wanted is (4)", shape_error);
    CHECK_THROWS_WITH_AS(run(ctx, ops::add<E>{.a = x, .b = narrow, .y = y}),
                         "add: b is (3, 3); wanted is (3, 4)", shape_error);
  }

  TEST_CASE_TEMPLATE("equal to the reference in double", E, MLMAMBA_TEST_ENGINES) {
    for (const auto& all : {small_cases(), large_cases()}) {
      verify::check_all<verify::activate_case, E>(all);
      verify::check_all<verify::gated_case, E>(all);
      verify::check_all<verify::channel_scale_case, E>(all);
      verify::check_all<verify::add_position_case, E>(all);
      verify::check_all<verify::negative_exp_case, E>(all);
      verify::check_all<verify::add_case, E>(all);
      verify::check_all<verify::copy_case, E>(all);
      verify::check_all<verify::fill_case, E>(all);
    }
  }

  TEST_CASE_TEMPLATE("a row is the same alone", E, MLMAMBA_TEST_ENGINES) {
    std::vector<elementwise_options> all;
    for (index_t width : {5, 70, 300})
      for (activation act : activations) all.push_back({.rows = 6, .width = width, .act = act});
    constexpr auto rows = &elementwise_options::rows;
    verify::check_alone<verify::activate_case, E>(all, rows);
    verify::check_alone<verify::gated_case, E>(all, rows);
    verify::check_alone<verify::channel_scale_case, E>(all, rows);
    verify::check_alone<verify::add_position_case, E>(all, rows);
    verify::check_alone<verify::negative_exp_case, E>(all, rows);
    verify::check_alone<verify::add_case, E>(all, rows);
  }

#if !defined(__CUDACC__)
  TEST_CASE_TEMPLATE("threads and instructions", E, cpu_f32, cpu_bf16) {
    verify::check_threads<verify::activate_case, E>(large_cases());
    verify::check_threads<verify::add_case, E>(large_cases());
    verify::check_threads<verify::copy_case, E>(large_cases());
    verify::check_threads<verify::fill_case, E>(large_cases());
    verify::check_threads<verify::negative_exp_case, E>(large_cases());
    verify::check_threads<verify::gated_case, E>(large_cases());
    verify::check_threads<verify::channel_scale_case, E>(large_cases());
    verify::check_threads<verify::add_position_case, E>(large_cases());
    verify::check_levels<verify::activate_case, E>(large_cases());
    verify::check_levels<verify::gated_case, E>(large_cases());
    verify::check_levels<verify::add_case, E>(large_cases());
    verify::check_levels<verify::copy_case, E>(large_cases());
    verify::check_levels<verify::negative_exp_case, E>(large_cases());
  }

  TEST_CASE_TEMPLATE("results overwrite their operands", E, MLMAMBA_TEST_ENGINES) {
    context_of<E> ctx;
    using V = typename E::value;
    tensor<V, 2> x({3, 50}), y({3, 50}), z({3, 50});
    random_stream r{6, 0, 0};
    for (index_t i = 0; i < x.count(); ++i) x.data()[i] = V(float(r.normal()));
    run(ctx, ops::activate<E>{.x = x, .y = y, .activation = activation::silu});
    run(ctx, ops::add<E>{.a = x, .b = y, .y = z});
    run(ctx, ops::activate<E>{.x = x, .y = x, .activation = activation::silu});
    for (index_t i = 0; i < x.count(); ++i) CHECK(float(x.data()[i]) == float(y.data()[i]));
  }

  TEST_CASE_TEMPLATE("activations keep NaN and infinity, and never overflow on the way", E,
                     MLMAMBA_TEST_ENGINES) {
    context_of<E> ctx;
    using V = typename E::value;
    const float inf = std::numeric_limits<float>::infinity();
    for (activation act : activations) {
      tensor<V, 2> x({1, 20}), y({1, 20});
      const float values[] = {std::nanf(""), inf, 200.0f, -200.0f, 1e30f, 0.0f};
      for (index_t i = 0; i < 20; ++i) x(0, i) = V(values[i % 6]);
      run(ctx, ops::activate<E>{.x = x, .y = y, .activation = act});
      const float last = act == activation::none ? -200.0f : 0.0f;
      for (index_t i = 0; i < 18; i += 6) {
        // max(NaN, 0) is 0 for relu, as comparisons have it
        if (act != activation::relu) CHECK(std::isnan(float(y(0, i))));
        CHECK(float(y(0, i + 1)) == inf);
        CHECK(float(y(0, i + 2)) == 200.0f);
        CHECK(float(y(0, i + 3)) == doctest::Approx(last));
        CHECK(float(y(0, i + 4)) == float(V(1e30f)));
        CHECK(float(y(0, i + 5)) == 0.0f);
      }
    }
  }

  TEST_CASE_TEMPLATE("copies of any layout", E, cpu_f32, reference_f32) {
    context_of<E> ctx;
    random_stream r{8, 0, 0};
    for (int round = 0; round < 60; ++round) {
      const shape<3> n{{1 + index_t(r.below(5)), index_t(r.below(40)), 1 + index_t(r.below(70))}};
      tensor<float, 3> x({n.n[0], n.n[1] + 2, n.n[2] + 1}), y(n), back(n);
      for (index_t i = 0; i < x.count(); ++i) x.data()[i] = float(i);
      const auto some = std::as_const(x).view().slice(1, 1, n.n[1]).slice(2, 0, n.n[2]);
      check_copy<E, float, float, 3>(ctx, some, y.view());
      tensor<float, 3> turned({n.n[2], n.n[0], n.n[1]});
      auto to = turned.view().transposed(0, 1).transposed(1, 2);  // (n0, n1, n2) in other order
      check_copy<E, float, float, 3>(ctx, std::as_const(y).view(), to);
      check_copy<E, float, float, 3>(ctx, view<const float, 3>(to), back.view());
      bool same = true;
      for (index_t a = 0; a < n.n[0]; ++a)
        for (index_t b = 0; b < n.n[1]; ++b)
          for (index_t c = 0; c < n.n[2]; ++c)
            same = same && y(a, b, c) == some(a, b, c) && back(a, b, c) == y(a, b, c) &&
                   turned(c, a, b) == y(a, b, c);
      CHECK_MESSAGE(same, "round ", round, ", sizes ", to_string(y.view()));
    }
  }

  TEST_CASE_TEMPLATE("copies convert as one number is converted", E, cpu_f32, reference_f32) {
    context_of<E> ctx;
    using B = typename E::backend;
    tensor<float, 1> x({200}), wide({200});
    random_stream r{9, 0, 0};
    for (index_t i = 0; i < 200; ++i) x(i) = float(r.normal()) * 1e-3f;
    x(7) = std::nanf("");
    x(8) = std::numeric_limits<float>::infinity();
    x(9) = 3.4e38f;  // rounds to infinity in bf16
    tensor<bf16, 1> narrow({200});
    tensor<f16, 1> half({200});
    tensor<double, 1> twice({200});
    run(ctx, ops::copy<B, bf16, float, 1>{.x = x, .y = narrow});
    run(ctx, ops::copy<B, float, bf16, 1>{.x = narrow, .y = wide});
    run(ctx, ops::copy<B, f16, float, 1>{.x = x, .y = half});
    run(ctx, ops::copy<B, double, bf16, 1>{.x = narrow, .y = twice});
    for (index_t i = 0; i < 200; ++i) {
      CHECK(narrow(i).bits == bf16(x(i)).bits);
      CHECK(half(i).bits == f16(x(i)).bits);
      if (i == 7) {
        CHECK(std::isnan(wide(i)));
      } else {
        CHECK(wide(i) == float(bf16(x(i))));
        CHECK(twice(i) == double(float(narrow(i))));
      }
    }
  }

  TEST_CASE_TEMPLATE("fill", E, MLMAMBA_TEST_ENGINES) {
    context_of<E> ctx;
    tensor<typename E::value, 1> y({100});
    run(ctx, ops::fill<E, typename E::value>{.y = y, .value = 0.75f});
    for (index_t i = 0; i < 100; ++i) CHECK(float(y(i)) == 0.75f);
  }
#endif
}
