// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// AdamW over a model: one step by hand, groups, clipping, freezing, master weights.
#include "mlmamba/train/optimizer.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <string>

#include "train/bigram.hpp"

using namespace mlmamba;
using train::optimizer;
using train::optimizer_options;

namespace {
using E = on<backend::reference, double>;

template <engine E>
struct two {
  using engine_type = E;
  nn::parameter<E, 2> weight{shape<2>{{1, 2}}};
  nn::parameter<E, 1> bias{shape<1>{{1}}};
  static void fields(auto& self, auto&& f) { f("weight", self.weight), f("bias", self.bias); }
};
template <engine E>
struct nested {
  using engine_type = E;
  two<E> near, far;
  static void fields(auto& self, auto&& f) { f("near", self.near), f("far", self.far); }
};
template <engine E>
void set_grads(two<E>& m, double a, double b, double c) {
  using A = typename E::accum;
  m.weight.grad(0, 0) = A(a), m.weight.grad(0, 1) = A(b), m.bias.grad(0) = A(c);
}
}  // namespace

TEST_SUITE("optimizer_test") {
  TEST_CASE("two updates equal the numbers computed by hand") {
    context_of<E> ctx;
    two<E> m;
    m.weight.value(0, 0) = 1, m.weight.value(0, 1) = -2, m.bias.value(0) = 0.5;
    optimizer<E> o(m, {.epsilon = 1e-8, .weight_decay = 0.1, .clip = 0});
    set_grads(m, 0.5, -0.25, 2);
    CHECK(o.update(ctx, m, 0.01) == doctest::Approx(std::sqrt(0.25 + 0.0625 + 4)));
    // First update: m / (1 - beta1) = g, sqrt(v / (1 - beta2)) = |g|, so each moves by
    // rate (sign(g) + decay w); the bias does not decay.
    CHECK(m.weight.value(0, 0) == doctest::Approx(1 - 0.01 * (1 + 0.1 * 1)).epsilon(1e-9));
    CHECK(m.weight.value(0, 1) == doctest::Approx(-2 - 0.01 * (-1 + 0.1 * -2)).epsilon(1e-9));
    CHECK(m.bias.value(0) == doctest::Approx(0.5 - 0.01).epsilon(1e-9));
    // Second update of the bias with g = -1: m = 0.9 * 0.2 - 0.1 = 0.08, mhat = 0.08 / 0.19;
    // v = 0.999 * 0.004 + 0.001 = 0.004996, vhat = 0.004996 / 0.001999.
    set_grads(m, 0, 0, -1);
    o.update(ctx, m, 0.01);
    const double step = (0.08 / 0.19) / std::sqrt(0.004996 / 0.001999);
    CHECK(m.bias.value(0) == doctest::Approx(0.49 - 0.01 * step).epsilon(1e-9));
    CHECK(o.updates() == 2);
  }
  TEST_CASE("decay by name and shape") {
    const optimizer_options all;
    for (const char* path : {"llm.layers.0.mixer.in_proj.weight", "projector.0.weight",
                             "backbone.embedding.weight", "patch_embed.proj.weight", "pos_embed"})
      CHECK_MESSAGE(train::decays(path, 2, all), path);
    CHECK(train::decays("mixer.conv1d.weight", 3, all));
    for (const char* path : {"mixer.A_log", "mixer.D", "mixer.dt_bias", "in_proj.bias",
                             "norm.weight", "norm_f.weight", "norm1.weight", "ls1.gamma"})
      CHECK_FALSE_MESSAGE(train::decays(path, 2, all), path);
    for (const char* name : {"A_log", "D", "dt_bias"})  // of each direction, whatever its rank
      for (const char* direction : {"", "_b", "_c", "_d"})
        CHECK_FALSE_MESSAGE(train::decays("mixer." + std::string(name) + direction, 2, all), name,
                            direction);
    CHECK(train::decays("mixer.D_e", 2, all));
    CHECK(train::decays("mixer.A_b_log", 2, all));
    CHECK_FALSE(train::decays("anything.weight", 1, all));
    const optimizer_options some{.decay_convolutions = false, .decay_embeddings = false};
    CHECK_FALSE(train::decays("mixer.conv1d.weight", 3, some));
    CHECK_FALSE(train::decays("backbone.embedding.weight", 2, some));
    CHECK_FALSE(train::decays("pos_embed", 3, some));
    CHECK(train::decays("mixer.out_proj.weight", 2, some));
  }
  TEST_CASE("clipping scales the gradient of all parameters together") {
    context_of<E> ctx;
    two<E> a, b;
    optimizer<E> oa(a, {.weight_decay = 0, .clip = 1}), ob(b, {.weight_decay = 0, .clip = 0});
    set_grads(a, 3, 0, 4);
    set_grads(b, 3.0 / (5 + 1e-6), 0, 4.0 / (5 + 1e-6));
    CHECK(oa.update(ctx, a, 0.1) == doctest::Approx(5));
    ob.update(ctx, b, 0.1);
    CHECK(oa.slots()[0].m(0) == doctest::Approx(ob.slots()[0].m(0)).epsilon(1e-12));
    CHECK(oa.slots()[1].v(0) == doctest::Approx(ob.slots()[1].v(0)).epsilon(1e-12));
    set_grads(a, 0.3, 0, 0.4);
    oa.zero_grads(a);
    CHECK(oa.gradient_norm(ctx, a) == 0);
  }
  TEST_CASE("a gradient that is not finite is refused, and changes nothing") {
    context_of<E> ctx;
    two<E> m;
    optimizer<E> o(m, {});
    set_grads(m, 1, std::nan(""), 0);
    CHECK_THROWS_AS(o.update(ctx, m, 0.1), error);
    CHECK(m.weight.value(0, 0) == 0);
    CHECK(o.updates() == 0);
  }
  TEST_CASE("rate factors by prefix, the longest wins; unknown ones are refused") {
    context_of<E> ctx;
    nested<E> m;
    optimizer<E> o(m,
                   {.weight_decay = 0, .clip = 0, .rate_factors = {{"far", 0.5}, {"far.bias", 0}}});
    set_grads(m.near, 1, 1, 1);
    set_grads(m.far, 1, 1, 1);
    o.update(ctx, m, 0.1);
    CHECK(m.near.weight.value(0, 0) == doctest::Approx(-0.1));
    CHECK(m.far.weight.value(0, 0) == doctest::Approx(-0.05));
    CHECK(m.far.bias.value(0) == 0);
    CHECK_THROWS_AS(optimizer<E>(m, {.rate_factors = {{"fa", 1}}}), error);
    CHECK_THROWS_AS(optimizer<E>(m, {.beta1 = 1}), error);
    CHECK_THROWS_AS(optimizer<E>(m, {.clip = -1}), error);
  }
  TEST_CASE("frozen parameters keep their bits, others do not") {
    context_of<E> ctx;
    nested<E> m;
    random_stream r{1, 0, 0};
    nn::for_each_parameter(
        m, [&](const std::string&, auto& p) { nn::fill(p, [&] { return r.normal(); }); });
    const nested<E> before = m;
    nn::freeze(m, "far");
    nn::freeze(m, "near.bias");
    optimizer<E> o(m, {});
    CHECK(o.slots().size() == 1);
    CHECK_FALSE(m.far.weight.grad);
    for (int i = 0; i < 3; ++i) {
      m.near.weight.grad(0, 0) = 1;
      o.update(ctx, m, 0.1);
    }
    CHECK(std::memcmp(m.far.weight.value.data(), before.far.weight.value.data(), 16) == 0);
    CHECK(std::memcmp(m.far.bias.value.data(), before.far.bias.value.data(), 8) == 0);
    CHECK(m.near.bias.value(0) == before.near.bias.value(0));
    CHECK(m.near.weight.value(0, 0) != before.near.weight.value(0, 0));
    nn::freeze(m, "");
    CHECK_THROWS_AS(optimizer<E>(m, {}), error);
  }
  TEST_CASE("bf16 weights follow an f32 master that small steps do not lose") {
    using B = on<backend::reference, bf16>;
    context_of<B> ctx;
    two<B> narrow;
    narrow.weight.value(0, 0) = bf16(1.0f);
    optimizer<B> o(narrow, {.weight_decay = 0, .clip = 0});
    REQUIRE(o.slots()[0].master);
    CHECK_FALSE(o.slots()[1].master);  // a bias is wide already
    // 2e-4 is a twentieth of the spacing of bf16 below 1: without a master nothing would move.
    for (int i = 0; i < 100; ++i) {
      set_grads(narrow, 1, 0, 0);
      o.update(ctx, narrow, 2e-4);
    }
    CHECK(o.slots()[0].master(0) == doctest::Approx(0.98).epsilon(1e-5));
    CHECK(float(narrow.weight.value(0, 0)) == float(bf16(o.slots()[0].master(0))));
  }
}
