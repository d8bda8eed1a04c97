// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Causal convolution: gradients, boundaries, sequences, states and decoding.
#include "ops/causal_conv1d_cases.hpp"

#include "mlmamba/verify/gradcheck.hpp"
#include "ops/drawn.hpp"
#include "ops/engine_checks.hpp"

using namespace mlmamba;
using namespace mlmamba::verify;

namespace {

void exact_gradient(conv_options o) {
  const gradcheck_result r = gradcheck_case<conv_case>(7, o);
  INFO("length ", o.length, " width ", o.width, " at ", r.where);
  CHECK(r.worst < 1e-12);
}

/// Larger than vectors and tasks, with and without several sequences in a row.
std::vector<conv_options> some_cases() {
  const conv_options wide{
      .batch = 3, .length = 150, .channels = 90, .initial = true, .final = true, .fused = true};
  conv_options packed = wide, padded = wide, narrow = wide;
  packed.batch = 4, packed.length = 40, packed.seq = sequences::packed, packed.width = 5;
  padded.length = 70, padded.seq = sequences::padded, padded.token_major_states = true;
  narrow.channels = 7, narrow.width = 2, narrow.bias = false, narrow.act = activation::none;
  return {wide, packed, padded, narrow};
}

template <class T>
bool equal(const std::vector<T>& a, const std::vector<T>& b) {
  return a == b;
}

}  // namespace

TEST_CASE("causal_conv1d: gradients are exact at every boundary") {
  for (index_t width : {2, 3, 4, 8})
    for (index_t length : {index_t(0), index_t(1), width - 2, width - 1, width, index_t(9)})
      exact_gradient({.length = length, .width = width, .initial = true, .final = true});
  exact_gradient({.batch = 0});
  exact_gradient({.channels = 0});
}

TEST_CASE("causal_conv1d: gradients are exact with each operand present and absent") {
  for (bool bias : {false, true})
    for (bool initial : {false, true})
      for (bool final : {false, true})
        for (activation act : {activation::none, activation::silu})
          exact_gradient({.bias = bias,
                          .initial = initial,
                          .final = final,
                          .fused = true,
                          .token_major_states = final,
                          .act = act});
  for (sequences s : {sequences::packed, sequences::later, sequences::padded})
    for (bool states : {false, true})
      exact_gradient({.length = 11, .initial = states, .final = states, .seq = s});
}

TEST_CASE_TEMPLATE("causal_conv1d: agrees with the reference", E, MLMAMBA_TEST_ENGINES) {
  context_of<E> ctx;
  auto agrees = [&](conv_options o) {
    const difference d = compare<conv_case, E>(ctx, 3, o);
    INFO("length ", o.length, " channels ", o.channels, " width ", o.width, ": ", d.where,
         " relative ", d.relative, " tolerance ", d.tolerance);
    CHECK(d.ok);
  };
  for (index_t width = 2; width <= 8; ++width)
    for (index_t channels : {1, 16, 33, 100})
      agrees({.length = 37,
              .channels = channels,
              .width = width,
              .initial = true,
              .final = true,
              .fused = true});
  for (index_t length : {0, 1, 2, 3, 4, 5, 63, 64, 65, 200})
    agrees({.length = length, .channels = 70, .initial = length % 2 == 0, .final = true});
  agrees({.batch = 0});
  agrees({.channels = 0});
  agrees({.length = 50, .channels = 130, .bias = false, .act = activation::none});
  for (sequences s : {sequences::packed, sequences::later, sequences::padded})
    for (index_t period : {3, 64})
      agrees({.length = 140,
              .channels = 35,
              .initial = true,
              .final = true,
              .fused = true,
              .token_major_states = true,
              .seq = s,
              .period = period});
}

TEST_CASE_TEMPLATE("causal_conv1d: steps give the bits of the whole sequence", E,
                   MLMAMBA_TEST_ENGINES) {
  context_of<E> ctx;
  for (index_t width = 2; width <= 8; ++width) {
    const conv_options o{.batch = 2,
                         .length = 11,
                         .channels = width < 5 ? 37 : 701,
                         .width = width,
                         .initial = true,
                         .final = true,
                         .fused = true,
                         .token_major_states = width % 2 == 0};
    conv_case<E> whole(o), steps(o);
    randomise(whole, steps, 5);
    whole.forward(ctx);
    steps.last = steps.initial;
    for (index_t t = 0; t < o.length; ++t)
      run(ctx, ops::causal_conv1d_step<E>{.x = in<E, 3>(steps.part(steps.x)).select(1, t),
                                          .state = steps.state(steps.last),
                                          .weight = steps.weight,
                                          .bias = steps.bias,
                                          .y = steps.y.view().select(1, t),
                                          .activation = o.act});
    const auto a = results(whole), b = results(steps);
    CHECK(equal(a[0].values, b[0].values));
    CHECK(equal(a[1].values, b[1].values));
  }
}

TEST_CASE_TEMPLATE("causal_conv1d: a sequence cut anywhere continues from its state", E,
                   MLMAMBA_TEST_ENGINES) {
  context_of<E> ctx;
  const conv_options o{.batch = 2, .length = 9, .channels = 21, .initial = true, .final = true};
  for (index_t cut = 0; cut <= o.length; ++cut) {
    conv_case<E> whole(o), parts(o);
    randomise(whole, parts, 5);
    whole.forward(ctx);
    parts.last = parts.initial;  // the state is continued in place
    for (auto [from, n] : {std::pair{index_t(0), cut}, std::pair{cut, o.length - cut}})
      run(ctx, ops::causal_conv1d<E>{.x = in<E, 3>(parts.x.view()).slice(1, from, n),
                                     .weight = parts.weight,
                                     .bias = parts.bias,
                                     .initial_states = parts.last,
                                     .y = parts.y.view().slice(1, from, n),
                                     .final_states = parts.last,
                                     .activation = o.act});
    const auto a = results(whole), b = results(parts);
    CHECK(equal(a[0].values, b[0].values));
    CHECK(equal(a[1].values, b[1].values));
  }
}

TEST_CASE_TEMPLATE("causal_conv1d: padding gives zero and no gradient", E, MLMAMBA_TEST_ENGINES) {
  context_of<E> ctx;
  conv_case<E> c({.batch = 1, .length = 14, .channels = 19, .seq = sequences::padded}), same(c.o);
  randomise(c, same, 2);
  run_case(c, ctx);
  const auto r = results(c);
  const auto seq = to_host(c.seq_idx.view());
  for (index_t t = 0; t < 14; ++t)
    for (index_t d = 0; d < 19; ++d)
      if (seq(0, t) < 0) {
        CHECK(r[0].values[std::size_t(t * 19 + d)] == 0);
        if constexpr (has_backward<conv_case<E>>) CHECK(r[2].values[std::size_t(t * 19 + d)] == 0);
      }
}

TEST_CASE("causal_conv1d: wrong operands are named") {
  context<backend::reference> ctx;
  conv_case<exact> c(conv_options{});
  ops::causal_conv1d<exact> op{.x = c.x, .weight = c.weight, .y = c.y};
  op.activation = activation::relu;
  CHECK_THROWS_WITH_AS(
      run(ctx, op), "causal_conv1d: the activation is relu; wanted is none or silu", shape_error);
  op = {.x = c.x, .weight = in_accum<exact, 2>(c.weight.view()).slice(1, 0, 1), .y = c.y};
  CHECK_THROWS_WITH_AS(run(ctx, op), "causal_conv1d: the width is 1; wanted is 2 to 8",
                       shape_error);
  op = {
      .x = c.x, .weight = c.weight, .bias = c.weight.view().select(1, 0).slice(0, 0, 4), .y = c.y};
  CHECK_THROWS_WITH_AS(run(ctx, op), "causal_conv1d: bias is (4); wanted is (5)", shape_error);
}

TEST_CASE_TEMPLATE("causal_conv1d: a row of a batch is the same alone", E, MLMAMBA_TEST_ENGINES) {
  check_alone<conv_case, E>(some_cases(), &conv_options::batch);
  check_alone<conv_step_case, E>(some_cases(), &conv_options::batch);
  check_all<conv_step_case, E>(some_cases());
}

#if !defined(__CUDACC__)
namespace {

/// What rounding to bf16 may add to y.
double half_ulp(double y) {
  return std::ldexp(1.0, std::max(std::ilogb(y == 0 ? 1e-300 : y), -126) - 8);
}

/// The convolution of zeros is activation(bias): what does it make of a dense sweep, in bf16? It is
/// to be within `precision` of itself before it is rounded.
void check_silu_of_bf16(double precision) {
  std::vector<float> v;
  for (float x = -104; x < 104; x += 0.000717f + std::abs(x) * 0.00011f) v.push_back(x);
  for (float x = -1; x < 1; x += 0.0000137f) v.push_back(x);
  const float huge = 3.3e38f, inf = std::numeric_limits<float>::infinity();
  for (float x : {0.0f, 1e-30f, -1e-30f, 1e20f, -1e20f, huge, -huge, inf, std::nanf("")})
    v.push_back(x);
  const index_t n = index_t(v.size());
  context<backend::cpu> ctx;
  tensor<bf16, 3> x({1, 1, n}), y({1, 1, n}), dy({1, 1, n}), dx({1, 1, n});
  tensor<float, 2> weight({n, 2});
  tensor<float, 1> bias({n});
  for (index_t i = 0; i < n; ++i) {
    x(0, 0, i) = bf16(0.0f), dy(0, 0, i) = bf16(1.0f);
    weight(i, 0) = 0, weight(i, 1) = 1, bias(i) = v[std::size_t(i)];
  }
  run(ctx, ops::causal_conv1d<cpu_bf16>{.x = x, .weight = weight, .bias = bias, .y = y});
  run(ctx, ops::causal_conv1d_backward<cpu_bf16>{
               .x = x, .weight = weight, .bias = bias, .dy = dy, .dx = dx});
  double worst = -1, worst_slope = -1;  // over what is allowed
  float at = 0, slope_at = 0;
  for (index_t i = 0; i + 2 < n; ++i) {
    const double b = v[std::size_t(i)], s = 1 / (1 + std::exp(-b));
    const double want = b * s, slope = s * (1 + b / (1 + std::exp(b)));
    const double e = std::abs(double(float(y(0, 0, i))) - want) /
                     (half_ulp(want) + precision * std::abs(want) + 1e-36);
    const double f = std::abs(double(float(dx(0, 0, i))) - slope) /
                     (half_ulp(slope) + std::exp2(-13.0) * std::max(std::abs(slope), s) + 1e-34);
    if (is_worse(e, worst)) worst = e, at = float(b);
    if (is_worse(f, worst_slope)) worst_slope = f, slope_at = float(b);
  }
  CHECK_MESSAGE(worst <= 1, "silu(", at, ")");
  CHECK_MESSAGE(worst_slope <= 1, "silu'(", slope_at, ")");
  CHECK(float(y(0, 0, n - 2)) == inf);
  CHECK(std::isnan(float(y(0, 0, n - 1))));
  CHECK(std::isnan(float(dx(0, 0, n - 1))));
}

}  // namespace

TEST_CASE("causal_conv1d: SiLU that is stored as bf16 is nearly as near as bf16 comes") {
  for_each_cpu_level([](backend::simd::cpu_level l) {
    INFO(std::string(backend::simd::to_string(l)));
    // with AVX-512 by the processor's table of inverses (simd/math-inl.hpp)
    check_silu_of_bf16(std::exp2(l >= backend::simd::cpu_level::avx512 ? -12.8 : -17));
  });
}

TEST_CASE_TEMPLATE("causal_conv1d: drawn options", E, cpu_f32, cpu_bf16) {
  const auto options = [](draw& d) {
    conv_options o;
    o.batch = d.size(4), o.length = d.size(60), o.channels = d.size(150), o.width = 2 + d.below(7);
    o.bias = d.coin(), o.initial = d.coin(), o.final = d.coin(), o.fused = d.coin();
    o.token_major_states = d.coin();
    o.seq = d.one_of(
        {sequences::one, sequences::one, sequences::packed, sequences::later, sequences::padded});
    o.period = d.size(20);
    o.act = d.one_of({activation::silu, activation::none});
    return o;
  };
  check_drawn<conv_case, E>(30, options, &conv_options::batch);
  check_drawn<conv_step_case, E>(10, options, &conv_options::batch);
}

TEST_CASE_TEMPLATE("causal_conv1d: threads and instructions", E, cpu_f32, cpu_bf16, cpu_f64) {
  check_threads<conv_case, E>(some_cases());
  check_threads<conv_step_case, E>(some_cases());
  check_levels<conv_case, E>(some_cases());
  check_levels<conv_step_case, E>(some_cases());
}
#endif
