// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Products with prepared weights: against the reference in double, bit for bit over rows, threads
// and instructions; and what packing does to weights.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "mlmamba/mlmamba.hpp"
#include "mlmamba/verify/op_case.hpp"
#include "ops/drawn.hpp"
#include "ops/engine_checks.hpp"

using namespace mlmamba;
using backend::simd::cpu_level;
using verify::for_each_cpu_level;

namespace {

constexpr weight_format formats[] = {
    {weight_scheme::f32},      {weight_scheme::bf16},    {weight_scheme::int8, 32},
    {weight_scheme::int8, 64}, {weight_scheme::int8, 0}, {weight_scheme::int4, 32},
    {weight_scheme::int4, 64}, {weight_scheme::int4, 8}, {weight_scheme::int4, 0}};

std::string name(const weight_format& f) {
  return std::string(to_string(f.scheme)) + "/" + std::to_string(f.group);
}

template <class T>
tensor<T, 2> normal(index_t m, index_t n, std::uint64_t seed) {
  tensor<T, 2> t({m, n});
  random_stream r{seed, 0, 0};
  for (index_t i = 0; i < t.count(); ++i) t.data()[i] = T(float(r.normal()));
  return t;
}

struct sizes {
  index_t m, n, k;
};
/// Around vectors, strips, groups, blocks over k (384 floats) and tasks.
constexpr sizes shapes[] = {{1, 1, 1},     {1, 37, 50},   {2, 31, 64},   {3, 32, 65},
                            {4, 33, 7},    {5, 64, 128},  {8, 65, 129},  {9, 20, 385},
                            {12, 40, 64},  {13, 96, 801}, {30, 70, 200}, {1, 300, 512},
                            {17, 64, 100}, {33, 40, 96},  {600, 33, 72}, {0, 5, 8},
                            {3, 0, 8},     {2, 3, 0},     {30, 5, 0}};

template <class E, class Y = typename E::value>
tensor<Y, 2> product(context_of<E>& ctx, in<E, 2> x, const packed_rows& w,
                     const tensor<typename E::accum, 1>& bias, activation act = activation::silu) {
  tensor<Y, 2> y({x.size[0], w.rows()});
  run(ctx, ops::packed_gemm<E, Y>{.x = x, .w = &w, .bias = bias, .y = y, .activation = act});
  return y;
}

template <class T>
bool same(const tensor<T, 2>& a, const tensor<T, 2>& b) {
  return a.bytes() == b.bytes() &&
         (a.bytes() == 0 || std::memcmp(a.data(), b.data(), a.bytes()) == 0);
}

/// sum_k |x| |w|: what errors of the sum are relative to.
double magnitude(const auto& x, index_t m, const packed_rows& w, index_t n) {
  double s = 0;
  for (index_t k = 0; k < w.columns(); ++k)
    s += std::fabs(double(float(x(m, k)))) * std::fabs(double(w(n, k)));
  return s;
}

}  // namespace

TEST_SUITE("packed_gemm_test") {
  TEST_CASE_TEMPLATE("equal to the reference in double", E, cpu_packed, cpu_packed_bf16,
                     reference_f32) {
    using V = typename E::value;
    context_of<E> ctx;
    context<backend::reference> exactly;
    for (const weight_format& f : formats)
      for (const sizes& s : shapes) {
        const auto x = normal<V>(s.m, s.k, 1);
        const packed_rows w(normal<float>(s.n, s.k, 2).view(), f);
        tensor<float, 1> bias({s.n});
        tensor<double, 1> wide_bias({s.n});
        for (index_t i = 0; i < s.n; ++i) bias(i) = float(wide_bias(i) = double(i % 7) / 8);
        tensor<double, 2> wide({s.m, s.k});
        for (index_t i = 0; i < x.count(); ++i) wide.data()[i] = double(float(x.data()[i]));
        const auto want = product<exact>(exactly, wide, w, wide_bias, activation::none);
        const auto got = product<E>(ctx, x, w, bias, activation::none);
        const auto wide_got = product<E, float>(ctx, x, w, bias, activation::none);  // logits
        // Each of the chain's additions errs by half an ulp of what it has summed so far; vdpbf16ps
        // rounds twice in a pair. Quantised x may move every product by 1/127 of the largest.
        const double chain = double(f.quantised() ? w.groups() + 2 : 2 * s.k + 2);
        const double eps = chain * 0x1p-24, last = sizeof(V) == 2 ? 0x1p-8 : 0x1p-23;
        bool rounded = true;  // y of V are those of float
        double worst = 0;
        for (index_t m = 0; m < s.m; ++m)
          for (index_t n = 0; n < s.n; ++n) {
            const double y = want(m, n), scale = magnitude(x, m, w, n) * 1.5 + 1;
            const auto check = [&](float v, double rounding) {
              const double allowed = eps * scale + rounding * std::fabs(y) + 1e-30;
              const double e = std::fabs(double(v) - y) / allowed;
              if (verify::is_worse(e, worst)) worst = e;
            };
            check(float(got(m, n)), last);
            check(wide_got(m, n), 0x1p-23);
            rounded = rounded && float(got(m, n)) == float(V(wide_got(m, n)));
          }
        CHECK_MESSAGE(rounded, name(f), " m ", s.m, " n ", s.n, " k ", s.k);
        CHECK_MESSAGE(worst <= 1, name(f), " m ", s.m, " n ", s.n, " k ", s.k, ": ", worst);
      }
  }

  TEST_CASE("quantised products are near those of the weights") {
    context<backend::cpu> ctx;
    const index_t n = 64, k = 512;
    const auto x = normal<float>(5, k, 3), w = normal<float>(n, k, 4);
    for (const weight_format& f : formats) {
      if (!f.quantised()) continue;
      const packed_rows p(w.view(), f);
      const auto y = product<cpu_f32>(ctx, x, p, {}, activation::none);
      double error = 0, all = 0;
      for (index_t m = 0; m < 5; ++m)
        for (index_t i = 0; i < n; ++i) {
          double v = 0;
          for (index_t j = 0; j < k; ++j) v += double(x(m, j)) * double(w(i, j));
          error += (v - double(y(m, i))) * (v - double(y(m, i))), all += v * v;
        }
      // Steps of 1/127 and 1/8 of about 3 sigma, uniform errors: step / sqrt(12).
      const double bound = f.scheme == weight_scheme::int8 ? 0.015 : 0.14;
      CHECK_MESSAGE(std::sqrt(error / all) < bound, name(f), " ", std::sqrt(error / all));
      CHECK_MESSAGE(std::sqrt(error / all) > bound / 20, name(f), " ", std::sqrt(error / all));
    }
  }

  TEST_CASE_TEMPLATE("nothing is written behind the last row", E, cpu_packed, cpu_packed_bf16) {
    using V = typename E::value;
    context_of<E> ctx;
    const index_t n = 40, k = 70, behind = 13;
    for_each_cpu_level([&](cpu_level l) {
      for (const weight_format& f : formats) {
        const packed_rows w(normal<float>(n, k, 3).view(), f);
        for (index_t m = 1; m <= 17; ++m) {
          const auto x = normal<V>(m, k, 4);
          tensor<V, 2> y({m + behind, n});
          std::fill_n(y.data(), y.count(), V(7.0f));
          run(ctx, ops::packed_gemm<E>{.x = x, .w = &w, .y = y.view().slice(0, 0, m)});
          index_t kept = 0;
          for (index_t i = m * n; i < y.count(); ++i) kept += float(y.data()[i]) == 7.0f;
          CHECK_MESSAGE(kept == behind * n, name(f), ", m ", m, ", ", std::string(to_string(l)));
        }
      }
    });
  }

  TEST_CASE_TEMPLATE("rows, threads and instructions don't change bits", E, cpu_packed,
                     cpu_packed_bf16) {
    using V = typename E::value;
    context_of<E> one{cpu_options{.threads = 1}}, three{cpu_options{.threads = 3}};
    for (const weight_format& f : formats)
      for (const sizes& s : shapes) {
        const auto x = normal<V>(s.m, s.k, 5);
        const packed_rows w(normal<float>(s.n, s.k, 6).view(), f);
        tensor<float, 1> bias({s.n});
        for (index_t i = 0; i < s.n; ++i) bias(i) = float(i);
        const auto y = product<E>(one, x, w, bias);
        const std::string what = name(f) + " m " + std::to_string(s.m) + " n " +
                                 std::to_string(s.n) + " k " + std::to_string(s.k);
        CHECK_MESSAGE(same(y, product<E>(three, x, w, bias)), what, ", threads");
        for (index_t m = 0; m < std::min<index_t>(s.m, 14); ++m) {
          const auto alone = product<E>(one, x.view().slice(0, m, 1), w, bias);
          CHECK_MESSAGE(std::memcmp(alone.data(), y.data() + m * s.n, alone.bytes()) == 0, what,
                        ", row ", m);
        }
        if (!f.quantised()) continue;
        const auto sums = product<E>(one, x, w, bias, activation::none);
        for_each_cpu_level([&](cpu_level l) {
          CHECK_MESSAGE(same(sums, product<E>(one, x, w, bias, activation::none)), what, ", ",
                        std::string(to_string(l)));
        });
        context<backend::reference> plain;
        using R = on<backend::reference, V>;
        CHECK_MESSAGE(same(sums, product<R>(plain, x, w, bias, activation::none)), what,
                      ", reference");
      }
  }

  TEST_CASE_TEMPLATE("f32 and bf16: the bits of gemm", V, float, bf16) {
    context<backend::cpu> ctx;
    using E = on<backend::cpu, V>;
    for_each_cpu_level([&](cpu_level l) {
      for (const sizes& s : shapes) {
        const auto x = normal<V>(s.m, s.k, 7);
        const auto w = normal<bf16>(s.n, s.k, 8);
        tensor<float, 2> wide({s.n, s.k});
        for (index_t i = 0; i < w.count(); ++i) wide.data()[i] = float(w.data()[i]);
        tensor<V, 2> y({s.m, s.n});
        auto check = [&](weight_scheme scheme) {
          const packed_rows p(wide.view(), {scheme});
          CHECK_MESSAGE(same(y, product<E>(ctx, x, p, {}, activation::none)), to_string(scheme),
                        " m ", s.m, " n ", s.n, " k ", s.k, " ", std::string(to_string(l)));
        };
        run(ctx, ops::gemm<E, V, bf16>{.x = x, .w = w, .y = y});
        check(weight_scheme::bf16);
        run(ctx, ops::gemm<E, V, float>{.x = x, .w = wide, .y = y});
        check(weight_scheme::f32);
      }
    });
  }

  TEST_CASE_TEMPLATE("parts at once have the bits of each alone", E, cpu_packed, cpu_packed_bf16) {
    using V = typename E::value;
    for (const weight_format& f : formats)
      for (index_t m : {1, 3, 8, 40}) {
        const auto x = normal<V>(m, 200, 13);
        const auto w = normal<float>(701, 200, 14);
        const packed_rows parts[] = {{w.view().slice(0, 0, 670), f},
                                     {w.view().slice(0, 670, 31), {weight_scheme::f32}}};
        tensor<float, 1> bias({701});
        for (index_t i = 0; i < 701; ++i) bias(i) = float(i % 5);
        for (int threads : {1, 3}) {
          context_of<E> ctx{cpu_options{.threads = threads}};
          tensor<V, 2> all({m, 701}), each({m, 701});
          run(ctx, ops::packed_gemm<E>{.x = x, .w = parts, .bias = bias, .y = all, .parts = 2});
          for (index_t i = 0, n = 0; i < 2; n += parts[i++].rows())
            run(ctx, ops::packed_gemm<E>{.x = x,
                                         .w = &parts[i],
                                         .bias = bias.view().slice(0, n, parts[i].rows()),
                                         .y = each.view().slice(1, n, parts[i].rows())});
          CHECK_MESSAGE(same(all, each), name(f), " m ", m, ", threads ", threads);
        }
        context<backend::reference> plain;
        using R = on<backend::reference, V>;
        tensor<V, 2> all({m, 701}), both({m, 701});
        run(plain, ops::packed_gemm<R>{.x = x, .w = parts, .bias = bias, .y = all, .parts = 2});
        for (index_t i = 0, n = 0; i < 2; n += parts[i++].rows())
          run(plain, ops::packed_gemm<R>{.x = x,
                                         .w = &parts[i],
                                         .bias = bias.view().slice(0, n, parts[i].rows()),
                                         .y = both.view().slice(1, n, parts[i].rows())});
        CHECK_MESSAGE(same(all, both), name(f), " m ", m, ", reference");
      }
  }

  TEST_CASE_TEMPLATE("drawn options: the bits of the reference or of gemm", V, float, bf16) {
    using E = on<backend::cpu, V>;
    context_of<E> one{cpu_options{1}}, three{cpu_options{3}};
    const verify::drawn_range range(40);
    for (std::uint64_t i = range.first; i < range.first + range.count; ++i) {
      verify::draw d{{i, 4, 0}};
      const index_t m = d.size(110), n = d.size(110), k = d.size(d.coin() ? 90 : 700);
      weight_format f{d.one_of({weight_scheme::f32, weight_scheme::bf16, weight_scheme::int8,
                                weight_scheme::int4}),
                      8 * d.below(12)};
      auto wide = normal<V>(m, k + d.below(20), i), room = normal<V>(m + 1, n + 5, i);
      const auto x = wide.view().slice(1, wide.size(1) - k, k);
      if (d.coin()) {
        const float small = d.coin() ? 0.0f : 1e-33f;
        for (index_t j = 0; j < k; ++j) x(m / 2, j) = V(small);
      }
      const auto narrow = normal<bf16>(n, k, i + 1);
      tensor<float, 2> weights({n, k});
      for (index_t j = 0; j < n * k; ++j) weights.data()[j] = float(narrow.data()[j]);
      const packed_rows w(weights.view(), f);
      tensor<float, 1> bias;
      if (d.coin()) bias = tensor<float, 1>({n});
      for (index_t j = 0; j < bias.count(); ++j) bias(j) = float(j);
      tensor<V, 2> want({m, n});
      if (f.quantised()) {
        context<backend::reference> plain;
        run(plain,
            ops::packed_gemm<on<backend::reference, V>>{.x = x, .w = &w, .bias = bias, .y = want});
      }
      for_each_cpu_level([&](cpu_level l) {
        INFO("draw ", i, ": m ", m, " n ", n, " k ", k, " ", name(f), " ",
             std::string(to_string(l)));
        if (f.scheme == weight_scheme::f32)
          run(one, ops::gemm<E, V, float>{.x = x, .w = weights, .bias = bias, .y = want});
        if (f.scheme == weight_scheme::bf16)
          run(one, ops::gemm<E, V, bf16>{.x = x, .w = narrow, .bias = bias, .y = want});
        const auto all = room.view().slice(0, 0, m), y = all.slice(1, 2, n);
        const V before[] = {all(0, 1), all(m - 1, n + 2), room(m, 3)};
        run(d.coin() ? one : three, ops::packed_gemm<E>{.x = x, .w = &w, .bias = bias, .y = y});
        index_t different = 0;
        for (index_t a = 0; a < m; ++a)
          different += std::memcmp(&y(a, 0), &want(a, 0), std::size_t(n) * sizeof(V)) != 0;
        CHECK(different == 0);
        const V after[] = {all(0, 1), all(m - 1, n + 2), room(m, 3)};
        CHECK(std::memcmp(before, after, sizeof before) == 0);
      });
    }
  }

  TEST_CASE("runs that shrink cover everything once") {
    for (index_t n : {0, 1, 2, 7, 24, 104, 1572, 100003})
      for (index_t threads : {1, 2, 3, 7, 64})
        for (index_t smallest : {1, 2, 5, 1000}) {
          const backend::detail::shrinking_runs r(n, threads, smallest);
          bool ok = r.from(0) == 0 && r.from(r.count()) == n;
          for (index_t i = 0; i < r.count(); ++i) ok = ok && r.from(i) <= r.from(i + 1);
          CHECK_MESSAGE(ok, n, " by ", threads, ", at least ", smallest);
        }
  }

  TEST_CASE("what is not finite stays so; zeros and tiny numbers") {
    context<backend::cpu> ctx;
    const packed_rows w(normal<float>(40, 64, 9).view(), {weight_scheme::int8, 32});
    tensor<float, 2> x({4, 64});
    x(0, 3) = std::numeric_limits<float>::infinity(), x(1, 40) = std::nanf("");
    for (index_t k = 0; k < 64; ++k) x(2, k) = 1e-38f;
    for (index_t m : {1, 4}) {
      const auto y = product<cpu_f32>(ctx, x.view().slice(0, 0, m), w, {}, activation::none);
      CHECK(std::isnan(y(0, 39)));
      if (m < 4) continue;
      CHECK(std::isnan(y(1, 0)));
      CHECK(y(2, 5) == 0);
      CHECK(y(3, 5) == 0);
    }
  }

  TEST_CASE("packing again what was packed loses nothing") {
    const auto w = normal<float>(33, 130, 10);
    for (const weight_format& f : formats) {
      const packed_matrix once(w.view(), f, 5);
      const packed_matrix twice(once.unpacked().view(), f, 5);
      CHECK_MESSAGE(same(once.unpacked(), twice.unpacked()), name(f));
      CHECK(once.parts().size() == (f.quantised() ? 2 : 1));
      for (index_t k = 0; k < 130; ++k)  // the last rows are wide
        if (f.quantised()) CHECK(once.unpacked()(32, k) == w(32, k));
    }
  }

  TEST_CASE("contract") {
    context<backend::cpu> ctx;
    const auto w = normal<float>(6, 7, 11);
    const packed_rows p(w.view(), {weight_scheme::int8, 64});
    tensor<float, 2> x({5, 8}), x7({5, 7}), y({5, 6}), narrow({5, 5});
    using op = ops::packed_gemm<cpu_f32>;
    CHECK_THROWS_WITH_AS(run(ctx, op{.x = x, .w = &p, .y = y}),
                         "packed_gemm: x is (5, 8) and w is (6, 7); the inner sizes differ",
                         shape_error);
    CHECK_THROWS_WITH_AS(run(ctx, op{.x = x7, .y = y}),
                         "packed_gemm: w is missing; wanted are packed rows", shape_error);
    CHECK_THROWS_WITH_AS(run(ctx, op{.x = x7, .w = &p, .y = narrow}),
                         "packed_gemm: y is (5, 5); wanted is (5, 6)", shape_error);
    CHECK_THROWS_AS(packed_rows(w.view(), {weight_scheme::int4, 12}), shape_error);
    CHECK_THROWS_AS(packed_rows(w.view(), {weight_scheme::int4, -8}), shape_error);
    auto bad = normal<float>(6, 7, 12);
    bad(2, 3) = std::nanf("");
    CHECK_THROWS_WITH_AS(packed_rows(bad.view(), {weight_scheme::int8}),
                         "weights: [2, 3] is nan; finite numbers are wanted", error);
    CHECK_THROWS_AS(weight_scheme_of("int3"), error);
  }
}
