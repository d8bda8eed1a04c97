// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Choosing tokens: contract, every backend token for token as the reference and the host's sampler,
// frequencies, and the arithmetic that they share.
#include <cmath>
#include <limits>
#include <vector>

#include "engines.hpp"
#include "ops/sample_cases.hpp"

using namespace mlmamba;
using namespace mlmamba::test;

namespace {

/// Several choices in a row, against the reference on the same numbers.
template <class E, class X>
void check_against_reference(context_of<E>& ctx, int kind, index_t n, index_t rows,
                             random_stream& r) {
  std::vector<std::vector<float>> logits;
  std::vector<sampling> options;
  for (index_t i = 0; i < rows; ++i) {
    logits.push_back(logits_of(kind, n, r));
    for (float& z : logits.back()) z = float(accum_t<X>(X(z)));
    options.push_back(options_of(r, n));
  }
  const bool remember = r.below(4) != 0;
  rows_of<E, X> got(logits, options, remember);
  rows_of<reference_f32> want(logits, options, remember);
  context<backend::reference> plain;
  for (int step = 0; step < 3; ++step) {
    const auto a = got.choose(ctx);
    const auto b = want.choose(plain);
    for (std::size_t i = 0; i < a.size(); ++i) {
      const sampling& o = options[i];
      CHECK_MESSAGE(a[i] == b[i], "kind ", kind, ", width ", n, ", row ", i, ", step ", step,
                    ", temperature ", o.temperature, ", top_k ", o.top_k, ", top_p ", o.top_p,
                    ", min_p ", o.min_p, ", penalty ", o.repetition_penalty, ", vocabulary ",
                    o.vocabulary, ", seed ", o.seed);
    }
    CHECK(got.read(got.draws) == want.read(want.draws));
    CHECK(got.read(got.seen) == want.read(want.seen));
    CHECK(got.read(got.unfit) == want.read(want.unfit));
  }
}

}  // namespace

TEST_SUITE("sample_test") {
  TEST_CASE("contract") {
    context<backend::reference> ctx;
    using E = reference_f32;
    tensor<float, 2> x({2, 40}), none({2, 0});
    tensor<sampling_rule, 1> rules({2});
    tensor<std::uint64_t, 1> draws({2});
    tensor<std::uint32_t, 2> seen({2, 1});
    tensor<std::int32_t, 1> index({2}), one({1});
    CHECK_THROWS_WITH_AS(
        run(ctx,
            ops::sample<E>{
                .x = none, .rules = rules, .draws = draws, .index = index, .unfit = index}),
        "sample: x has 0 columns; wanted are 1 to 2^30", shape_error);
    CHECK_THROWS_WITH_AS(run(ctx, ops::sample<E>{.x = x,
                                                 .rules = rules,
                                                 .draws = draws,
                                                 .seen = seen,
                                                 .index = index,
                                                 .unfit = index}),
                         "sample: seen is (2, 1); wanted is (2, 2)", shape_error);
    CHECK_THROWS_WITH_AS(
        run(ctx,
            ops::sample<E>{.x = x, .rules = rules, .draws = draws, .index = one, .unfit = index}),
        "sample: index is (1); wanted is (2)", shape_error);
  }

  TEST_CASE("masses are the exponential") {
    random_stream r{3, 0, 0};
    for (int i = 0; i < weight_steps; ++i)
      CHECK(double(weight_table[std::size_t(i)]) * 0x1p-63 ==
            doctest::Approx(std::exp2(-i / 64.0)).epsilon(1e-15));
    CHECK(weight_bits(1) == 62);
    CHECK(weight_bits(50280) == 47);
    double worst = 0;
    for (int i = 0; i < 100000; ++i) {
      const float best = float(4 * r.normal()), z = best - float(r.uniform(0, 10));
      const double t = r.uniform(0.3, 3);
      const sampling_rule rule({.temperature = t});
      const double want = std::exp((double(z) - double(best)) / t);
      const auto w = token_weight(z, best, rule.scale, 62, weight_table.data());
      worst = std::max(worst, std::abs(std::ldexp(double(w), -62) - want) / (want + 0x1p-10));
    }
    INFO("worst ", worst);
    CHECK(worst < 0x1p-42);
    const auto at = [](float z, float best, double t) {
      return token_weight(z, best, sampling_rule({.temperature = t}).scale, 47,
                          weight_table.data());
    };
    CHECK(at(7, 7, 1) == std::uint64_t{1} << 47);
    CHECK(at(7, 7, 5e-324) == std::uint64_t{1} << 47);
    CHECK(at(6, 7, 5e-324) == 0);
    CHECK(at(-inf, 7, 1) == 0);
    CHECK(at(-inf, 7, 1e300) == 0);
    CHECK(at(-3e38f, 3e38f, 1e300) == std::uint64_t{1} << 47);
    std::uint64_t before = at(0, 0, 1);
    bool falls = true;
    for (int i = 1; i < 100000; ++i) {
      const std::uint64_t now = at(-4e-4f * float(i), 0, 1);
      falls = falls && now <= before;
      before = now;
    }
    CHECK(falls);
  }

  TEST_CASE("the penalty keeps finite logits finite") {
    const float most = std::numeric_limits<float>::max();
    CHECK(penalised(3, 1.5) == 2);
    CHECK(penalised(-3, 1.5) == -4.5f);
    CHECK(penalised(0, 1.5) == 0);
    CHECK(penalised(most, 0.001) == most);
    CHECK(penalised(-most, 1000) == -most);
    CHECK(penalised(-inf, 2) == -inf);
  }

  TEST_CASE_TEMPLATE("token for token as the reference", E, MLMAMBA_TEST_ENGINES) {
    context_of<E> ctx;
    random_stream r{17, 0, 0};
    for (const index_t n : widths)
      for (int kind = 0; kind < 7; ++kind)
        for (int turn = 0; turn < (n < 5000 ? 6 : 2); ++turn)
          check_against_reference<E, typename E::accum>(ctx, kind, n, 1 + index_t(r.below(4)), r);
  }
  TEST_CASE_TEMPLATE("logits as narrow as the values", E, MLMAMBA_TEST_ENGINES) {
    context_of<E> ctx;
    random_stream r{18, 0, 0};
    for (const index_t n : {33, 1000})
      for (int kind = 0; kind < 6; ++kind)
        check_against_reference<E, typename E::value>(ctx, kind, n, 3, r);
  }

  TEST_CASE_TEMPLATE("as the host's sampler, from token to token", E, MLMAMBA_TEST_ENGINES) {
    context_of<E> ctx;
    random_stream r{19, 0, 0};
    for (int turn = 0; turn < 40; ++turn) {
      const index_t n = 1 + index_t(r.below(3000));
      const auto z = logits_of(turn % 7, n, r);
      const sampling o = options_of(r, n);
      sampler host(o);
      rows_of<E> device({z}, {o});
      std::vector<std::int32_t> seen;
      for (int step = 0; step < 6; ++step) {
        seen.push_back(host(z, seen));
        CHECK_MESSAGE(device.choose(ctx)[0] == seen.back(), "turn ", turn, ", step ", step);
      }
      CHECK(device.read(device.draws)[0] == host.draws());
    }
  }

  TEST_CASE_TEMPLATE("a row of a batch is what it is alone", E, MLMAMBA_TEST_ENGINES) {
    context_of<E> ctx;
    random_stream r{20, 0, 0};
    std::vector<std::vector<float>> logits;
    std::vector<sampling> options;
    for (int i = 0; i < 9; ++i) {
      logits.push_back(logits_of(i % 7, 1234, r));
      options.push_back(options_of(r, 1234));
    }
    rows_of<E> all(logits, options);
    std::vector<std::vector<std::int32_t>> together;
    for (int step = 0; step < 4; ++step) together.push_back(all.choose(ctx));
    for (std::size_t i = 0; i < 9; ++i) {
      rows_of<E> one({logits[i]}, {options[i]});
      for (std::size_t step = 0; step < 4; ++step) CHECK(one.choose(ctx)[0] == together[step][i]);
    }
  }

  TEST_CASE_TEMPLATE("what can't be chosen from is said, and leaves everything as it was", E,
                     MLMAMBA_TEST_ENGINES) {
    context_of<E> ctx;
    const float nan = std::nanf("");
    std::vector<float> fine(70, 0.0f), late = fine, first = fine, both = fine, end = fine;
    late[66] = inf, first[0] = nan, both[40] = inf, both[41] = nan, end[69] = nan;
    const std::vector<float> never(70, -inf);
    const sampling draw{.temperature = 1, .seed = 3}, greedy{.repetition_penalty = 2},
        some{.temperature = 1, .vocabulary = 60};
    for (const sampling& o : {draw, greedy}) {
      rows_of<E> rows({fine, late, first, both, never, end, late}, {o, o, o, o, o, o, some});
      const auto ids = rows.choose(ctx);
      CHECK(rows.read(rows.unfit) == std::vector<std::int32_t>{-1, 66, 0, 40, 0, 69, -1});
      for (std::size_t i = 1; i < 6; ++i) CHECK(ids[i] == 0);
      const auto draws = rows.read(rows.draws);
      const auto seen = rows.read(rows.seen);
      CHECK(draws[0] == (o.greedy() ? 0 : 1));
      CHECK(draws[6] == 1);
      CHECK(ids[6] < 60);
      for (std::size_t i = 1; i < 6; ++i) {
        CHECK(draws[i] == 0);
        for (std::size_t w = 0; w < 3; ++w) CHECK(seen[i * 3 + w] == 0);
      }
      CHECK((seen[std::size_t(ids[0] / 32)] >> (ids[0] % 32) & 1) == 1);
    }
  }

  TEST_CASE_TEMPLATE("frequencies are those of the softmax", E, MLMAMBA_TEST_ENGINES) {
    context_of<E> ctx;
    const std::vector<float> z{0.3f, -1, 2, 1.5f, -inf, 0, 1.9f, -0.5f, 0.8f};
    struct limits {
      sampling o;
      std::vector<std::size_t> left;
    };
    for (const limits& l : {limits{{.temperature = 1.0}, {0, 1, 2, 3, 5, 6, 7, 8}},
                            limits{{.temperature = 0.6}, {0, 1, 2, 3, 5, 6, 7, 8}},
                            limits{{.temperature = 1.5, .top_k = 4}, {2, 3, 6, 8}},
                            limits{{.temperature = 1.0, .min_p = 0.25}, {2, 3, 6, 8}},
                            limits{{.temperature = 2.0, .top_p = 0.5}, {2, 3, 6}}}) {
      // 2000 rows with streams of their own, 10 numbers of each.
      std::vector<sampling> options(2000, l.o);
      for (std::size_t i = 0; i < options.size(); ++i) options[i].seed = 77 + i;
      rows_of<E> rows(std::vector<std::vector<float>>(2000, z), options, false);
      std::vector<double> count(z.size(), 0.0), p(z.size(), 0.0);
      for (int step = 0; step < 10; ++step)
        for (const std::int32_t id : rows.choose(ctx)) ++count[std::size_t(id)];
      double sum = 0, chi = 0;
      for (const std::size_t i : l.left) sum += p[i] = std::exp(double(z[i]) / l.o.temperature);
      for (std::size_t i = 0; i < z.size(); ++i) {
        const double want = 20000 * p[i] / sum;
        if (want == 0) CHECK(count[i] == 0);
        if (want > 0) chi += (count[i] - want) * (count[i] - want) / want;
      }
      INFO("temperature ", l.o.temperature, ", chi square ", chi);
      CHECK(chi < 24.4);  // of 7 degrees of freedom: 1 in 1000; the seeds are fixed
    }
  }
}
