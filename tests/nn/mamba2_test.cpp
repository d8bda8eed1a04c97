// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The Mamba-2 mixer with each of its options: gradients, cuts, states, names, initialisation.
#include "mlmamba/nn/mamba2.hpp"

#include <set>

#include "engines.hpp"
#include "mlmamba/mlmamba.hpp"
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
/// Every option on at least once, each beside its default.
std::vector<nn::mixer_config> all_options() {
  std::vector<nn::mixer_config> all{plain()};
  const auto add = [&](auto&& change) {
    nn::mixer_config c = plain();
    change(c);
    all.push_back(c);
  };
  add([](auto& c) { c.ngroups = 3; });
  add([](auto& c) { c.D_has_hdim = true; });
  add([](auto& c) { c.rmsnorm = false; });
  add([](auto& c) { c.norm_before_gate = true, c.ngroups = 3; });
  add([](auto& c) { c.bias = true, c.conv_bias = false; });
  add([](auto& c) { c.dt_limit_low = 0.5, c.dt_limit_high = 0.8; });
  add([](auto& c) { c.d_ssm = 8; });
  add([](auto& c) { c.d_ssm = 4, c.rmsnorm = false, c.D_has_hdim = true; });
  add([](auto& c) { c.d_conv = 2, c.chunk_size = 2; });
  add([](auto& c) { c.d_conv = 3, c.expand = 1, c.headdim = 1, c.d_state = 1; });
  return all;
}
/// Some tokens through a residual block, by nn::mamba2::step_onto where there is one.
template <class E>
void check_block_step(index_t d_model, index_t groups, index_t batch) {
  nn::mixer_config c = plain();
  c.d_model = d_model, c.headdim = d_model == 64 ? 16 : d_model == 6 ? 4 : 8, c.ngroups = groups;
  c.d_state = d_model == 64 ? 16 : 6;
  context_of<E> ctx;
  nn::mamba2<E> m(c);
  nn::rms_norm<E, nn::wide> norm(d_model);
  nn::initialise(m, {3, 0, 0});
  nn::initialise(norm, {4, 0, 0});
  auto once = m.make_state(batch), parts = m.make_state(batch);
  auto frame = ctx.scratch.make_frame();
  const auto u = verify::random_tensor<E, 3>({{batch, 1, d_model}}, 9);
  using A = typename E::accum;
  const out_accum<E, 3> r = nn::to<A>(ctx, in<E, 3>(u)), q = nn::to<A>(ctx, in<E, 3>(u));
  for (int i = 0; i < 3; ++i) {
    if (!m.step_onto(ctx, r, norm, once)) return;  // a backend that has only the parts
    typename nn::rms_norm<E, nn::wide>::saved s;
    nn::add_to(ctx, q, m.step(ctx, norm.forward(ctx, q, s), parts));
  }
  // Three layers of about eight roundings each.
  const double allowed = 4 * verify::tolerance<E>(64);
  const auto d = verify::compare_arrays({{"r", verify::values(r)},
                                         {"state", verify::values(once.ssm.view())},
                                         {"window", verify::values(once.conv.view())}},
                                        {{"r", verify::values(q)},
                                         {"state", verify::values(parts.ssm.view())},
                                         {"window", verify::values(parts.conv.view())}},
                                        allowed);
  CHECK_MESSAGE(d.ok, "batch ", batch, ", ", d_model, ": ", d.where, "; off by ", d.relative,
                ", allowed is ", d.tolerance);
}
}  // namespace

TEST_SUITE("mamba2_test") {
  TEST_CASE("gradients are exact with every option") {
    for (const nn::mixer_config& c : all_options())
      verify::check_gradients<nn::mamba2<exact>>({{2, 5, 6}}, c);
    verify::check_gradients<nn::mamba2<exact>>({{1, 1, 6}}, plain());
  }
  TEST_CASE("a prompt cut anywhere and decoded gives what forward gives, with every option") {
    for (const nn::mixer_config& c : all_options()) verify::check_cuts<nn::mamba2<exact>>(c, 64);
  }
  TEST_CASE_TEMPLATE("and so on every engine, to its rounding", E, MLMAMBA_TEST_ENGINES) {
    // seven roundings to the value type from input to output, adding as a random walk
    for (const nn::mixer_config& c : all_options())
      verify::check_cuts<nn::mamba2<E>>(c, 64, 2, 7, std::sqrt(7.0));
  }
  TEST_CASE("a state is a value") {
    for (const nn::mixer_config& c : all_options())
      verify::check_state_is_a_value<nn::mamba2<reference_f32>>(c);
  }
  TEST_CASE("parameters have the published names and shapes") {
    nn::mixer_config c;
    c.d_model = 64;
    const nn::mamba2<exact> m(c);
    std::string all;
    nn::for_each_parameter(m, [&](const std::string& name, const auto& p) {
      all += name + to_string(p.value.view()) + " ";
    });
    CHECK(all ==
          "in_proj.weight(514, 64) conv1d.weight(384, 1, 4) conv1d.bias(384) dt_bias(2) A_log(2) "
          "D(2) norm.weight(128) out_proj.weight(64, 128) ");
  }
  TEST_CASE("it starts as published: rates in 1 to 16, steps in 0.001 to 0.1, skips of 1") {
    nn::mixer_config c = plain();
    c.headdim = 1, c.d_model = 64;
    nn::mamba2<exact> m(c);
    nn::initialise(m, {1, 0, 0});
    double low = 1e9, high = 0;
    for (index_t i = 0; i < m.scan.A_log.value.count(); ++i) {
      const double a = std::exp(m.scan.A_log.value.data()[i]);
      low = std::min(low, a), high = std::max(high, a);
      const double step = std::log1p(std::exp(m.scan.dt_bias.value.data()[i]));
      CHECK((step >= 0.00099 && step <= 0.101));
      CHECK(m.scan.D.value.data()[i] == 1);
    }
    CHECK((low >= 1 && low < 3 && high > 14 && high <= 16));
    double largest = 0;
    for (index_t i = 0; i < m.scan.conv1d.weight.value.count(); ++i)
      largest = std::max(largest, std::abs(m.scan.conv1d.weight.value.data()[i]));
    CHECK((largest <= 0.5 && largest > 0.49));
  }
  TEST_CASE("frozen parameters get no gradient, and change no other") {
    context_of<exact> ctx;
    auto gradient_of_input = [&](bool frozen) {
      nn::mamba2<exact> m(plain());
      nn::initialise(m, {1, 0, 0});
      if (frozen) nn::freeze(m, "");
      nn::allocate_grads(m);
      const auto u = verify::random_tensor<exact, 3>({{2, 4, 6}}, 3);
      auto frame = ctx.scratch.make_frame();
      nn::mamba2<exact>::saved s;
      const auto y = m.forward(ctx, u, s);
      return verify::values(m.backward(ctx, y, s));
    };
    CHECK(gradient_of_input(true) == gradient_of_input(false));
  }
  TEST_CASE_TEMPLATE("a block's step at once gives what its parts give", E, exact,
                     MLMAMBA_TEST_ENGINES) {
    for (const index_t batch : {1, 2, 3, 4, 5, 9}) {
      check_block_step<E>(64, 2, batch);  // in pieces that kernels like
      check_block_step<E>(1032, 1, batch);
      check_block_step<E>(6, 1, batch);
    }
  }
  TEST_CASE("impossible sizes are refused") {
    const auto refused = [](auto&& change) {
      nn::mixer_config c = plain();
      change(c);
      CHECK_THROWS_AS(nn::mamba2<exact>{c}, shape_error);
    };
    refused([](auto& c) { c.d_model = 0; });
    refused([](auto& c) { c.headdim = 5; });
    refused([](auto& c) { c.ngroups = 2; });
    refused([](auto& c) { c.d_conv = 9; });
    refused([](auto& c) { c.d_ssm = 16; });
    refused([](auto& c) { c.dt_limit_low = 2, c.dt_limit_high = 1; });
    CHECK_THROWS_WITH(nn::mamba2<exact>{[] {
                        nn::mixer_config c = plain();
                        c.d_state = 0;
                        return c;
                      }()},
                      "mamba2: d_state must be at least 1");
  }
}
