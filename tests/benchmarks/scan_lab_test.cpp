// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The scan lab's judgement: what an algorithm leaves out or gets wrong shows in its error.
#include "scan_lab/problem.hpp"

#include <doctest/doctest.h>

#include <cmath>

using namespace mlmamba;

namespace {

const lab::sizes small{.batch = 1, .length = 9, .heads = 2, .channels = 3, .states = 4};

template <class Kind>
struct judged {
  context<backend::cpu> ctx{cpu_options{.threads = 1}};
  lab::problem<Kind, cpu_f32> problem{small};

  void compute() { run(ctx, problem.op()); }
};

}  // namespace

TEST_SUITE("scan_lab_test") {
  TEST_CASE_TEMPLATE("forward: NaN until all is written", Kind, lab::kind::ssd,
                     lab::kind::selective_scan) {
    judged<Kind> j;
    CHECK(std::isnan(j.problem.error()));
    j.compute();
    CHECK(j.problem.error() < 1e-6);
    auto& last = j.problem.op().y.data[j.problem.op().y.count() - 1];
    const float right = last;
    last = right + 1;
    CHECK(j.problem.error() > 1e-3);
    last = std::nanf("");
    CHECK(std::isnan(j.problem.error()));
    j.problem.clear();
    CHECK(std::isnan(j.problem.error()));
  }

  TEST_CASE_TEMPLATE("backward: what is not written is off by all of it", Kind,
                     lab::kind::ssd_backward, lab::kind::selective_scan_backward) {
    judged<Kind> j;
    CHECK(j.problem.error() >= 0.99);
    j.compute();
    CHECK(j.problem.error() < 1e-5);
    j.problem.op().dA.data[0] = std::nanf("");  // of one array among several
    CHECK(std::isnan(j.problem.error()));
  }
}
