// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The learning rate of each update.
#include "mlmamba/train/schedule.hpp"

#include <doctest/doctest.h>

using namespace mlmamba;
using train::schedule;

TEST_SUITE("schedule_test") {
  TEST_CASE("warm-up is a straight line that ends at the peak, then half a cosine follows") {
    const schedule s{.peak = 2, .steps = 110, .warmup = 10};
    s.check();
    CHECK(s(0) == doctest::Approx(0.2));
    CHECK(s(4) == doctest::Approx(1.0));
    CHECK(s(9) == 2);
    CHECK(s(10) == 2);
    CHECK(s(60) == doctest::Approx(1.0));
    CHECK(s(35) == doctest::Approx(1 + std::sqrt(0.5)));
    CHECK(s(110) == doctest::Approx(0).epsilon(1e-12));
    CHECK(s(1000) == doctest::Approx(0).epsilon(1e-12));
    for (index_t u = 10; u < 110; ++u) CHECK(s(u + 1) < s(u));
  }
  TEST_CASE("the original's first update has rate 0, and its cosine is the same") {
    const schedule s{.peak = 2, .steps = 110, .warmup = 10, .first_update_zero = true};
    CHECK(s(0) == 0);
    CHECK(s(1) == doctest::Approx(0.2));
    CHECK(s(10) == 2);
    CHECK(s(60) == doctest::Approx(1.0));
    CHECK(schedule{.peak = 2, .steps = 5, .first_update_zero = true}(0) == 0);
    CHECK(schedule{.peak = 2, .steps = 5}(0) == 2);
  }
  TEST_CASE("constant stays at the peak, and the cosine can end above 0") {
    const schedule c{.peak = 3, .steps = 20, .warmup = 2, .decay = train::decay_shape::constant};
    CHECK(c(1) == 3);
    CHECK(c(19) == 3);
    const schedule e{.peak = 3, .last = 1, .steps = 20};
    CHECK(e(10) == doctest::Approx(2));
    CHECK(e(20) == doctest::Approx(1));
  }
  TEST_CASE("the warm-up of a ratio is rounded down") {
    CHECK(schedule::warmup_of(0.03, 5197) == 155);
    CHECK(schedule::warmup_of(0, 10) == 0);
    CHECK_THROWS_AS(schedule::warmup_of(1.5, 10), error);
  }
  TEST_CASE("what makes no sense is refused") {
    CHECK_THROWS_AS((schedule{.peak = -1}.check()), error);
    CHECK_THROWS_AS((schedule{.peak = 1, .last = 2}.check()), error);
    CHECK_THROWS_AS((schedule{.steps = 0}.check()), error);
    CHECK_THROWS_AS((schedule{.steps = 5, .warmup = 6}.check()), error);
    CHECK_THROWS_AS((schedule{}(-1)), error);
    CHECK_THROWS_AS(train::decay_shape_of("step"), error);
    CHECK(train::decay_shape_of("cosine") == train::decay_shape::cosine);
  }
}
