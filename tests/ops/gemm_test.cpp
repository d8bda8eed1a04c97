// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Matrix products: gradients, contract, layouts, mixed types, every backend; and that the bits of a
// result depend on its own row and column only.
#include "ops/gemm_cases.hpp"

#include "mlmamba/verify/gradcheck.hpp"
#include "ops/drawn.hpp"
#include "ops/engine_checks.hpp"

using namespace mlmamba;
using verify::gemm_options;

namespace {

std::vector<gemm_options> small_cases() {
  std::vector<gemm_options> all;
  for (activation act : {activation::none, activation::silu, activation::gelu,
                         activation::gelu_tanh, activation::quick_gelu, activation::relu})
    all.push_back({.m = 3, .n = 4, .k = 5, .bias = true, .act = act});
  for (index_t m : {0, 1, 2})
    for (index_t n : {0, 1, 3})
      for (index_t k : {0, 1, 2}) all.push_back({.m = m, .n = n, .k = k, .bias = (m + n) % 2 == 0});
  return all;
}

/// Sizes around registers, vectors, blocks over k (384 units of float) and tasks.
std::vector<gemm_options> large_cases() {
  std::vector<gemm_options> all;
  for (index_t m : {1, 2, 3, 4, 5, 8, 9, 14, 15, 29})
    all.push_back({.m = m, .n = 37, .k = 50, .bias = m % 2 == 0, .act = activation::silu});
  for (index_t n : {15, 16, 17, 31, 32, 33, 63, 64, 65}) all.push_back({.m = 6, .n = n, .k = 19});
  for (index_t k : {15, 16, 17, 31, 32, 33, 383, 384, 385, 769, 800})
    all.push_back({.m = k % 2 ? 3 : 11, .n = 20, .k = k, .bias = true});
  all.push_back({.m = 70, .n = 150, .k = 64, .act = activation::gelu});
  all.push_back({.m = 1, .n = 300, .k = 256});
  all.push_back({.m = 2500, .n = 24, .k = 20, .bias = true});  // long sums of gradients
  return all;
}

}  // namespace

TEST_SUITE("gemm_test") {
  TEST_CASE("backward is the derivative of forward") {
    for (const gemm_options& o : small_cases()) {
      const auto g = verify::gradcheck_case<verify::gemm_case>(2, o);
      CHECK_MESSAGE(g.worst < 1e-12, g.where, " m ", o.m, " n ", o.n, " k ", o.k);
    }
  }

  TEST_CASE("contract") {
    context<backend::reference> ctx;
    using E = reference_f32;
    tensor<float, 2> x({5, 8}), w({6, 7}), w8({6, 8}), y({5, 6}), narrow({5, 5}), big({10, 16});
    tensor<float, 1> bias({5});
    CHECK_THROWS_WITH_AS(run(ctx, ops::gemm<E>{.x = x, .w = w, .y = y}),
                         "gemm: x is (5, 8) and w is (6, 7); the inner sizes differ", shape_error);
    CHECK_THROWS_WITH_AS(run(ctx, ops::gemm<E>{.x = x, .w = w8, .y = narrow}),
                         "gemm: y is (5, 5); wanted is (5, 6)", shape_error);
    CHECK_THROWS_WITH_AS(run(ctx, ops::gemm<E>{.x = x, .w = w8, .bias = bias, .y = y}),
                         "gemm: bias is (5); wanted is (6)", shape_error);
    CHECK_THROWS_WITH_AS(run(ctx, ops::gemm<E>{.x = x, .w = w8}),
                         "gemm: y is missing; wanted is an array of rank 2", shape_error);
    CHECK_THROWS_WITH_AS(
        run(ctx,
            ops::gemm<E>{
                .x = x, .w = w8, .y = y, .activation = activation::silu, .accumulate = true}),
        "gemm: accumulate with an activation; wanted is one of them", shape_error);
    view<const float, 2> gaps(big.data(), {{5, 8}}, {{32, 2}});
    CHECK_THROWS_WITH_AS(run(ctx, ops::gemm<E>{.x = gaps, .w = w8, .y = y}),
                         "gemm: x has no axis of unit stride; wanted is one", shape_error);
  }

  TEST_CASE_TEMPLATE("equal to the reference in double", E, MLMAMBA_TEST_ENGINES) {
    verify::check_all<verify::gemm_case, E>(small_cases());
    verify::check_all<verify::gemm_case, E>(large_cases());
  }

  TEST_CASE_TEMPLATE("a row is the same alone", E, MLMAMBA_TEST_ENGINES) {
    if (!std::is_same_v<typename E::memory, memory::host>) return;  // libraries choose by size
    context_of<E> ctx;
    for (index_t k : {7, 64, 901})
      for (index_t m : {2, 5, 8, 9, 17}) {
        const gemm_options whole{.m = m, .n = 37, .k = k, .bias = true, .act = activation::silu};
        auto one = [&](index_t) {
          gemm_options o = whole;
          o.m = 1;
          return o;
        };
        CHECK_MESSAGE((verify::alone_is_the_same<verify::gemm_case, E>(ctx, 5, m, whole, one)),
                      "m ", m, ", k ", k);
      }
  }

#if !defined(__CUDACC__)
  TEST_CASE_TEMPLATE("drawn options", E, cpu_f32, cpu_bf16) {
    const auto options = [](verify::draw& d) {
      gemm_options o;
      o.m = d.size(90), o.n = d.size(90), o.k = d.size(d.coin() ? 90 : 900), o.bias = d.coin();
      o.act = d.one_of({activation::none, activation::silu, activation::gelu, activation::gelu_tanh,
                        activation::quick_gelu, activation::relu});
      return o;
    };
    verify::check_drawn<verify::gemm_case, E>(30, options);
  }

  TEST_CASE_TEMPLATE("threads and instructions", E, cpu_f32, cpu_bf16, cpu_f64) {
    verify::check_threads<verify::gemm_case, E>(large_cases());
    verify::check_levels<verify::gemm_case, E>(large_cases());
  }

  TEST_CASE_TEMPLATE("a column is the same alone, in any layout", E, MLMAMBA_TEST_ENGINES) {
    using V = typename E::value;
    context_of<E> ctx;
    random_stream r{12, 0, 0};
    const index_t n = 75, k = 130;
    for (index_t m : {1, 4, 13, 40}) {
      tensor<V, 2> x({m, k}), xt({k, m}), w({n, k}), wt({k, n}), all({m, n}), some({m, n});
      for (index_t i = 0; i < m; ++i)
        for (index_t j = 0; j < k; ++j) xt(j, i) = x(i, j) = V(float(r.normal()));
      for (index_t i = 0; i < n; ++i)
        for (index_t j = 0; j < k; ++j) wt(j, i) = w(i, j) = V(float(r.normal()));
      const in<E, 2> xs[] = {x, in<E, 2>(xt.view()).transposed()};
      const in<E, 2> ws[] = {w, in<E, 2>(wt.view()).transposed()};
      run(ctx, ops::gemm<E>{.x = xs[0], .w = ws[0], .y = all});
      for (int layout = 0; layout < 4; ++layout) {
        for (index_t from = 0; from < n;) {
          const index_t count = std::min(n - from, index_t(1 + r.below(40)));
          run(ctx, ops::gemm<E>{.x = xs[layout / 2],
                                .w = ws[layout % 2].slice(0, from, count),
                                .y = some.view().slice(1, from, count)});
          from += count;
        }
        bool same = true;
        for (index_t i = 0; i < m * n; ++i)
          same = same && float(some.data()[i]) == float(all.data()[i]);
        CHECK_MESSAGE(same, "m ", m, ", layout ", layout);
      }
    }
  }

  TEST_CASE("accumulate continues the sum") {
    // Adding the second half of k to the first is the same chain of additions as all of k.
    context<backend::cpu> ctx;
    random_stream r{13, 0, 0};
    for (index_t m : {1, 3, 20}) {
      const index_t n = 33, k = 120;
      tensor<float, 2> x({m, k}), w({n, k}), once({m, n}), twice({m, n});
      for (index_t i = 0; i < x.count(); ++i) x.data()[i] = float(r.normal());
      for (index_t i = 0; i < w.count(); ++i) w.data()[i] = float(r.normal());
      run(ctx, ops::gemm<cpu_f32>{.x = x, .w = w, .y = once});
      for (int half = 0; half < 2; ++half)
        run(ctx, ops::gemm<cpu_f32>{.x = x.view().slice(1, half * 60, 60),
                                    .w = w.view().slice(1, half * 60, 60),
                                    .y = twice,
                                    .accumulate = half == 1});
      for (index_t i = 0; i < m * n; ++i) CHECK(once.data()[i] == twice.data()[i]);
    }
  }

  TEST_CASE("mixed types: what is bf16 in memory is exact in float") {
    // Tiles add float and bf16 in another order than multiply-adds: there the error is that of
    // float.
    context<backend::cpu> ctx;
    random_stream r{14, 0, 0};
    verify::for_each_cpu_level([&](backend::simd::cpu_level l) {
      INFO("level ", std::string(to_string(l)));
      for (index_t m : {1, 3, 6, 17, 30, 70}) {
        const index_t n = 41, k = 77;
        tensor<float, 2> x({m, k}), w({n, k}), want({m, n}), y({m, n}), y2({m, n});
        tensor<bf16, 2> xb({m, k}), wb({n, k});
        for (index_t i = 0; i < x.count(); ++i)
          x.data()[i] = xb.data()[i] = bf16(float(r.normal()));
        for (index_t i = 0; i < w.count(); ++i)
          w.data()[i] = wb.data()[i] = bf16(float(r.normal()));
        run(ctx, ops::gemm<cpu_f32>{.x = x, .w = w, .y = want});
        run(ctx, ops::gemm<cpu_bf16, float, float, bf16>{.x = xb, .w = w, .y = y2});
        for (index_t i = 0; i < m * n; ++i) CHECK(y2.data()[i] == want.data()[i]);
        if (l < backend::simd::cpu_level::amx) {
          run(ctx, ops::gemm<cpu_f32, float, bf16>{.x = x, .w = wb, .y = y});
          for (index_t i = 0; i < m * n; ++i) CHECK(y.data()[i] == want.data()[i]);
        }
        for (index_t i = 0; i < x.count(); ++i) x.data()[i] = float(r.normal());  // all 24 bits
        run(ctx, ops::gemm<cpu_f32, float, bf16>{.x = x, .w = wb, .y = y});
        tensor<double, 2> xd({m, k}), wd({n, k}), exactly({m, n});
        for (index_t i = 0; i < x.count(); ++i) xd.data()[i] = x.data()[i];
        for (index_t i = 0; i < w.count(); ++i) wd.data()[i] = w.data()[i];
        context<backend::reference> plain;
        run(plain, ops::gemm<exact>{.x = xd, .w = wd, .y = exactly});
        const auto d = verify::compare_arrays({{"y", verify::detail::read(y)}},
                                              {{"y", verify::detail::read(exactly)}},
                                              verify::tolerance<cpu_f32>(double(k)));
        CHECK_MESSAGE(d.ok, d.where, " ", d.relative, " ", d.tolerance);
      }
    });
  }

  TEST_CASE_TEMPLATE("bf16 weights: a row is the same alone, also where sums are denormal", V,
                     float, bf16) {
    // One to four rows and more go through different instructions where there are tiles.
    context<backend::cpu> ctx;
    random_stream r{15, 0, 0};
    const index_t m = 40, n = 45;
    for (index_t k : {1, 31, 32, 100, 300}) {
      tensor<V, 2> x({m, k}), all({m, n}), some({m, n});
      tensor<bf16, 2> w({n, k});
      tensor<float, 2> wide({n, k});
      const auto number = [&] { return float(std::ldexp(r.normal(), int(r.below(100)) - 70)); };
      for (index_t i = 0; i < x.count(); ++i) x.data()[i] = V(number());
      for (index_t i = 0; i < w.count(); ++i) wide.data()[i] = float(w.data()[i] = bf16(number()));
      const packed_rows packed(wide.view(), {weight_scheme::bf16});
      using E = on<backend::cpu, V>;
      verify::for_each_cpu_level([&](backend::simd::cpu_level l) {
        for (bool prepared : {false, true}) {
          const auto product = [&](index_t from, index_t count, tensor<V, 2>& y) {
            const auto rows = x.view().slice(0, from, count);
            const auto to = y.view().slice(0, from, count);
            if (prepared) {
              run(ctx, ops::packed_gemm<E>{.x = rows, .w = &packed, .y = to});
            } else {
              run(ctx, ops::gemm<E, V, bf16>{.x = rows, .w = w, .y = to});
            }
          };
          product(0, m, all);
          for (index_t count : {1, 2, 3, 4, 5, 20}) {
            for (index_t from = 0; from + count <= m; from += count) product(from, count, some);
            const std::size_t bytes = std::size_t(m / count * count * n) * sizeof(V);
            CHECK_MESSAGE(std::memcmp(all.data(), some.data(), bytes) == 0,
                          std::string(to_string(l)), prepared ? " prepared" : "", " ", count,
                          " rows, k ", k);
          }
        }
      });
    }
  }

  TEST_CASE("mixed types: infinite, no number, largest") {
    context<backend::cpu> ctx;
    const float inf = std::numeric_limits<float>::infinity();
    const float largest = std::numeric_limits<float>::max();
    const std::uint32_t low_nan = 0x7f800001;  // its upper half is infinity's
    float nan;
    std::memcpy(&nan, &low_nan, 4);
    const float values[] = {1, inf, -inf, nan, largest, -largest, 1e-30f};
    const index_t m = 7, n = 3, k = 40;
    tensor<float, 2> x({m, k}), y({m, n});
    tensor<bf16, 2> w({n, k});
    for (index_t i = 0; i < m; ++i) x(i, 35) = values[i], x(i, 3) = 2;
    for (index_t i = 0; i < n * k; ++i) w.data()[i] = bf16(0.5f);
    verify::for_each_cpu_level([&](backend::simd::cpu_level l) {
      run(ctx, ops::gemm<cpu_f32, float, bf16>{.x = x, .w = w, .y = y});
      for (index_t i = 0; i < m; ++i) {
        const float want = values[i] * 0.5f + 1;
        const bool same = std::isnan(want) ? std::isnan(y(i, 0)) : y(i, 0) == want;
        CHECK_MESSAGE(same, std::string(to_string(l)), ": ", y(i, 0), " for ", want);
      }
    });
  }

  TEST_CASE("many rows are taken in chunks") {
    context<backend::cpu> ctx;
    const index_t m = 2100, n = 5, k = 3;
    tensor<float, 2> x({m, k}), w({n, k}), y({m, n}), v({m, n});
    tensor<float, 1> bias({n});
    for (index_t i = 0; i < x.count(); ++i) x.data()[i] = float(i % 17 - 8);
    for (index_t i = 0; i < w.count(); ++i) w.data()[i] = float(i % 5 - 2);
    for (index_t i = 0; i < n; ++i) bias(i) = float(i);
    run(ctx, ops::gemm<cpu_f32>{.x = x,
                                .w = w,
                                .bias = bias,
                                .y = y,
                                .pre_activation = v,
                                .activation = activation::relu});
    bool same = true;
    for (index_t i = 0; i < m; ++i)
      for (index_t j = 0; j < n; ++j) {
        float s = bias(j);
        for (index_t l = 0; l < k; ++l) s += x(i, l) * w(j, l);
        same = same && v(i, j) == s && y(i, j) == std::max(s, 0.0f);
      }
    CHECK(same);
  }
#endif
}
