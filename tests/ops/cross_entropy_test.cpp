// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Cross-entropy: gradients, ignored rows, labels out of range, every backend.
#include "ops/cross_entropy_cases.hpp"

#include "mlmamba/verify/gradcheck.hpp"
#include "ops/drawn.hpp"
#include "ops/engine_checks.hpp"

using namespace mlmamba;
using verify::cross_entropy_options;

namespace {
std::vector<cross_entropy_options> small_cases() {
  return {{},
          {.rows = 0},
          {.rows = 1, .vocabulary = 1},
          {.rows = 4, .vocabulary = 2},
          {.one_scale = true},
          {.in_place = true},
          {.rows = 7, .vocabulary = 19, .one_scale = true, .in_place = true}};
}
std::vector<cross_entropy_options> large_cases() {
  return {{.rows = 40, .vocabulary = 300},
          {.rows = 4, .vocabulary = 20011, .one_scale = true},
          {.rows = 4, .vocabulary = 20016, .in_place = true},
          {.rows = 9, .vocabulary = 1000, .in_place = true}};
}

}  // namespace

TEST_SUITE("cross_entropy_test") {
  TEST_CASE("backward is the derivative of forward") {
    for (const cross_entropy_options& o : small_cases()) {
      const auto g = verify::gradcheck_case<verify::cross_entropy_case>(3, o);
      CHECK_MESSAGE(g.worst < 1e-12, g.where, ": ", g.worst);
    }
  }

  TEST_CASE("contract") {
    context<backend::reference> ctx;
    using E = reference_f32;
    tensor<float, 2> logits({3, 4});
    tensor<std::int32_t, 1> label({3}), few({2});
    tensor<float, 1> loss({3});
    CHECK_THROWS_WITH_AS(
        run(ctx, ops::cross_entropy<E>{.logits = logits, .label = few, .loss = loss}),
        "cross_entropy: label is (2); wanted is (3)", shape_error);
    CHECK_THROWS_WITH_AS(run(ctx, ops::cross_entropy_backward<E>{.logits = logits, .label = label}),
                         "cross_entropy_backward: dlogits is missing; wanted is an array of rank 2",
                         shape_error);
  }

  TEST_CASE_TEMPLATE("equal to the reference in double", E, MLMAMBA_TEST_ENGINES) {
    verify::check_all<verify::cross_entropy_case, E>(small_cases());
    verify::check_all<verify::cross_entropy_case, E>(large_cases());
  }

  TEST_CASE_TEMPLATE("a row is the same alone", E, MLMAMBA_TEST_ENGINES) {
    context_of<E> ctx;
    const cross_entropy_options whole{.rows = 7, .vocabulary = 301};
    CHECK(verify::alone_is_the_same<verify::cross_entropy_case, E>(ctx, 1, 7, whole, [](index_t b) {
      return cross_entropy_options{.rows = 1, .vocabulary = 301, .first = b};
    }));
  }

  TEST_CASE_TEMPLATE("large logits do not overflow", E, MLMAMBA_TEST_ENGINES) {
    // softmax of (1000, 1000, 992): no overflow; the loss of the first is log(2 + exp(-8))
    context_of<E> ctx;
    using T = typename E::value;
    tensor<T, 2> host({1, 3});
    host(0, 0) = host(0, 1) = T(1000.0f), host(0, 2) = T(992.0f);
    tensor_of<E, 2> x(host.shape());
    from_host(x.view(), std::as_const(host).view());
    tensor<std::int32_t, 1, typename E::memory> label({1});
    tensor<typename E::accum, 1, typename E::memory> loss({1});
    run(ctx, ops::cross_entropy<E>{.logits = x, .label = label, .loss = loss});
    CHECK(double(to_host(loss.view())(0)) ==
          doctest::Approx(std::log(2 + std::exp(-8.0))).epsilon(1e-4));
  }

#if !defined(__CUDACC__)
  TEST_CASE_TEMPLATE("equal logits, however large, lose their logarithm", E, cpu_f32,
                     on<backend::reference, float>) {
    context_of<E> ctx;
    tensor<float, 2> x({1, 8});
    std::fill_n(x.data(), 8, 1e30f);
    tensor<std::int32_t, 1> label({1});
    tensor<float, 1> loss({1});
    run(ctx, ops::cross_entropy<E>{.logits = x, .label = label, .loss = loss});
    CHECK(double(loss(0)) == doctest::Approx(std::log(8.0)).epsilon(1e-6));
  }
#endif

  TEST_CASE_TEMPLATE("logits of minus infinity have no share", E, MLMAMBA_TEST_ENGINES) {
    context_of<E> ctx;
    using T = typename E::value;
    constexpr index_t classes = 48;
    tensor<T, 2> host({1, classes});
    for (index_t v = 0; v < classes; ++v) host(0, v) = T(v % 3 ? -INFINITY : float(v) / 16);
    tensor_of<E, 2> x(host.shape()), dx(host.shape());
    from_host(x.view(), std::as_const(host).view());
    tensor<std::int32_t, 1, typename E::memory> label({1});
    tensor<typename E::accum, 1, typename E::memory> loss({1});
    run(ctx, ops::cross_entropy<E>{.logits = x, .label = label, .loss = loss});
    run(ctx, ops::cross_entropy_backward<E>{.logits = x, .label = label, .dlogits = dx});
    double sum = 0;
    for (index_t v = 0; v < classes; v += 3) sum += std::exp(double(v) / 16);
    CHECK(double(to_host(loss.view())(0)) == doctest::Approx(std::log(sum)).epsilon(1e-4));
    verify::array wanted{"dlogits", {}};
    const auto gradient = to_host(dx.view());
    for (index_t v = 0; v < classes; ++v) {
      const double p = v % 3 ? 0 : std::exp(double(v) / 16) / sum;
      wanted.values.push_back(p - (v == 0 ? 1 : 0));
      if (v % 3) CHECK(double(float(gradient(0, v))) == 0);
    }
    const auto d = verify::compare_arrays({{"dlogits", verify::detail::read(dx)}}, {wanted},
                                          verify::tolerance<E>(double(classes)));
    CHECK_MESSAGE(d.ok, d.where);
  }

#if !defined(__CUDACC__)
  TEST_CASE_TEMPLATE("drawn options", E, cpu_f32, cpu_bf16) {
    const auto options = [](verify::draw& d) {
      cross_entropy_options o;
      o.rows = d.size(40), o.vocabulary = d.size(700), o.one_scale = d.coin(),
      o.in_place = d.coin();
      return o;
    };
    verify::check_drawn<verify::cross_entropy_case, E>(30, options);
  }

  TEST_CASE_TEMPLATE("threads and instructions", E, cpu_f32, cpu_bf16) {
    verify::check_threads<verify::cross_entropy_case, E>(large_cases());
    verify::check_levels<verify::cross_entropy_case, E>(large_cases());
  }
#endif

#if !defined(__CUDACC__)
  TEST_CASE_TEMPLATE("a label out of range throws, and names it", E, MLMAMBA_TEST_ENGINES) {
    context_of<E> ctx;
    tensor_of<E, 2> logits({3, 4}), dlogits({3, 4});
    tensor<std::int32_t, 1> label({3});
    tensor<typename E::accum, 1> loss({3});
    for (std::int32_t bad : {4, -1}) {
      label(1) = bad;
      const std::string what = "label " + std::to_string(bad) + " at 1; wanted is -100 or 0 to 3";
      CHECK_THROWS_WITH_AS(
          run(ctx, ops::cross_entropy<E>{.logits = logits, .label = label, .loss = loss}),
          ("cross_entropy: " + what).c_str(), shape_error);
      CHECK_THROWS_WITH_AS(
          run(ctx,
              ops::cross_entropy_backward<E>{.logits = logits, .label = label, .dlogits = dlogits}),
          ("cross_entropy_backward: " + what).c_str(), shape_error);
    }
  }
#endif
}
