// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Feed-forward parts and norms: exact gradients, and the sums they stand for.
#include "mlmamba/nn/mlp.hpp"

#include "mlmamba/nn/norm.hpp"
#include "nn/mixer_checks.hpp"

using namespace mlmamba;

TEST_SUITE("mlp_test") {
  TEST_CASE("gradients are exact") {
    const index_t in = 5, hidden = 7, out = 4;
    verify::check_gradients<nn::mlp<exact>>({{2, 3, 5}}, in, hidden, out);
    verify::check_gradients<nn::mlp<exact>>({{1, 2, 5}}, in, hidden, out, activation::quick_gelu);
    verify::check_gradients<nn::swiglu<exact>>({{2, 3, 5}}, in, hidden, out);
    verify::check_gradients<nn::gated_mlp<exact>>({{1, 2, 3}}, index_t(3), index_t(5));
    verify::check_gradients<nn::gated_mlp<exact>>({{1, 2, 3}}, index_t(3), index_t(0), true);
    verify::check_gradients<nn::rms_norm<exact>>({{2, 3, 5}}, in);
    verify::check_gradients<nn::rms_norm<exact, nn::wide>>({{2, 3, 5}}, in, 1e-2);
    verify::check_gradients<nn::layer_norm<exact>>({{2, 3, 5}}, in);
    verify::check_gradients<nn::layer_norm<exact>>({{1, 1, 1}}, index_t(1), 1e-2);
  }
  TEST_CASE("the gated MLP is as wide as published: 8 d / 3, or what is asked, in steps of 128") {
    CHECK(nn::gated_mlp<exact>::rounded(768, 0) == 2048);
    CHECK(nn::gated_mlp<exact>::rounded(1024, 0) == 2816);
    CHECK(nn::gated_mlp<exact>::rounded(64, 100) == 128);
    CHECK(nn::gated_mlp<exact>::rounded(64, 256) == 256);
  }
  TEST_CASE("the gated MLP's first half is the value, its second the gate") {
    context_of<exact> ctx;
    nn::gated_mlp<exact> m(1, 1);  // 128 wide; only channel 0 is used
    m.fc1.weight.value(0, 0) = 2;
    m.fc1.weight.value(128, 0) = -3;
    m.fc2.weight.value(0, 0) = 5;
    tensor<double, 3> x({1, 1, 1});
    x(0, 0, 0) = 0.5;
    nn::gated_mlp<exact>::saved s;
    const double gate = -1.5;
    CHECK(m.forward(ctx, x, s)(0, 0, 0) == doctest::Approx(5 * 1.0 * gate / (1 + std::exp(-gate))));
  }
  TEST_CASE("SwiGLU gates w2 by w1") {
    context_of<exact> ctx;
    nn::swiglu<exact> m(1, 1, 1);
    m.w1.weight.value(0, 0) = -3, m.w2.weight.value(0, 0) = 2, m.w3.weight.value(0, 0) = 5;
    m.w3.bias.value(0) = 1;
    tensor<double, 3> x({1, 1, 1});
    x(0, 0, 0) = 0.5;
    nn::swiglu<exact>::saved s;
    const double gate = -1.5;
    CHECK(m.forward(ctx, x, s)(0, 0, 0) ==
          doctest::Approx(1 + 5 * 1.0 * gate / (1 + std::exp(-gate))));
  }
  TEST_CASE("a wide norm reads what a narrow type would round away") {
    using E = on<backend::reference, bf16>;
    context_of<E> ctx;
    nn::rms_norm<E, nn::wide> m(2, 0.0);
    nn::initialise(m, {1, 0, 0});
    tensor<float, 3> x({1, 1, 2});
    x(0, 0, 0) = 1e-4f, x(0, 0, 1) = 1 + 1e-4f;
    nn::rms_norm<E, nn::wide>::saved s;
    m.forward(ctx, x, s);
    const double mean = (1e-8 + (1 + 1e-4) * (1 + 1e-4)) / 2;
    CHECK(s.rstd(0) == doctest::Approx(1 / std::sqrt(mean)).epsilon(1e-6));
  }
}
