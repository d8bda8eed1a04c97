// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// SSD: gradients, sequences, states, decoding, extreme steps.
#include "ops/ssd_cases.hpp"

#include "mlmamba/verify/gradcheck.hpp"
#include "ops/drawn.hpp"
#include "ops/engine_checks.hpp"

using namespace mlmamba;
using namespace mlmamba::verify;

namespace {

void exact_gradient(ssd_options o) {
  const gradcheck_result r = gradcheck_case<ssd_case>(7, o);
  INFO("length ", o.length, " heads ", o.heads, " groups ", o.groups, " at ", r.where);
  CHECK(r.worst < 1e-12);
}

const ssd_options every_operand{
    .D = skip::per_channel, .z = true, .dt_bias = true, .initial = true, .final = true};

/// Larger than tiles, chunks and tasks, with and without several sequences in a row.
std::vector<ssd_options> some_cases() {
  ssd_options wide = every_operand, packed = every_operand, padded = every_operand, plain;
  wide.batch = 3, wide.length = 100, wide.heads = 10, wide.channels = 20, wide.states = 24;
  packed.batch = 4, packed.length = 45, packed.chunk_size = 16, packed.period = 7;
  packed.seq = sequences::packed, packed.channels = 17, packed.states = 33;
  padded.batch = 3, padded.length = 40, padded.seq = sequences::padded, padded.initial = false;
  plain.batch = 3, plain.length = 20, plain.algorithm = ops::scan_algorithm::sequential;
  return {wide, packed, padded, plain};
}

/// Tokens before `cut`, then the others, the state being continued in place.
template <class E>
void in_two_parts(context_of<E>& ctx, ssd_case<E>& parts, index_t cut) {
  parts.last = parts.initial;
  for (auto [from, n] : {std::pair{index_t(0), cut}, std::pair{cut, parts.o.length - cut}}) {
    ops::ssd<E> op;
    parts.set_inputs(op);
    op.x = op.x.slice(1, from, n), op.dt = op.dt.slice(1, from, n);
    op.B = op.B.slice(1, from, n), op.C = op.C.slice(1, from, n);
    op.y = parts.y.view().slice(1, from, n);
    op.initial_states = parts.last, op.final_states = parts.last;
    run(ctx, op);
  }
}

}  // namespace

TEST_CASE("ssd: gradients are exact with each operand present and absent") {
  for (skip D : {skip::none, skip::per_head, skip::per_channel})
    for (bool z : {false, true})
      for (bool states : {false, true})
        exact_gradient({.length = 4,
                        .D = D,
                        .z = z,
                        .dt_bias = states != z,
                        .initial = states,
                        .final = states,
                        .softplus = z});
  exact_gradient({.heads = 3, .groups = 1, .initial = true});
  exact_gradient({.heads = 3, .groups = 3, .final = true});
  exact_gradient({.D = skip::per_head, .dt_bias = true, .dt_min = 0.4, .dt_max = 0.9});
  exact_gradient({.softplus = false, .dt_min = -1});
  exact_gradient({.length = 4, .dt_bias = true, .large_steps = true});
}

TEST_CASE("ssd: gradients are exact with several sequences, and at the ends") {
  for (sequences s : {sequences::packed, sequences::later, sequences::padded})
    for (bool states : {false, true})
      exact_gradient(
          {.length = 7, .z = states, .initial = states, .final = states, .seq = s, .period = 2});
  for (index_t length : {0, 1, 2})
    exact_gradient(
        {.length = length, .D = skip::per_channel, .z = true, .initial = true, .final = true});
  exact_gradient({.batch = 0});
}

TEST_CASE("ssd: wrong operands are named") {
  context<backend::reference> ctx;
  ssd_case<exact> c({.heads = 4, .groups = 2});
  ops::ssd<exact> op;
  c.set_inputs(op);
  op.y = c.y;
  op.dt_min = 2, op.dt_max = 1;
  CHECK_THROWS_WITH_AS(run(ctx, op), "ssd: dt_min is 2 and dt_max is 1; wanted is dt_min <= dt_max",
                       shape_error);
  op.dt_min = 0, op.chunk_size = -1;
  CHECK_THROWS_WITH_AS(run(ctx, op), "ssd: chunk_size is -1; wanted is 0 or more", shape_error);
  ssd_case<exact> odd({.heads = 3, .groups = 2});
  odd.set_inputs(op);
  op.y = odd.y;
  CHECK_THROWS_WITH_AS(run(ctx, op),
                       "ssd: there are 3 heads and 2 groups; wanted is a number of groups that "
                       "divides the heads",
                       shape_error);
}

TEST_CASE_TEMPLATE("ssd: steps give what the whole sequence gives", E, MLMAMBA_TEST_ENGINES) {
  context_of<E> ctx;
  for (bool full : {false, true}) {
    ssd_options o{.length = 70, .channels = 19, .states = 21, .initial = true, .final = true};
    if (full) o.D = skip::per_head, o.z = true, o.dt_bias = true, o.dt_min = 0.1, o.dt_max = 1;
    ssd_case<E> whole(o), steps(o);
    randomise(whole, steps, 5);
    whole.forward(ctx);
    steps.last = steps.initial;
    ssd_by_steps(ctx, steps.as_op(), steps.last);
    check_parts(steps, whole, 2, full ? "all operands" : "few operands");
  }
}

TEST_CASE_TEMPLATE("ssd: a sequence cut anywhere continues from its state", E,
                   MLMAMBA_TEST_ENGINES) {
  context_of<E> ctx;
  const ssd_options o{.length = 9, .initial = true, .final = true, .chunk_size = 4};
  for (index_t cut = 0; cut <= o.length; ++cut) {
    ssd_case<E> whole(o), parts(o);
    randomise(whole, parts, 5);
    whole.forward(ctx);
    in_two_parts(ctx, parts, cut);
    check_parts(parts, whole, 2, "cut at " + std::to_string(cut));
  }
}

TEST_CASE_TEMPLATE("ssd: steps of zero keep the state, huge ones forget it", E,
                   MLMAMBA_TEST_ENGINES) {
  context_of<E> ctx;
  const ssd_options o{.length = 130, .initial = true, .final = true, .softplus = false};
  // f16 ends at 65504, and results are in proportion to the step.
  const double huge = std::is_same_v<typename E::value, f16> ? 1e3 : 1e4;
  for (double dt : {0.0, huge}) {
    ssd_case<E> c(o);
    randomise(c, c, 5);
    auto fused = to_host(c.zxbcdt.view());
    for (index_t b = 0; b < o.batch; ++b)
      for (index_t t = 0; t < o.length; ++t)
        for (index_t h = 0; h < o.heads; ++h)
          fused(b, t, c.width - o.heads + h) = typename E::value(real_t<typename E::accum>(dt));
    from_host(c.zxbcdt.view(), view<const typename E::value, 3>(fused.view()));
    run_case(c, ctx);
    for (const array& a : results(c))
      for (double v : a.values) REQUIRE(std::isfinite(v));
    const auto first = to_host(c.initial.view()), last = to_host(c.last.view());
    if (dt == 0)
      for (index_t i = 0; i < first.count(); ++i) CHECK(first.data()[i] == last.data()[i]);
  }
}

TEST_CASE_TEMPLATE("ssd: agrees with the reference", E, MLMAMBA_TEST_ENGINES) {
  std::vector<ssd_options> cases;
  for (auto algorithm : {ops::scan_algorithm::sequential, ops::scan_algorithm::chunked})
    for (index_t length : {0, 1, 15, 16, 17, 33}) {
      ssd_options o = every_operand;
      o.length = length, o.chunk_size = 16, o.algorithm = algorithm;
      cases.push_back(o);
    }
  for (auto [p, n] : {std::pair{64, 16}, {16, 64}, {17, 33}, {1, 1}, {5, 128}, {40, 24}}) {
    ssd_options o = every_operand;
    o.batch = 1, o.length = 75, o.channels = p, o.states = n, o.D = skip::per_head;
    cases.push_back(o);
  }
  for (index_t chunk : {1, 7, 64, 1000}) {
    ssd_options o = every_operand;
    o.batch = 1, o.length = 90, o.chunk_size = chunk, o.heads = 3, o.groups = 1;
    cases.push_back(o);
  }
  for (sequences s : {sequences::packed, sequences::later, sequences::padded})
    for (index_t period : {5, 16}) {
      ssd_options o = every_operand;
      o.length = 50, o.chunk_size = 16, o.seq = s, o.period = period;
      cases.push_back(o);
    }
  cases.push_back({.batch = 0});
  cases.push_back({.length = 20, .dt_min = 0.4, .dt_max = 0.9});
  cases.push_back({.length = 20, .softplus = false, .dt_min = -0.5});  // decays above 1
  check_all<ssd_case, E>(cases);
  check_all<ssd_step_case, E>(some_cases());
}

TEST_CASE_TEMPLATE("ssd: states stored in bf16", E, states_in_bf16<float>, states_in_bf16<bf16>) {
  std::vector<ssd_options> cases = some_cases();
  for (index_t length : {8, 130}) {
    ssd_options o = every_operand;
    o.batch = 1, o.length = length, o.heads = 3, o.groups = 1, o.channels = 64, o.states = 128;
    cases.push_back(o);
  }
  check_narrow_states<ssd_case, ssd_step_case, E>(cases);
  // Many steps, each of which rounds the state: as far off as a plain state in bf16 would be.
  const ssd_options o{.length = 60, .channels = 20, .states = 40, .initial = true, .final = true};
  context_of<E> ctx;
  context<backend::reference> plain;
  using P = on<backend::reference, typename E::value, float, typename E::value, bf16>;
  ssd_case<exact> whole(o);
  ssd_case<E> steps(o);
  ssd_case<P> rounded(o);
  randomise(steps, rounded, 5), randomise(steps, whole, 5);
  steps.last = steps.initial, rounded.last = rounded.initial;
  whole.forward(plain);
  ssd_by_steps(ctx, steps.as_op(), steps.last);
  ssd_by_steps(plain, rounded.as_op(), rounded.last);
  const auto got = results(steps), want = results(whole), same = results(rounded);
  for (std::size_t k = 0; k < 2; ++k) {
    double error = 0, allowed = 0, norm = 0;
    for (std::size_t i = 0; i < want[k].values.size(); ++i) {
      const auto squared = [&](double v) {
        return (v - want[k].values[i]) * (v - want[k].values[i]);
      };
      error += squared(got[k].values[i]), allowed += squared(same[k].values[i]);
      norm += want[k].values[i] * want[k].values[i];
    }
    INFO(want[k].name);
    CHECK(error > 1e-8 * norm);  // it was rounded
    CHECK(error < 2 * allowed);
  }
}

TEST_CASE_TEMPLATE("ssd: no heads", E, cpu_f32, cpu_bf16, cpu_f64) {
  for (auto algorithm : {ops::scan_algorithm::sequential, ops::scan_algorithm::chunked})
    check_all<ssd_case, E>(std::vector<ssd_options>{{.heads = 0, .algorithm = algorithm}});
  check_all<ssd_step_case, E>(std::vector<ssd_options>{{.heads = 0}});
  // no states either: nothing is read or written
  tensor_of<E, 4> x({1, 3, 0, 4}), b({1, 3, 1, 0});
  tensor_of<E, 3> dt({1, 3, 0});
  tensor<typename E::accum, 1> rate({0});
  context_of<E> ctx;
  run(ctx,
      ops::ssd_backward<E>{{.x = x, .dt = dt, .A = rate, .B = b, .C = b}, x, {}, x, dt, {}, b, b});
}

#if !defined(__CUDACC__)
TEST_CASE_TEMPLATE("ssd: what a huge step leaves to the next sequence", E, cpu_f32, cpu_bf16,
                   cpu_f64) {
  // Whatever the steps of one sequence are, the next one's decays in the same chunk are as precise.
  using T = typename E::value;
  context_of<E> ctx;
  constexpr index_t length = 40, border = 10, n = 4;
  tensor<T, 4> x({1, length, 1, n}), b({1, length, 1, n}), c({1, length, 1, n});
  tensor<T, 3> dt({1, length, 1});
  tensor<typename E::accum, 1> rate({1});
  tensor<std::int32_t, 2> seq({1, length});
  random_stream r{3, 0, 0};
  for (auto* t : {&x, &b, &c})
    for (index_t i = 0; i < t->count(); ++i) t->data()[i] = T(real_t<T>(r.normal()));
  rate(0) = -0.5;
  for (index_t t = 0; t < length; ++t) dt(0, t, 0) = T(real_t<T>(0.25)), seq(0, t) = t >= border;
  const auto run_it = [&] {
    tensor<T, 4> y(x.shape());
    run(ctx, ops::ssd<E>{{.x = x, .dt = dt, .A = rate, .B = b, .C = c, .seq_idx = seq}, y});
    return y;
  };
  const auto usual = run_it();
  for (double step : {1e6, 1e12, 1e20, 1e35}) {
    dt(0, 3, 0) = T(real_t<T>(step));
    const auto y = run_it();
    double worst = 0, most = 0;
    for (index_t t = border; t < length; ++t)
      for (index_t p = 0; p < n; ++p) {
        const double error = std::abs(double(y(0, t, 0, p)) - double(usual(0, t, 0, p)));
        if (is_worse(error, worst)) worst = error;
        most = std::max(most, std::abs(double(usual(0, t, 0, p))));
      }
    CAPTURE(step);
    CHECK(most > 0.1);
    CHECK(worst <= (std::is_same_v<T, bf16> ? 1e-2 : 1e-6) * most);
  }
}
#endif

TEST_CASE_TEMPLATE("ssd: a row of a batch is the same alone", E, MLMAMBA_TEST_ENGINES) {
  check_alone<ssd_case, E>(some_cases(), &ssd_options::batch);
  check_alone<ssd_step_case, E>(some_cases(), &ssd_options::batch);
}

#if !defined(__CUDACC__)
TEST_CASE_TEMPLATE("ssd: after a step that is no number neither is y, on any level", E, cpu_f32,
                   cpu_bf16) {
  using backend::simd::cpu_level;
  const cpu_level before = backend::simd::current_cpu_level();
  context<backend::cpu> ctx;
  for (cpu_level l : {cpu_level::baseline, cpu_level::sse4, cpu_level::avx2, before}) {
    backend::simd::limit_cpu_level(l);
    ssd_case<E> c({.batch = 1, .length = 90, .heads = 2, .channels = 5, .states = 7, .groups = 1}),
        same = c;
    randomise(c, same, 3);
    c.cut(c.zxbcdt).dt(0, 70, 1) = typename E::value(std::numeric_limits<float>::quiet_NaN());
    run_case(c, ctx);
    index_t wrong = 0;  // it may reach earlier tokens of its 64
    for (index_t t = 0; t < 90; ++t)
      for (index_t h = 0; h < 2; ++h)
        for (index_t p = 0; p < 5; ++p)
          if (h == 0 || t < 64 || t >= 70)
            wrong += std::isnan(float(c.y(0, t, h, p))) != (h == 1 && t >= 70) ? 1 : 0;
    INFO("level ", int(backend::simd::current_cpu_level()));
    CHECK(wrong == 0);
  }
  backend::simd::limit_cpu_level(before);
}

TEST_CASE_TEMPLATE("ssd: cut around tiles of 16 and 32 and a chunk, on any level", E, cpu_f32,
                   cpu_bf16) {
  context_of<E> ctx;
  const ssd_options o{.batch = 1,
                      .length = 150,
                      .heads = 3,
                      .channels = 40,
                      .states = 72,
                      .groups = 1,
                      .D = skip::per_head,
                      .initial = true,
                      .final = true};
  for_each_cpu_level([&](backend::simd::cpu_level l) {
    for (index_t cut : {0, 1, 15, 16, 31, 33, 64, 65, 142}) {
      ssd_case<E> whole(o), parts(o);
      randomise(whole, parts, 5);
      whole.forward(ctx);
      in_two_parts(ctx, parts, cut);
      check_parts(parts, whole, 2, std::string(to_string(l)) + ", cut at " + std::to_string(cut));
    }
    check_all<ssd_case, E>(std::vector<ssd_options>{o});
  });
}

TEST_CASE_TEMPLATE("ssd: drawn options", E, cpu_f32, cpu_bf16, states_in_bf16<float>) {
  const auto options = [](draw& d) {
    ssd_options o;
    o.groups = 1 + d.below(3), o.heads = o.groups * d.size(5);
    o.batch = d.size(3), o.length = d.size(90), o.channels = d.size(70), o.states = d.size(70);
    o.D = d.one_of({skip::none, skip::per_head, skip::per_channel});
    o.z = d.coin(), o.dt_bias = d.coin(), o.initial = d.coin(), o.final = d.coin();
    o.softplus = d.below(4) != 0, o.large_steps = d.below(8) == 0;
    o.seq = d.one_of(
        {sequences::one, sequences::one, sequences::packed, sequences::later, sequences::padded});
    o.period = d.size(20), o.chunk_size = d.coin() ? 0 : d.size(70);
    if (d.coin()) o.dt_min = 0.1, o.dt_max = 0.9;
    o.algorithm = d.one_of({ops::scan_algorithm::automatic, ops::scan_algorithm::automatic,
                            ops::scan_algorithm::sequential});
    return o;
  };
  check_drawn<ssd_case, E>(30, options, &ssd_options::batch);
  check_drawn<ssd_step_case, E>(10, options, &ssd_options::batch);
}

TEST_CASE_TEMPLATE("ssd: threads and instructions", E, cpu_f32, cpu_bf16, cpu_f64) {
  check_threads<ssd_case, E>(some_cases());
  check_threads<ssd_step_case, E>(some_cases());
  check_levels<ssd_case, E>(some_cases());
  check_levels<ssd_step_case, E>(some_cases());
}
#endif
