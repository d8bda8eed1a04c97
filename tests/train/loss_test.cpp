// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Shifted cross-entropy and its normalisation.
#include "mlmamba/train/loss.hpp"

#include <doctest/doctest.h>

#include "engines.hpp"
#include "mlmamba/backend/cpu.hpp"
#include "mlmamba/backend/reference.hpp"
#include "mlmamba/core/random.hpp"

using namespace mlmamba;
using namespace mlmamba::train;

TEST_SUITE("loss_test") {
  TEST_CASE("labels are shifted by one, and the picture's positions have none") {
    tensor<std::int32_t, 2> labels({2, 3});
    for (int i = 0; i < 6; ++i) labels.data()[i] = 10 + i;
    labels(1, 1) = ignored;
    const auto none = shift_labels(labels.view(), 0);
    CHECK(none(0, 0) == 11);
    CHECK(none(0, 1) == 12);
    CHECK(none(0, 2) == ignored);
    CHECK(none(1, 0) == ignored);
    const auto two = shift_labels(labels.view(), 2);
    const std::int32_t want[] = {ignored, 10, 11, 12, ignored, ignored, 13, ignored, 15, ignored};
    for (int i = 0; i < 10; ++i) CHECK(two.data()[i] == want[i]);
    CHECK(labelled(labels.view(), 0) == 3);
    CHECK(labelled(labels.view(), 2) == 5);
    CHECK(shift_labels(tensor<std::int32_t, 2>({2, 0}).view(), 1)(0, 0) == ignored);
  }
  TEST_CASE_TEMPLATE("sum and gradient equal the definition", E, MLMAMBA_TEST_ENGINES) {
    context_of<E> ctx;
    const index_t batch = 2, length = 3, v = 5;
    random_stream r{7, 0, 0};
    tensor_of<E, 3> logits({batch, length, v});
    for (index_t i = 0; i < logits.count(); ++i)
      logits.data()[i] = typename E::value(float(3 * r.normal()));
    const auto before = logits;
    tensor<std::int32_t, 2> label({batch, length});
    for (index_t i = 0; i < label.count(); ++i) label.data()[i] = std::int32_t(i % v);
    label(0, 1) = ignored;
    const double sum = cross_entropy_gradient<E>(ctx, logits.view(), label.view(), 0.5);
    double want = 0;
    // One rounding to value of numbers below 1, and a few of accum.
    const double close = std::is_same_v<typename E::value, bf16> ? 1.0 / 256 : 2e-6;
    for (index_t b = 0; b < batch; ++b)
      for (index_t s = 0; s < length; ++s) {
        double all = 0;
        for (index_t i = 0; i < v; ++i) all += std::exp(double(before(b, s, i)));
        const bool counts = label(b, s) != ignored;
        if (counts) want += std::log(all) - double(before(b, s, label(b, s)));
        for (index_t i = 0; i < v; ++i) {
          const double d = 0.5 * (std::exp(double(before(b, s, i))) / all - (i == label(b, s)));
          CHECK(std::fabs(double(logits(b, s, i)) - (counts ? d : 0)) <= close);
        }
      }
    CHECK(sum == doctest::Approx(want).epsilon(1e-5));
  }
  TEST_CASE("wrong shapes and labels are refused") {
    using E = reference_f32;
    context_of<E> ctx;
    tensor_of<E, 3> logits({1, 2, 3});
    tensor<std::int32_t, 2> label({1, 3});
    CHECK_THROWS_AS(cross_entropy_gradient<E>(ctx, logits.view(), label.view(), 1), shape_error);
    tensor<std::int32_t, 2> big({1, 2});
    big(0, 0) = 3;
    CHECK_THROWS_AS(cross_entropy_gradient<E>(ctx, logits.view(), big.view(), 1), shape_error);
    CHECK_THROWS_AS(normalisation_of("sum"), error);
    CHECK(normalisation_of("mean-of-means") == normalisation::mean_of_means);
  }
}
