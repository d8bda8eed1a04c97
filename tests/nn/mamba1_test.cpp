// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The Mamba-1 mixer with each of its options: gradients, cuts, states, names, initialisation.
#include "mlmamba/nn/mamba1.hpp"

#include "engines.hpp"
#include "mlmamba/mlmamba.hpp"
#include "nn/mixer_checks.hpp"

using namespace mlmamba;

namespace {
nn::mixer_config plain() {
  nn::mixer_config c;
  c.d_model = 6;
  c.d_state = 3;
  return c;
}
std::vector<nn::mixer_config> all_options() {
  std::vector<nn::mixer_config> all{plain()};
  const auto add = [&](auto&& change) {
    nn::mixer_config c = plain();
    change(c);
    all.push_back(c);
  };
  add([](auto& c) { c.bias = true, c.conv_bias = false; });
  add([](auto& c) { c.dt_rank = 4, c.d_conv = 2; });
  add([](auto& c) { c.scan_norms = true, c.dt_rank = 3; });
  add([](auto& c) { c.scan_norms = true, c.bias = true, c.d_conv = 3, c.expand = 1; });
  add([](auto& c) { c.d_state = 1; });
  return all;
}
}  // namespace

TEST_SUITE("mamba1_test") {
  TEST_CASE("gradients are exact with every option") {
    for (const nn::mixer_config& c : all_options())
      verify::check_gradients<nn::mamba1<exact>>({{2, 5, 6}}, c);
    verify::check_gradients<nn::mamba1<exact>>({{1, 1, 6}}, plain());
  }
  TEST_CASE("a prompt cut anywhere and decoded gives what forward gives, with every option") {
    for (const nn::mixer_config& c : all_options()) verify::check_cuts<nn::mamba1<exact>>(c, 64);
  }
  TEST_CASE_TEMPLATE("and so on every engine, to its rounding", E, MLMAMBA_TEST_ENGINES) {
    // seven roundings to the value type from input to output, adding as a random walk
    for (const nn::mixer_config& c : all_options())
      verify::check_cuts<nn::mamba1<E>>(c, 64, 2, 7, std::sqrt(7.0));
  }
  TEST_CASE("a state is a value") {
    for (const nn::mixer_config& c : all_options())
      verify::check_state_is_a_value<nn::mamba1<reference_f32>>(c);
  }
  TEST_CASE("parameters have the published names and shapes") {
    nn::mixer_config c = plain();
    c.d_model = 64, c.d_state = 16;
    const nn::mamba1<exact> m(c);
    std::string all;
    nn::for_each_parameter(m, [&](const std::string& name, const auto& p) {
      all += name + to_string(p.value.view()) + " ";
    });
    CHECK(
        all ==
        "in_proj.weight(256, 64) conv1d.weight(128, 1, 4) conv1d.bias(128) x_proj.weight(36, 128) "
        "dt_proj.weight(128, 4) dt_proj.bias(128) A_log(128, 16) D(128) out_proj.weight(64, 128) ");
  }
  TEST_CASE("it starts as published: rates 1 to N, steps in 0.001 to 0.1") {
    nn::mamba1<exact> m(plain());
    nn::initialise(m, {1, 0, 0});
    for (index_t d = 0; d < 12; ++d) {
      for (index_t n = 0; n < 3; ++n)
        CHECK(m.A_log.value(d, n) == doctest::Approx(std::log(double(n + 1))));
      const double step = std::log1p(std::exp(m.dt_proj.bias.value(d)));
      CHECK((step >= 0.00099 && step <= 0.101));
    }
  }
  TEST_CASE("options of Mamba-2 are refused") {
    const auto refused = [](auto&& change) {
      nn::mixer_config c = plain();
      change(c);
      CHECK_THROWS_AS(nn::mamba1<exact>{c}, shape_error);
    };
    refused([](auto& c) { c.ngroups = 2; });
    refused([](auto& c) { c.d_ssm = 6; });
    refused([](auto& c) { c.D_has_hdim = true; });
    refused([](auto& c) { c.dt_limit_high = 1; });
    refused([](auto& c) { c.d_model = 0; });
  }
}
