// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Reductions: contract, ties and NaN, every backend.
#include "ops/reduce_cases.hpp"

#include "ops/engine_checks.hpp"

using namespace mlmamba;
using verify::reduce_options;

namespace {
std::vector<reduce_options> all_cases() {
  std::vector<reduce_options> all;
  for (index_t rows : {0, 1, 2, 9})
    for (index_t width : {0, 1, 5, 16, 17, 63, 64, 65, 200})
      all.push_back({.rows = rows, .width = width, .strided = width % 2 == 1});
  all.push_back({.rows = 4095, .width = 1});
  all.push_back({.rows = 4097, .width = 2});
  all.push_back({.rows = 300, .width = 333, .strided = true});
  return all;
}
std::vector<reduce_options> cases_with_columns() {
  std::vector<reduce_options> all;
  for (const reduce_options& o : all_cases())
    if (o.width > 0) all.push_back(o);
  return all;
}
}  // namespace

TEST_SUITE("reduce_test") {
  TEST_CASE("contract") {
    context<backend::reference> ctx;
    using E = reference_f32;
    tensor<float, 2> x({3, 4}), empty({3, 0});
    tensor<float, 1> y({3});
    tensor<std::int32_t, 1> index({2});
    CHECK_THROWS_WITH_AS(run(ctx, ops::sum_rows<E>{.x = x, .y = y}),
                         "sum_rows: y is (3); wanted is (4)", shape_error);
    CHECK_THROWS_WITH_AS(run(ctx, ops::argmax<E>{.x = x, .index = index}),
                         "argmax: index is (2); wanted is (3)", shape_error);
    CHECK_THROWS_WITH_AS(run(ctx, ops::argmax<E>{.x = empty, .index = index}),
                         "argmax: x has 0 columns; wanted are 1 to 2^30", shape_error);
    in<E, 2> wide = x;
    wide.size[1] = (index_t{1} << 30) + 1;
    CHECK_THROWS_WITH_AS(run(ctx, ops::argmax<E>{.x = wide, .index = index}),
                         "argmax: x has 1073741825 columns; wanted are 1 to 2^30", shape_error);
  }

  TEST_CASE_TEMPLATE("the largest of a row: as the reference has it, and the same alone", E,
                     MLMAMBA_TEST_ENGINES) {
    verify::check_all<verify::argmax_case, E>(cases_with_columns());
    std::vector<reduce_options> few;
    for (index_t width : {1, 17, 333}) few.push_back({.rows = 9, .width = width, .strided = true});
    verify::check_alone<verify::argmax_case, E>(few, &reduce_options::rows);
  }

  TEST_CASE_TEMPLATE("equal to the reference in double", E, MLMAMBA_TEST_ENGINES) {
    verify::check_all<verify::sum_rows_case, E>(all_cases());
    verify::check_all<verify::sum_squares_case, E>(all_cases());
  }

#if defined(__CUDACC__)
  TEST_CASE_TEMPLATE("a series of sums of squares has the bits of its parts", E,
                     MLMAMBA_TEST_ENGINES) {
    context_of<E> ctx;
    using A = typename E::accum;
    std::vector<tensor<A, 1, memory::device>> x;
    const auto sum = [] { return tensor<double, 1, memory::device>(shape<1>{{1}}); };
    auto one = sum(), many = sum();
    std::vector<ops::sum_squares<E>> parts, series;
    random_stream r{6, 0, 0};
    for (index_t k = 0; k < 300; ++k) {  // more than a launch has
      const index_t n = k % 50 == 7 ? 0 : k % 40 == 0 ? 4000 * (1 + k) : 1 + k;
      std::vector<A> values;
      for (index_t i = 0; i < n; ++i) values.push_back(A(r.normal()));
      x.emplace_back(shape<1>{{n}});
      if (n > 0)
        allocator<memory::device>::from_host(x.back().data(), values.data(), x.back().bytes());
    }
    for (const auto& a : x)
      parts.push_back({.x = a, .y = one}), series.push_back({.x = a, .y = many});
    for (const auto& p : parts) run(ctx, p);
    run(ctx, ops::series<ops::sum_squares<E>>{series});
    ctx.synchronize();
    CHECK(to_host(one.view()).data()[0] > 1e5);
    CHECK(to_host(one.view()).data()[0] == to_host(many.view()).data()[0]);
  }

  TEST_CASE_TEMPLATE("the largest of a row that blocks share, again and again", E,
                     MLMAMBA_TEST_ENGINES) {
    using V = typename E::value;
    context_of<E> ctx;
    random_stream r{7, 0, 0};
    const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
    for (index_t width : {8192, 8193, 50280})
      for (index_t rows : {1, 2, 7, 64, 65}) {
        std::vector<V> x;
        std::vector<std::int32_t> index, unfit;
        for (index_t t = 0; t < rows; ++t) {
          // Few different values, so that equal ones are far apart; rows of nothing else.
          const float only = t % 5 == 1 ? -inf : t % 5 == 2 ? nan : 0;
          index_t best = -1, bad = -1;
          for (index_t v = 0; v < width; ++v) {
            float now = only == 0 ? std::floor(float(r.normal())) : only;
            if (t % 5 == 3 && r.below(9000) == 0) now = nan;
            if (t % 5 == 4 && r.below(9000) == 0) now = inf;
            x.push_back(V(now));
            if (!(now < inf) && bad < 0) bad = v;
            if (!std::isnan(now) && (best < 0 || now > float(x[std::size_t(t * width + best)])))
              best = v;
          }
          index.push_back(std::int32_t(std::max<index_t>(best, 0)));
          unfit.push_back(std::int32_t(bad < 0 && only == -inf ? 0 : bad));
        }
        tensor<V, 2, memory::device> there({rows, width});
        allocator<memory::device>::from_host(there.data(), x.data(), there.bytes());
        for (int again = 0; again < 3; ++again) {
          tensor<std::int32_t, 1, memory::device> place({rows}), whether({rows});
          run(ctx,
              ops::argmax<E>{.x = std::as_const(there).view(), .index = place, .unfit = whether});
          const auto got = to_host(std::as_const(place).view());
          const auto not_fit = to_host(std::as_const(whether).view());
          for (index_t t = 0; t < rows; ++t) {
            INFO("row ", t, " of ", rows, ", width ", width);
            CHECK(got(t) == index[std::size_t(t)]);
            CHECK(not_fit(t) == unfit[std::size_t(t)]);
          }
        }
      }
  }
#endif

#if !defined(__CUDACC__)
  TEST_CASE_TEMPLATE("threads and instructions", E, cpu_f32, cpu_bf16) {
    verify::check_threads<verify::sum_rows_case, E>(all_cases());
    verify::check_threads<verify::sum_squares_case, E>(all_cases());
    verify::check_threads<verify::argmax_case, E>(cases_with_columns());
    verify::check_levels<verify::argmax_case, E>(cases_with_columns());
    verify::check_levels<verify::sum_rows_case, E>(all_cases());
    verify::check_levels<verify::sum_squares_case, E>(all_cases());
  }

  TEST_CASE_TEMPLATE("sums of squares are kept in double", E, cpu_f32, reference_f32) {
    context_of<E> ctx;
    tensor<float, 1> x({100000});
    // Whole numbers whose squares add up exactly in double, and not in float.
    double want = 0;
    for (index_t i = 0; i < x.count(); ++i) {
      x(i) = float(i % 1000 + 1);
      want += double(x(i)) * double(x(i));
    }
    tensor<double, 1> y({1});
    run(ctx, ops::sum_squares<E>{.x = x, .y = y});
    CHECK(y(0) == want);
  }

  TEST_CASE_TEMPLATE("arg max: the first of the largest, NaN is smallest", E,
                     MLMAMBA_TEST_ENGINES) {
    using V = typename E::value;
    context_of<E> ctx;
    const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
    random_stream r{10, 0, 0};
    verify::for_each_cpu_level([&](backend::simd::cpu_level l) {
      for (index_t width : {1, 2, 15, 16, 17, 40, 100}) {
        tensor<V, 2> wide({12, width + 1});
        auto x = wide.view().slice(1, 0, width);
        tensor<std::int32_t, 1> index({12});
        const float values[] = {nan, -inf, -2, -0.0f, 0.0f, 1, inf};
        for (index_t t = 0; t < 12; ++t)
          for (index_t v = 0; v < width; ++v)
            x(t, v) = V(values[r.below(t % 4 == 0 ? 1 : t % 4 == 1 ? 2 : t % 4 == 2 ? 6 : 7)]);
        run(ctx, ops::argmax<E>{.x = x, .index = index});
        for (index_t t = 0; t < 12; ++t) {
          index_t want = -1;
          for (index_t v = 0; v < width; ++v) {
            const float now = float(x(t, v));
            if (std::isnan(now)) continue;
            if (want < 0 || now > float(x(t, want))) want = v;
          }
          CHECK_MESSAGE(index(t) == std::max<index_t>(want, 0), "row ", t, ", width ", width,
                        ", level ", std::string(to_string(l)));
        }
      }
    });
  }
#endif
}
