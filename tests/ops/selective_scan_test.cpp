// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Selective scan: gradients, sequences, states, decoding, extreme steps.
#include "ops/selective_scan_cases.hpp"

#include "mlmamba/verify/gradcheck.hpp"
#include "ops/drawn.hpp"
#include "ops/engine_checks.hpp"

using namespace mlmamba;
using namespace mlmamba::verify;

namespace {

void exact_gradient(selective_scan_options o) {
  const gradcheck_result r = gradcheck_case<scan_case>(7, o);
  INFO("length ", o.length, " channels ", o.channels, " groups ", o.groups, " at ", r.where);
  CHECK(r.worst < 1e-12);
}

const selective_scan_options every_operand{
    .D = true, .z = true, .dt_bias = true, .initial = true, .final = true};

/// Larger than vectors and tasks, with and without several sequences in a row.
std::vector<selective_scan_options> some_cases() {
  selective_scan_options wide = every_operand, packed = every_operand, padded = every_operand,
                         plain;
  wide.batch = 3, wide.length = 50, wide.channels = 300, wide.states = 5;
  packed.batch = 4, packed.length = 40, packed.channels = 34, packed.states = 17;
  packed.seq = sequences::packed, packed.period = 7;
  padded.batch = 3, padded.length = 30, padded.seq = sequences::padded, padded.initial = false;
  plain.batch = 3, plain.length = 20, plain.channels = 18;
  return {wide, packed, padded, plain};
}

}  // namespace

TEST_CASE_TEMPLATE("selective_scan: many channels of one group", E, MLMAMBA_TEST_ENGINES) {
  selective_scan_options o = every_operand, plain, packed = every_operand;
  o.groups = plain.groups = packed.groups = 1;
  o.batch = 2, o.length = 75, o.channels = 150, o.states = 16;
  plain.batch = 1, plain.length = 300, plain.channels = 270, plain.states = 12;
  packed.batch = 3, packed.length = 41, packed.channels = 130, packed.states = 16;
  packed.seq = sequences::packed, packed.period = 7;
  // Aligned: on a GPU by other kernels; long enough for several segments there.
  selective_scan_options long_one = o, aligned_plain = plain, aligned_packed = packed;
  for (selective_scan_options* a : {&long_one, &aligned_plain, &aligned_packed}) a->aligned = true;
  long_one.channels = 136, long_one.length = 700;
  aligned_plain.channels = 264, aligned_plain.length = 301, aligned_plain.states = 8;
  aligned_packed.channels = 128, aligned_packed.length = 530, aligned_packed.period = 61;
  check_all<scan_case, E>(std::vector<selective_scan_options>{o, plain, packed, long_one,
                                                              aligned_plain, aligned_packed});
}

TEST_CASE("selective_scan: gradients are exact with each operand present and absent") {
  for (bool D : {false, true})
    for (bool z : {false, true})
      for (bool dt_bias : {false, true})
        for (bool states : {false, true})
          exact_gradient({.length = 4,
                          .D = D,
                          .z = z,
                          .dt_bias = dt_bias,
                          .initial = states,
                          .final = states,
                          .softplus = D == z});
  exact_gradient({.groups = 1, .initial = true});
  exact_gradient({.groups = 4, .final = true});
  exact_gradient({.channels = 3, .states = 1, .groups = 1});
  exact_gradient({.length = 4, .dt_bias = true, .large_steps = true});
}

TEST_CASE("selective_scan: gradients are exact with several sequences, and at the ends") {
  for (sequences s : {sequences::packed, sequences::later, sequences::padded})
    for (bool states : {false, true})
      exact_gradient(
          {.length = 7, .z = states, .initial = states, .final = states, .seq = s, .period = 2});
  for (index_t length : {0, 1, 2})
    exact_gradient({.length = length, .D = true, .z = true, .initial = true, .final = true});
  exact_gradient({.batch = 0});
}

TEST_CASE("selective_scan: wrong operands are named") {
  context<backend::reference> ctx;
  scan_case<exact> c(selective_scan_options{});
  const auto s = c.cut(c.fused);
  ops::selective_scan<exact> op{.x = s.x, .dt = s.dt, .A = c.rate, .B = s.B, .C = s.C, .y = c.y};
  op.D = in_accum<exact, 2>(c.rate.view()).select(0, 0);
  CHECK_THROWS_WITH_AS(run(ctx, op), "selective_scan: D is (3); wanted is (4)", shape_error);
  scan_case<exact> odd({.channels = 3, .groups = 2});
  const auto t = odd.cut(odd.fused);
  op = {.x = t.x, .dt = t.dt, .A = odd.rate, .B = t.B, .C = t.C, .y = odd.y};
  CHECK_THROWS_WITH_AS(run(ctx, op),
                       "selective_scan: there are 3 channels and 2 groups; wanted is a number of "
                       "groups that divides the channels",
                       shape_error);
}

TEST_CASE_TEMPLATE("selective_scan: steps give what the whole sequence gives", E,
                   MLMAMBA_TEST_ENGINES) {
  context_of<E> ctx;
  for (bool full : {false, true}) {
    selective_scan_options o{
        .length = 40, .channels = 38, .states = 5, .initial = true, .final = true};
    if (full) o.D = true, o.z = true, o.dt_bias = true;
    scan_case<E> whole(o), steps(o);
    randomise(whole, steps, 5);
    whole.forward(ctx);
    steps.last = steps.initial;
    scan_by_steps(ctx, steps.as_op(), steps.last);
    check_parts(steps, whole, 2, full ? "all operands" : "few operands");
  }
}

TEST_CASE_TEMPLATE("selective_scan: a sequence cut anywhere continues from its state", E,
                   MLMAMBA_TEST_ENGINES) {
  context_of<E> ctx;
  const selective_scan_options o{.length = 9, .initial = true, .final = true};
  for (index_t cut = 0; cut <= o.length; ++cut) {
    scan_case<E> whole(o), parts(o);
    randomise(whole, parts, 5);
    whole.forward(ctx);
    parts.last = parts.initial;  // the state is continued in place
    const auto s = parts.cut(parts.fused);
    for (auto [from, n] : {std::pair{index_t(0), cut}, std::pair{cut, o.length - cut}})
      run(ctx, ops::selective_scan<E>{.x = s.x.slice(1, from, n),
                                      .dt = s.dt.slice(1, from, n),
                                      .A = parts.rate,
                                      .B = s.B.slice(1, from, n),
                                      .C = s.C.slice(1, from, n),
                                      .initial_states = parts.last,
                                      .y = parts.y.view().slice(1, from, n),
                                      .final_states = parts.last,
                                      .dt_softplus = true});
    check_parts(parts, whole, 2, "cut at " + std::to_string(cut));
  }
}

TEST_CASE_TEMPLATE("selective_scan: steps of zero keep the state, huge ones forget it", E,
                   MLMAMBA_TEST_ENGINES) {
  context_of<E> ctx;
  const selective_scan_options o{.length = 70, .initial = true, .final = true, .softplus = false};
  // f16 ends at 65504, and results are in proportion to the step.
  const double huge = std::is_same_v<typename E::value, f16> ? 1e3 : 1e4;
  for (double dt : {0.0, huge}) {
    scan_case<E> c(o);
    randomise(c, c, 5);
    auto fused = to_host(c.fused.view());
    for (index_t b = 0; b < o.batch; ++b)
      for (index_t t = 0; t < o.length; ++t)
        for (index_t d = 0; d < o.channels; ++d)
          fused(b, t, 1 + o.channels + d) = typename E::value(real_t<typename E::accum>(dt));
    from_host(c.fused.view(), view<const typename E::value, 3>(fused.view()));
    run_case(c, ctx);
    for (const array& a : results(c))
      for (double v : a.values) REQUIRE(std::isfinite(v));
    const auto first = to_host(c.initial.view()), last = to_host(c.last.view());
    if (dt == 0)
      for (index_t i = 0; i < first.count(); ++i) CHECK(first.data()[i] == last.data()[i]);
  }
}

#if !defined(__CUDACC__)
TEST_CASE_TEMPLATE("selective_scan: a gradient that is no number stays in its sequence", E, cpu_f32,
                   cpu_bf16, cpu_f64, on<backend::reference, double>) {
  using T = typename E::value;
  context_of<E> ctx;
  constexpr index_t length = 50, border = 20, n = 3;
  tensor<T, 3> x({1, length, 9}), dt(x.shape()), dy(x.shape()), dx(x.shape()), ddt(x.shape());
  tensor<T, 4> b({1, length, 1, n}), c(b.shape()), db(b.shape()), dc(b.shape());
  tensor<typename E::accum, 2> rate({9, n});
  tensor<typename E::accum, 3> first({1, 9, n}), dfirst(first.shape());
  tensor<std::int32_t, 2> seq({1, length});
  random_stream r{3, 0, 0};
  const auto fill = [&](auto& t, double shift, double by) {
    for (index_t i = 0; i < t.count(); ++i)
      t.data()[i] = std::remove_reference_t<decltype(t.data()[0])>(
          real_t<std::remove_reference_t<decltype(t.data()[0])>>(shift + by * r.normal()));
  };
  fill(x, 0, 1), fill(dy, 0, 1), fill(b, 0, 1), fill(c, 0, 1), fill(dt, 0.3, 0.01);
  fill(rate, -1, 0.1), fill(first, 0, 1);
  for (index_t t = 0; t < length; ++t) seq(0, t) = t >= border;
  dy(0, border + 6, 4) = T(std::numeric_limits<float>::quiet_NaN());
  dy(0, border + 9, 7) = T(std::numeric_limits<float>::infinity());
  run(ctx, ops::selective_scan_backward<E>{.x = x,
                                           .dt = dt,
                                           .A = rate,
                                           .B = b,
                                           .C = c,
                                           .initial_states = first,
                                           .seq_idx = seq,
                                           .dy = dy,
                                           .dx = dx,
                                           .ddt = ddt,
                                           .dB = db,
                                           .dC = dc,
                                           .dinitial_states = dfirst});
  const auto finite = [](auto v) { return std::isfinite(double(v)); };
  index_t wrong = 0, reached = 0;
  for (index_t t = 0; t < border; ++t) {
    for (index_t d = 0; d < 9; ++d) wrong += !finite(dx(0, t, d)) + !finite(ddt(0, t, d));
    for (index_t i = 0; i < n; ++i) wrong += !finite(db(0, t, 0, i)) + !finite(dc(0, t, 0, i));
  }
  for (index_t i = 0; i < dfirst.count(); ++i) wrong += !finite(dfirst.data()[i]);
  for (index_t t = border; t <= border + 6; ++t) reached += !finite(dx(0, t, 4));
  CHECK(wrong == 0);
  CHECK(reached == 7);
}
#endif

TEST_CASE_TEMPLATE("selective_scan: agrees with the reference", E, MLMAMBA_TEST_ENGINES) {
  std::vector<selective_scan_options> cases;
  for (index_t length : {0, 1, 2, 31, 32, 33, 100}) {
    selective_scan_options o = every_operand;
    o.length = length;
    cases.push_back(o);
  }
  for (auto [d, n] : {std::pair{64, 16}, {34, 7}, {2, 1}, {18, 64}, {100, 16}}) {
    selective_scan_options o = every_operand;
    o.length = 40, o.channels = d, o.states = n;
    cases.push_back(o);
  }
  for (index_t groups : {1, 3, 12}) {
    selective_scan_options o = every_operand;
    o.length = 20, o.channels = 36, o.groups = groups;
    cases.push_back(o);
  }
  for (sequences s : {sequences::packed, sequences::later, sequences::padded})
    for (index_t period : {5, 16}) {
      selective_scan_options o = every_operand;
      o.length = 50, o.channels = 20, o.seq = s, o.period = period;
      cases.push_back(o);
    }
  cases.push_back({.batch = 0});
  cases.push_back({.length = 20, .channels = 20, .softplus = false});
  check_all<scan_case, E>(cases);
  check_all<scan_step_case, E>(some_cases());
}

TEST_CASE_TEMPLATE("selective_scan: a row of a batch is the same alone", E, MLMAMBA_TEST_ENGINES) {
  check_alone<scan_case, E>(some_cases(), &selective_scan_options::batch);
  check_alone<scan_step_case, E>(some_cases(), &selective_scan_options::batch);
}

TEST_CASE_TEMPLATE("selective_scan: states stored in bf16", E, states_in_bf16<float>,
                   states_in_bf16<bf16>) {
  std::vector<selective_scan_options> cases = some_cases();
  selective_scan_options o = every_operand;
  o.length = 300, o.channels = 70, o.states = 16;
  cases.push_back(o);
  check_narrow_states<scan_case, scan_step_case, E>(cases);
}

#if !defined(__CUDACC__)
TEST_CASE_TEMPLATE("selective_scan: drawn options", E, cpu_f32, cpu_bf16, states_in_bf16<float>) {
  const auto options = [](draw& d) {
    selective_scan_options o;
    o.groups = 1 + d.below(3), o.channels = o.groups * d.size(60);
    o.batch = d.size(3), o.length = d.size(60), o.states = d.size(20);
    o.D = d.coin(), o.z = d.coin(), o.dt_bias = d.coin(), o.initial = d.coin(), o.final = d.coin();
    o.large_steps = d.below(8) == 0, o.aligned = d.coin();
    o.seq = d.one_of(
        {sequences::one, sequences::one, sequences::packed, sequences::later, sequences::padded});
    o.period = d.size(20);
    o.softplus = !(o.dt_bias && o.large_steps) || d.coin();  // steps below zero would grow
    return o;
  };
  check_drawn<scan_case, E>(30, options, &selective_scan_options::batch);
  check_drawn<scan_step_case, E>(10, options, &selective_scan_options::batch);
}

TEST_CASE_TEMPLATE("selective_scan: threads and instructions", E, cpu_f32, cpu_bf16, cpu_f64) {
  check_threads<scan_case, E>(some_cases());
  check_threads<scan_step_case, E>(some_cases());
  check_levels<scan_case, E>(some_cases());
  check_levels<scan_step_case, E>(some_cases());
}
#endif
