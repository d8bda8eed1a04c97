// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Mixers that scan in several orders: exact gradients, names, and what an order means.
#include "mlmamba/nn/multi_scan_mamba2.hpp"

#include "nn/mixer_checks.hpp"

using namespace mlmamba;

namespace {
nn::mixer_config plain() {
  nn::mixer_config c;
  c.d_model = 6;
  c.d_state = 3;
  c.headdim = 4;
  return c;
}
nn::mixer_config others() {
  nn::mixer_config c = plain();
  c.ngroups = 3, c.D_has_hdim = true, c.norm_before_gate = true, c.bias = true;
  c.conv_bias = false, c.dt_limit_low = 0.5, c.dt_limit_high = 0.8;
  return c;
}
template <class M>
std::vector<double> answer(const M& m, const tensor<double, 3>& u) {
  context_of<exact> ctx;
  typename M::saved s;
  return verify::values(m.forward(ctx, u, s));
}
}  // namespace

TEST_SUITE("multi_scan_mamba2_test") {
  TEST_CASE("gradients are exact, both ways and crossed") {
    using both = nn::multi_scan_mamba2<exact>;
    using cross = nn::multi_scan_mamba2<exact, nn::cross_scan>;
    verify::check_gradients<both>({{2, 6, 6}}, plain(), index_t(2), index_t(3));
    verify::check_gradients<both>({{1, 6, 6}}, others(), index_t(3), index_t(2));
    verify::check_gradients<cross>({{2, 6, 6}}, plain(), index_t(2), index_t(3));
    verify::check_gradients<cross>({{1, 6, 6}}, others(), index_t(3), index_t(2));
    verify::check_gradients<both>({{1, 1, 6}}, plain(), index_t(1), index_t(1));
  }
  TEST_CASE("names: shared projections, a suffix for each further direction") {
    const nn::multi_scan_mamba2<exact> m(plain(), 2, 3);
    std::string all;
    nn::for_each_parameter(m, [&](const std::string& name, const auto&) { all += name + " "; });
    CHECK(all ==
          "in_proj.weight conv1d.weight conv1d.bias dt_bias A_log D conv1d_b.weight conv1d_b.bias "
          "dt_bias_b A_log_b D_b norm.weight out_proj.weight ");
    const nn::multi_scan_mamba2<exact, nn::cross_scan> crossed(plain(), 2, 3);
    bool found = false;
    nn::for_each_parameter(
        crossed, [&](const std::string& name, const auto&) { found |= name == "A_log_d"; });
    CHECK(found);
  }
  TEST_CASE("with equal directions, a reversed input gives the reversed output") {
    nn::multi_scan_mamba2<exact> m(plain(), 2, 3);
    nn::initialise(m, {3, 0, 0});
    m.scans[1].conv1d = m.scans[0].conv1d;  // the rest starts equal
    const auto u = verify::random_tensor<exact, 3>({{1, 6, 6}}, 5);
    tensor<double, 3> turned({1, 6, 6});
    for (index_t t = 0; t < 6; ++t)
      for (index_t d = 0; d < 6; ++d) turned(0, t, d) = u(0, 5 - t, d);
    const auto y = answer(m, u), z = answer(m, turned);
    double worst = 0;
    for (std::size_t t = 0; t < 6; ++t)
      for (std::size_t d = 0; d < 6; ++d) {
        const double e = std::abs(y[t * 6 + d] - z[(5 - t) * 6 + d]);
        if (verify::is_worse(e, worst)) worst = e;
      }
    CHECK(worst < 1e-15);
  }
  TEST_CASE("one direction is a Mamba-2 mixer: the mean of two equal ones on a single token") {
    nn::multi_scan_mamba2<exact> m(plain(), 1, 1);
    nn::initialise(m, {3, 0, 0});
    m.scans[1].conv1d = m.scans[0].conv1d;
    nn::mamba2<exact> one(plain());
    one.in_proj = m.in_proj, one.scan = m.scans[0], one.norm = m.norm, one.out_proj = m.out_proj;
    const auto u = verify::random_tensor<exact, 3>({{2, 1, 6}}, 5);
    CHECK(answer(m, u) == answer(one, u));
  }
  TEST_CASE("each direction of the cross scan hears the tokens before it in its own order, only") {
    // A direction whose convolution is zero is silent: x = silu(0), so y = 0.
    const std::vector<std::vector<index_t>> orders{
        {0, 1, 2, 3, 4, 5}, {5, 4, 3, 2, 1, 0}, {0, 3, 1, 4, 2, 5}, {5, 2, 4, 1, 3, 0}};
    for (std::size_t k = 0; k < 4; ++k) {
      nn::multi_scan_mamba2<exact, nn::cross_scan> m(plain(), 2, 3);
      nn::initialise(m, {3, 0, 0});
      for (std::size_t other = 0; other < 4; ++other) {
        if (other == k) continue;
        nn::fill(m.scans[other].conv1d.weight, [] { return 0.0; });
        nn::fill(m.scans[other].conv1d.bias, [] { return 0.0; });
      }
      auto u = verify::random_tensor<exact, 3>({{1, 6, 6}}, 5);
      const auto before = answer(m, u);
      for (index_t at = 0; at < 6; ++at) {
        u(0, orders[k][std::size_t(at)], 0) += 1;
        const auto after = answer(m, u);
        u(0, orders[k][std::size_t(at)], 0) -= 1;
        for (index_t t = 0; t < 6; ++t) {
          const auto token = std::size_t(orders[k][std::size_t(t)]);
          double most = 0;  // 1e-12: taking the 1 away again may leave a rounding
          for (std::size_t d = 0; d < 6; ++d)
            most = std::max(most, std::abs(before[token * 6 + d] - after[token * 6 + d]));
          CHECK_MESSAGE((most > 1e-12) == (t >= at), "direction ", k, ", place ", at, " to ", t);
        }
      }
    }
  }
  TEST_CASE("what it has no part for is refused") {
    nn::mixer_config c = plain();
    c.rmsnorm = false;
    CHECK_THROWS_AS((nn::multi_scan_mamba2<exact>{c, 2, 3}), shape_error);
    context_of<exact> ctx;
    nn::multi_scan_mamba2<exact> m(plain(), 2, 3);
    nn::multi_scan_mamba2<exact>::saved s;
    const tensor<double, 3> five({1, 5, 6});
    CHECK_THROWS_AS(m.forward(ctx, five, s), shape_error);
  }
}
