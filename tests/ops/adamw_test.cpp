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

#if defined(__CUDACC__)
  TEST_CASE_TEMPLATE("a series has the bits of its parts", E, MLMAMBA_TEST_ENGINES) {
    context_of<E> ctx;
    using A = typename E::accum;
    using V = typename E::value;
    using numbers = tensor<A, 1, memory::device>;
    struct array {
      tensor<V, 1, memory::device> weight;
      numbers master, grad, m, v;
    };
    // More arrays than a launch has; some are empty, some have a master, some another step.
    std::vector<array> one, many;
    std::vector<ops::adamw<E>> parts, series;
    random_stream r{5, 0, 0};
    for (index_t k = 0; k < 130; ++k) {
      const index_t n = k % 11 == 3 ? 0 : k % 7 == 0 ? 1 + k * 97 : 1 + k;
      std::vector<A> values[4];
      std::vector<V> weights;
      for (index_t i = 0; i < n; ++i) {
        for (int j = 0; j < 4; ++j)
          values[j].push_back(A(j == 3 ? std::abs(r.normal()) : r.normal()));
        weights.push_back(V(values[0].back()));
      }
      for (auto* to : {&one, &many}) {
        array a{decltype(array::weight)({n}), k % 2 ? numbers({n}) : numbers(), numbers({n}),
                numbers({n}), numbers({n})};
        const auto put = [&](auto& t, const auto& from) {
          if (t) allocator<memory::device>::from_host(t.data(), from.data(), t.bytes());
        };
        put(a.weight, weights), put(a.master, values[0]), put(a.grad, values[1]);
        put(a.m, values[2]), put(a.v, values[3]);
        (to == &one ? parts : series)
            .push_back({.weight = a.weight,
                        .master = a.master.view(),
                        .grad = a.grad,
                        .m = a.m,
                        .v = a.v,
                        .learning_rate = 0.01 * double(1 + k % 3),
                        .weight_decay = k % 4 ? 0.1 : 0.0,
                        .step = k == 60 ? 9 : 4});
        to->push_back(std::move(a));
      }
    }
    for (const auto& p : parts) run(ctx, p);
    run(ctx, ops::series<ops::adamw<E>>{series});
    ctx.synchronize();
    for (std::size_t k = 0; k < one.size(); ++k) {
      INFO("array ", k);
      const auto same = [](const auto& a, const auto& b) {
        if (!a) return !b;
        const auto x = to_host(a.view()), y = to_host(b.view());
        return std::equal(x.data(), x.data() + x.count(), y.data(),
                          [](auto p, auto q) { return accum_t<V>(p) == accum_t<V>(q); });
      };
      CHECK(same(one[k].weight, many[k].weight));
      CHECK(same(one[k].master, many[k].master));
      CHECK(same(one[k].m, many[k].m));
      CHECK(same(one[k].v, many[k].v));
    }
  }
#endif

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
