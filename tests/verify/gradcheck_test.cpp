// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The gradient check passes a right backward, and names what is wrong with a wrong one.
#include "mlmamba/verify/gradcheck.hpp"

#include <doctest/doctest.h>

#include <limits>

#include "mlmamba/backend/reference.hpp"
#include "mlmamba/nn/linear.hpp"

using namespace mlmamba;

namespace {

enum class defect { none, scaled, one_number, nan_first, nan_last, weight };

/// A linear map whose backward has a defect.
template <engine E>
struct spoilt {
  using engine_type = E;
  nn::linear<E> inner;
  defect what;

  explicit spoilt(defect d) : inner(3, 4), what(d) {}
  static void fields(auto& self, auto&& f) { f("inner", self.inner); }
  struct saved {
    typename nn::linear<E>::saved inner;
  };
  out<E, 3> forward(context_of<E>& ctx, in<E, 3> x, saved& s) const {
    return inner.forward(ctx, x, s.inner);
  }
  out<E, 3> backward(context_of<E>& ctx, in<E, 3> dy, const saved& s) {
    using V = typename E::value;
    const V nan = V(std::numeric_limits<real_t<V>>::quiet_NaN());
    out<E, 3> dx = inner.backward(ctx, dy, s.inner);
    const index_t last = dx.count() - 1;
    if (what == defect::scaled)
      for (index_t i = 0; i <= last; ++i) dx.data[i] *= V(1 + 1e-9);
    if (what == defect::one_number) dx.data[2] += V(1e-9);
    if (what == defect::nan_first) dx.data[0] = nan;
    if (what == defect::nan_last) dx.data[last] = nan;
    if (what == defect::weight) inner.weight.grad.data()[5] = nan;
    return dx;
  }
};

verify::gradcheck_result result_of(defect d) {
  return verify::gradcheck<spoilt<exact>>({2, 5, 3}, d);
}

}  // namespace

TEST_CASE("gradcheck: a right backward differs by rounding") {
  const auto r = result_of(defect::none);
  INFO(r.where);
  CHECK(r.worst < 1e-14);
  CHECK(r.checked == 2 * 5 * 3 + 4 * 3 + 4);
}

TEST_CASE("gradcheck: an error of 1e-9 is seen and named") {
  CHECK(result_of(defect::scaled).worst > 1e-10);
  const auto r = result_of(defect::one_number);
  CHECK(r.worst > 1e-10);
  CHECK(r.where == "input[2]");
}

TEST_CASE("gradcheck: NaN anywhere is the worst error there is") {
  CHECK(result_of(defect::nan_first).worst == std::numeric_limits<double>::infinity());
  CHECK(result_of(defect::nan_first).where == "input[0]");
  CHECK(result_of(defect::nan_last).where == "input[29]");
  CHECK(result_of(defect::weight).worst == std::numeric_limits<double>::infinity());
  CHECK(result_of(defect::weight).where == "inner.weight[5]");
}
