// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Patch embedding: the convolution that it is, exact gradients, engines.
#include "engines.hpp"
#include "mlmamba/mlmamba.hpp"
#include "mlmamba/nn/functional.hpp"
#include "mlmamba/nn/patch_embedding.hpp"
#include "mlmamba/verify/gradcheck.hpp"

using namespace mlmamba;

namespace {

struct sizes {
  index_t batch, height, width, patch, d;
  bool bias;
};

template <engine E>
struct patch_case {
  using engine_type = E;
  nn::patch_embedding<E> module;
  tensor_of<E, 4> x, dx;
  tensor_of<E, 3> y, dy;
  double length;

  explicit patch_case(sizes n)
      : module(n.patch, n.d, n.bias),
        x({n.batch, 3, n.height, n.width}),
        dx(x.shape()),
        y({n.batch, (n.height / n.patch) * (n.width / n.patch), n.d}),
        dy(y.shape()),
        length(double(3 * n.patch * n.patch + y.count())) {
    nn::allocate_grads(module);
  }
  static void inputs(auto& s, auto&& f) {
    f("x", s.x, s.dx);
    nn::for_each_parameter(s.module, [&](const std::string& path, auto& p) {
      f(path.c_str(), p.value, p.grad, verify::range::small);
    });
  }
  static void outputs(auto& s, auto&& f) { f("y", s.y, s.dy); }
  void forward(context_of<E>& ctx) {
    auto frame = ctx.scratch.make_frame();
    typename nn::patch_embedding<E>::saved s;
    nn::assign(ctx, y.view(), module.forward(ctx, x, s));
  }
  void backward(context_of<E>& ctx) {
    auto frame = ctx.scratch.make_frame();
    typename nn::patch_embedding<E>::saved s;
    this->module.forward(ctx, x, s);
    nn::assign(ctx, dx.view(), module.backward(ctx, dy, s));
  }
  double terms() const { return length; }
};

constexpr sizes cases[] = {
    {1, 1, 1, 1, 1, true}, {2, 5, 7, 2, 3, true}, {1, 4, 4, 4, 2, false}, {3, 3, 9, 3, 4, true}};

}  // namespace

TEST_SUITE("patch_embedding_test") {
  TEST_CASE("the gradient is exact") {
    for (const sizes& n : cases) {
      const auto g = verify::gradcheck_case<patch_case>(3, n);
      INFO("patch ", n.patch, " worst at ", g.where);
      CHECK(g.worst < 1e-12);
      CHECK(g.checked > 0);
    }
  }

  TEST_CASE("it is a convolution with stride and kernel of one patch") {
    nn::patch_embedding<exact> m(2, 3);
    random_stream r{1, 2, 3};
    nn::initialise(m, r);
    tensor<double, 4> x({1, 3, 5, 4});
    for (index_t i = 0; i < x.count(); ++i) x.data()[i] = r.normal();
    context<backend::reference> ctx;
    nn::patch_embedding<exact>::saved s;
    const auto y = m.forward(ctx, x, s);
    REQUIRE(y.shape() == shape<3>{{1, 4, 3}});
    for (index_t row = 0; row < 2; ++row)
      for (index_t col = 0; col < 2; ++col)
        for (index_t d = 0; d < 3; ++d) {
          double v = m.proj.bias.value(d);
          for (index_t c = 0; c < 3; ++c)
            for (index_t i = 0; i < 2; ++i)
              for (index_t j = 0; j < 2; ++j)
                v += m.proj.weight.value(d, c, i, j) * x(0, c, 2 * row + i, 2 * col + j);
          CHECK(y(0, row * 2 + col, d) == doctest::Approx(v).epsilon(1e-14));
        }
  }

  TEST_CASE("pictures with other channels, and empty sizes") {
    nn::patch_embedding<exact> m(2, 3);
    context<backend::reference> ctx;
    nn::patch_embedding<exact>::saved s;
    tensor<double, 4> grey({1, 1, 4, 4}), none({0, 3, 4, 4}), tiny({1, 3, 1, 1});
    CHECK_THROWS_AS(m.forward(ctx, grey, s), shape_error);
    CHECK(m.forward(ctx, none, s).count() == 0);
    CHECK(m.forward(ctx, tiny, s).shape() == shape<3>{{1, 0, 3}});
    CHECK_THROWS_AS(nn::patch_embedding<exact>(0, 3), shape_error);
  }
}

TEST_CASE_TEMPLATE("patch_embedding: engines agree with the reference", E, MLMAMBA_TEST_ENGINES) {
  context_of<E> ctx;
  for (const sizes& n : cases) {
    const auto d = verify::compare<patch_case, E>(ctx, 11, n);
    INFO("patch ", n.patch, " ", d.where, " relative ", d.relative, " tolerance ", d.tolerance);
    CHECK(d.ok);
  }
}
