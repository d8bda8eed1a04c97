// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// RMSNorm, LayerNorm and the gated group RMSNorm: gradients, contract, every backend.
#include "ops/norm_cases.hpp"

#include <bit>

#include "mlmamba/verify/gradcheck.hpp"
#include "ops/drawn.hpp"
#include "ops/engine_checks.hpp"

using namespace mlmamba;
using verify::norm_options;

namespace {

/// A row of one number is normalised to +-1 whatever it is: without a large epsilon its gradient is
/// a difference of nearly equal numbers, and no measure of a float's work.
float epsilon_for(index_t width) { return width < 3 ? 1.0f : 0.01f; }

std::vector<norm_options> row_norms() {
  std::vector<norm_options> all;
  for (index_t rows : {0, 1, 2, 7})
    for (index_t width : {1, 5, 33})
      all.push_back({.rows = rows, .width = width, .epsilon = epsilon_for(width)});
  for (int k = 0; k < 16; ++k)
    all.push_back({.rows = 3,
                   .width = 7,
                   .weight = (k & 1) != 0,
                   .bias = (k & 2) != 0,
                   .accumulate = (k & 4) != 0,
                   .strided = (k & 8) != 0});
  for (int k = 0; k < 8; ++k)
    all.push_back({.rows = 3,
                   .width = 7 + (k & 4),
                   .strided = (k & 2) != 0,
                   .plus = true,
                   .scaled = (k & 1) != 0});
  return all;
}
std::vector<norm_options> gated_norms() {
  std::vector<norm_options> all;
  for (index_t rows : {0, 1, 3})
    for (index_t group : {0, 1, 3, 6, 12})
      for (int k = 0; k < 16; ++k)
        all.push_back({.rows = rows,
                       .width = 12,
                       .weight = (k & 1) != 0,
                       .gate = (k & 2) != 0,
                       .norm_before_gate = (k & 4) != 0,
                       .group_size = group,
                       .strided = (k & 8) != 0,
                       .epsilon = epsilon_for(group ? group : 12)});
  return all;
}

template <template <class> class Case>
double worst_gradient(const std::vector<norm_options>& all) {
  double worst = 0;
  for (const norm_options& o : all) {
    const auto g = verify::gradcheck_case<Case>(11, o);
    if (verify::is_worse(g.worst, worst)) worst = g.worst;
    CHECK_MESSAGE(g.worst < 1e-12, g.where, " rows ", o.rows, " width ", o.width, " group ",
                  o.group_size);
  }
  return worst;
}

/// Sizes around vectors, around runs of rows, and with several blocks of rows.
std::vector<norm_options> large_norms() {
  std::vector<norm_options> all = {{.rows = 70, .width = 64},
                                   {.rows = 9, .width = 300},
                                   {.rows = 9, .width = 129, .accumulate = true, .strided = true},
                                   {.rows = 600, .width = 17},
                                   {.rows = 70, .width = 1024, .plus = true},
                                   {.rows = 66, .width = 72, .plus = true, .scaled = true},
                                   {.rows = 9, .width = 2560, .plus = true, .scaled = true},
                                   {.rows = 5, .width = 131, .strided = true, .plus = true},
                                   {.rows = 4301, .width = 20},
                                   {.rows = 11, .width = 1536, .accumulate = true},
                                   {.rows = 6, .width = 5120, .weight = false},
                                   {.rows = 2, .width = 5124},
                                   {.rows = 3, .width = 5000}};
  for (norm_options& o : all) o.gate = false;
  return all;
}
std::vector<norm_options> large_gated_norms() {
  return {{.rows = 70, .width = 64, .group_size = 16},
          {.rows = 20, .width = 260, .norm_before_gate = true, .group_size = 130, .strided = true},
          {.rows = 3, .width = 5120, .group_size = 2560},
          {.rows = 9, .width = 5120},
          {.rows = 2500, .width = 24, .norm_before_gate = true, .group_size = 12},
          {.rows = 13, .width = 2304, .norm_before_gate = true},
          {.rows = 13, .width = 1536, .weight = false},
          {.rows = 9, .width = 300, .gate = false}};
}
}  // namespace

TEST_SUITE("norm_test") {
  TEST_CASE("backward is the derivative of forward") {
    CHECK(worst_gradient<verify::rms_norm_case>(row_norms()) < 1e-12);
    CHECK(worst_gradient<verify::layer_norm_case>(row_norms()) < 1e-12);
    CHECK(worst_gradient<verify::gated_norm_case>(gated_norms()) < 1e-12);
    const std::vector<norm_options> pairs = {{.rows = 4, .width = 2}, {.rows = 4, .width = 1}};
    CHECK(worst_gradient<verify::layer_norm_case>(pairs) < 1e-12);
    CHECK(worst_gradient<verify::rms_norm_case>(pairs) < 1e-12);
  }

  TEST_CASE("statistics are what they are called") {
    context<backend::reference> ctx;
    verify::layer_norm_case<exact> c({.rows = 4, .width = 9}), d({.rows = 4, .width = 9});
    verify::randomise(c, d, 5);
    verify::run_case(c, ctx);
    for (index_t t = 0; t < 4; ++t) {
      double mean = 0, square = 0;
      for (index_t i = 0; i < 9; ++i) mean += c.x(t, i) / 9;
      for (index_t i = 0; i < 9; ++i) square += (c.x(t, i) - mean) * (c.x(t, i) - mean) / 9;
      CHECK(c.mean(t) == doctest::Approx(mean).epsilon(1e-13));
      CHECK(c.rstd(t) == doctest::Approx(1 / std::sqrt(square + double(0.01f))).epsilon(1e-13));
    }
  }

  TEST_CASE("groups are normalised alone") {
    // Scaling one group of x must not change the normalised values of another.
    context<backend::reference> ctx;
    tensor<double, 2> x({1, 6}), y({1, 6}), y2({1, 6});
    for (index_t i = 0; i < 6; ++i) x(0, i) = double(i + 1);
    run(ctx, ops::gated_rms_norm<exact>{.x = x, .y = y, .group_size = 3});
    for (index_t i = 0; i < 3; ++i) x(0, i) *= 100;
    run(ctx, ops::gated_rms_norm<exact>{.x = x, .y = y2, .group_size = 3});
    for (index_t i = 3; i < 6; ++i) CHECK(y(0, i) == y2(0, i));
  }

  TEST_CASE("contract") {
    context<backend::reference> ctx;
    tensor<float, 2> x({3, 4}), y({3, 4}), narrow({3, 3});
    tensor<float, 1> w({4}), short_w({3}), r({3});
    using E = reference_f32;
    CHECK_THROWS_WITH_AS(run(ctx, ops::rms_norm<E>{.x = x, .weight = short_w, .y = y}),
                         "rms_norm: weight is (3); wanted is (4)", shape_error);
    CHECK_THROWS_WITH_AS(run(ctx, ops::rms_norm<E>{.x = x, .y = narrow}),
                         "rms_norm: y is (3, 3); wanted is (3, 4)", shape_error);
    CHECK_THROWS_WITH_AS(run(ctx, ops::rms_norm<E>{.y = y}),
                         "rms_norm: x is missing; wanted is an array of rank 2", shape_error);
    CHECK_THROWS_WITH_AS(run(ctx, ops::layer_norm<E>{.x = x, .y = y, .rstd = r}),
                         "layer_norm: one of mean and rstd is missing; give both or none",
                         shape_error);
    tensor<float, 2> square({3, 3});
    CHECK_THROWS_WITH_AS(run(ctx, ops::layer_norm<E>{.x = square.view().transposed(), .y = narrow}),
                         "layer_norm: x has stride 3 over its last axis; wanted is 1", shape_error);
    CHECK_THROWS_WITH_AS(run(ctx, ops::gated_rms_norm<E>{.x = x, .y = y, .group_size = 3}),
                         "gated_rms_norm: group_size is 3 and x is (3, 4); wanted is a divisor of "
                         "the last size",
                         shape_error);
    CHECK_THROWS_WITH_AS(
        run(ctx, ops::gated_rms_norm_backward<E>{.x = x,
                                                 .z = x,
                                                 .rstd = view<const float, 2>(r.data(), {{3, 1}}),
                                                 .dy = y,
                                                 .dx = y}),
        "gated_rms_norm_backward: one of z and dz is missing; give both or none", shape_error);
  }

  TEST_CASE_TEMPLATE("equal to the reference in double", E, MLMAMBA_TEST_ENGINES) {
    for (const auto& all : {row_norms(), large_norms()}) {
      verify::check_all<verify::rms_norm_case, E>(all);
      verify::check_all<verify::wide_rms_norm_case, E>(all);
      verify::check_all<verify::layer_norm_case, E>(all);
      verify::check_all<verify::wide_layer_norm_case, E>(all);
    }
    verify::check_all<verify::gated_norm_case, E>(gated_norms());
    verify::check_all<verify::gated_norm_case, E>(large_gated_norms());
  }

  TEST_CASE_TEMPLATE("a branch whose norm was left to the sum", E, MLMAMBA_TEST_ENGINES) {
    using A = typename E::accum;
    using V = typename E::value;
    context_of<E> ctx;
    random_stream r{12, 0, 0};
    const auto normal = [&](auto t) {
      for (index_t i = 0; i < t.count(); ++i)
        t.data()[i] = std::remove_cvref_t<decltype(t.data()[0])>(real_t<A>(r.normal()));
      return t;
    };
    const auto there = [](const auto& host) {
      using T = std::remove_cvref_t<decltype(host.data()[0])>;
      tensor<T, std::remove_cvref_t<decltype(host)>::rank, typename E::memory> t(host.shape());
      from_host(t.view(), host.view());
      return t;
    };
    for (index_t width : {7, 72, 2560})
      for (index_t parts : {1, 5, 80})
        for (bool scaled : {false, true}) {
          const index_t rows = 9;
          const auto x = normal(tensor<A, 2>({rows, width}));
          const auto branch = normal(tensor<V, 2>({rows, width}));
          const auto gamma = normal(tensor<A, 1>({scaled ? width : 0}));
          auto squares = normal(tensor<A, 2>({rows, parts}));
          for (index_t i = 0; i < squares.count(); ++i) squares.data()[i] *= squares.data()[i];
          const auto x2 = there(x), squares2 = there(squares);
          const auto branch2 = there(branch);
          const auto gamma2 = there(gamma);
          tensor<A, 2, typename E::memory> sum(x.shape());
          tensor_of<E, 2> y(x.shape());
          run(ctx, ops::rms_norm<E, A>{
                       .x = x2,
                       .y = y,
                       .epsilon = typename E::real(0.01),
                       .plus = {.branch = branch2,
                                .gamma = scaled ? in_accum<E, 1>(gamma2) : in_accum<E, 1>{},
                                .sum = sum,
                                .squares = squares2,
                                .squares_of = typename E::real(parts * 2),
                                .squares_epsilon = typename E::real(0.02)}});
          const auto got = to_host(std::as_const(y).view());
          const auto summed = to_host(std::as_const(sum).view());
          double error = 0, norm = 0, sum_error = 0;
          for (index_t t = 0; t < rows; ++t) {
            double f = 0, mean = 0;
            for (index_t k = 0; k < parts; ++k) f += double(squares(t, k));
            f = 1 / std::sqrt(f / double(parts * 2) + double(typename E::real(0.02)));
            std::vector<double> row;
            for (index_t d = 0; d < width; ++d) {
              row.push_back(double(x(t, d)) + f * double(real_t<A>(branch(t, d))) *
                                                  (scaled ? double(gamma(d)) : 1.0));
              mean += row.back() * row.back() / double(width);
              sum_error = std::max(sum_error, std::abs(double(summed(t, d)) - row.back()) /
                                                  (1 + std::abs(row.back())));
            }
            for (index_t d = 0; d < width; ++d) {
              const double want =
                  row[std::size_t(d)] / std::sqrt(mean + double(typename E::real(0.01)));
              const double e = double(real_t<A>(got(t, d))) - want;
              error += e * e, norm += want * want;
            }
          }
          INFO("width ", width, " parts ", parts, " scaled ", scaled);
          CHECK(sum_error < 1e-5);
          const double rounding = std::is_same_v<V, bf16>  ? 0x1p-8
                                  : std::is_same_v<V, f16> ? 0x1p-11
                                                           : 1e-5;
          CHECK(std::sqrt(error / norm) < rounding);
        }
  }

  TEST_CASE_TEMPLATE("a row is the same alone", E, MLMAMBA_TEST_ENGINES) {
    context_of<E> ctx;
    for (index_t width : {5, 70, 300}) {
      const norm_options whole{.rows = 11, .width = width};
      auto one = [&](index_t) {
        norm_options o = whole;
        o.rows = 1;
        return o;
      };
      CHECK(verify::alone_is_the_same<verify::rms_norm_case, E>(ctx, 1, 11, whole, one));
      CHECK(verify::alone_is_the_same<verify::layer_norm_case, E>(ctx, 2, 11, whole, one));
      CHECK(verify::alone_is_the_same<verify::gated_norm_case, E>(ctx, 3, 11, whole, one));
    }
  }

#if !defined(__CUDACC__)
  TEST_CASE_TEMPLATE("rows that begin unlike themselves", E, cpu_f32, cpu_bf16) {
    // Sums of differences from a number that is not the mean: far from zero, with one value that is
    // all of the variance, anywhere; constant.
    context_of<E> ctx;
    using V = typename E::value;
    for (index_t width : {40, 333, 2560})
      for (index_t at : {index_t(-1), index_t(0), width / 2, width - 1}) {
        tensor<V, 2> x({1, width}), y({1, width});
        tensor<float, 1> mean({1}), rstd({1});
        double sum = 0, square = 0;
        for (index_t i = 0; i < width; ++i) {
          x(0, i) = V(i == at ? 5000.0f : 64.0f + (at < 0 ? 0.0f : float(i % 3) / 2));
          sum += double(float(x(0, i))) / double(width);
        }
        for (index_t i = 0; i < width; ++i)
          square += std::pow(double(float(x(0, i))) - sum, 2) / double(width);
        run(ctx, ops::layer_norm<E>{.x = x, .y = y, .mean = mean, .rstd = rstd, .epsilon = 0.01f});
        CAPTURE(width);
        CAPTURE(at);
        CHECK(double(mean(0)) == doctest::Approx(sum).epsilon(1e-6));
        CHECK(double(rstd(0)) == doctest::Approx(1 / std::sqrt(square + 0.01)).epsilon(1e-5));
      }
  }

  TEST_CASE("a row that does not vary is no larger than its statistics allow") {
    // (x - mean) rstd is below 1 in such a row whatever the mean was rounded to; x rstd - mean rstd
    // is off by what these two were rounded by.
    context_of<cpu_f32> ctx;
    for (index_t width : {1, 37, 768})
      for (float value : {0.1f, 1000.1f, 1e6f + 0.125f, -3e7f}) {
        tensor<float, 2> x({1, width}), y({1, width}), dy({1, width}), dx({1, width});
        tensor<float, 1> mean({1}), rstd({1}), dweight({width}), weight({width});
        std::fill_n(x.data(), width, value);
        std::fill_n(dy.data(), width, 1.0f), std::fill_n(weight.data(), width, 1.0f);
        run(ctx,
            ops::layer_norm<cpu_f32>{.x = x, .y = y, .mean = mean, .rstd = rstd, .epsilon = 1e-6f});
        run(ctx, ops::layer_norm_backward<cpu_f32>{.x = x,
                                                   .weight = weight,
                                                   .mean = mean,
                                                   .rstd = rstd,
                                                   .dy = dy,
                                                   .dx = dx,
                                                   .dweight = dweight});
        CAPTURE(width);
        CAPTURE(value);
        for (index_t i = 0; i < width; ++i) {
          CHECK(std::abs(y(0, i)) <= 1.0f);
          CHECK(std::abs(dweight(i)) <= 1.0f);  // of one row with dy = 1: the normed x
        }
      }
  }

  TEST_CASE("a NaN of any bits stays one in bf16") {
    context_of<cpu_bf16> ctx;
    tensor<bf16, 2> x({1, 70}), z({1, 70}), y({1, 70}), gated({1, 70});
    tensor<float, 1> weight({70});
    for (index_t i = 0; i < 70; ++i) x(0, i) = z(0, i) = bf16(float(i % 7) - 3), weight(i) = 1;
    for (const std::uint32_t bits : {0xffffffffu, 0x7fffffffu, 0x7fffc000u, 0x7fc00000u})
      for (index_t at : {0, 1, 68, 69}) {
        weight(at) = std::bit_cast<float>(bits);
        run(ctx, ops::layer_norm<cpu_bf16>{.x = x, .weight = weight, .y = y});
        run(ctx, ops::gated_rms_norm<cpu_bf16>{.x = x, .z = z, .weight = weight, .y = gated});
        for (index_t i = 0; i < 70; ++i) {
          CHECK(std::isnan(float(y(0, i))) == (i == at));
          CHECK(std::isnan(float(gated(0, i))) == (i == at));
        }
        weight(at) = 1;
      }
  }

  TEST_CASE_TEMPLATE("drawn options", E, cpu_f32, cpu_bf16) {
    const auto options = [](verify::draw& d) {
      norm_options o;
      o.rows = d.size(90), o.width = d.size(400), o.weight = d.coin(), o.bias = d.coin();
      o.strided = d.coin(), o.plus = d.coin(), o.scaled = o.plus && d.coin();
      o.accumulate = !o.plus && d.coin();
      o.epsilon = epsilon_for(o.width);
      return o;
    };
    const auto gated = [](verify::draw& d) {
      norm_options o;
      const index_t groups = 1 + d.below(4), size = d.size(200);
      o.rows = d.size(90), o.width = groups * size,
      o.group_size = groups > 1 || d.coin() ? size : 0;
      o.weight = d.coin(), o.gate = d.coin(), o.norm_before_gate = d.coin(), o.strided = d.coin();
      o.epsilon = epsilon_for(size);
      return o;
    };
    verify::check_drawn<verify::rms_norm_case, E>(15, options);
    verify::check_drawn<verify::wide_rms_norm_case, E>(15, options);
    verify::check_drawn<verify::layer_norm_case, E>(15, options);
    verify::check_drawn<verify::wide_layer_norm_case, E>(15, options);
    verify::check_drawn<verify::gated_norm_case, E>(15, gated);
  }

  TEST_CASE_TEMPLATE("threads and instructions", E, cpu_f32, cpu_bf16) {
    verify::check_threads<verify::rms_norm_case, E>(large_norms());
    verify::check_threads<verify::layer_norm_case, E>(large_norms());
    verify::check_threads<verify::gated_norm_case, E>(large_gated_norms());
    verify::check_levels<verify::wide_rms_norm_case, E>(large_norms());
    verify::check_levels<verify::layer_norm_case, E>(large_norms());
    verify::check_levels<verify::gated_norm_case, E>(large_gated_norms());
  }
#endif
}
