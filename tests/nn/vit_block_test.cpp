// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Transformer blocks on a wide residual stream.
#include "engines.hpp"
#include "mlmamba/mlmamba.hpp"
#include "mlmamba/nn/vit_block.hpp"
#include "mlmamba/verify/gradcheck.hpp"

using namespace mlmamba;

namespace {

/// The residual stream is accum, so this is not a verify::module_case.
template <engine E>
struct block_case {
  using engine_type = E;
  using A = typename E::accum;
  nn::vit_block<E> block;
  tensor<A, 3, typename E::memory> x, dx, y, dy;

  explicit block_case(shape<2> batch_and_tokens, nn::vit_block_config c)
      : block(c),
        x({batch_and_tokens.n[0], batch_and_tokens.n[1], c.d_model}),
        dx(x.shape()),
        y(x.shape()),
        dy(x.shape()) {
    nn::allocate_grads(block);
  }
  static void inputs(auto& s, auto&& f) {
    f("x", s.x, s.dx);
    nn::for_each_parameter(s.block, [&](const std::string& path, auto& p) {
      f(path.c_str(), p.value, p.grad, verify::range::small);
    });
  }
  static void outputs(auto& s, auto&& f) { f("y", s.y, s.dy); }
  void forward(context_of<E>& ctx) {
    auto frame = ctx.scratch.make_frame();
    typename nn::vit_block<E>::saved s;
    nn::assign(ctx, y.view(), block.forward(ctx, x, s));
  }
  void backward(context_of<E>& ctx) {
    auto frame = ctx.scratch.make_frame();
    typename nn::vit_block<E>::saved s;
    block.forward(ctx, x, s);
    nn::assign(ctx, dx.view(), block.backward(ctx, dy, s));
  }
  double terms() const { return 8.0 * double(y.count()); }
};

const nn::vit_block_config plain{.d_model = 6, .heads = 2, .mlp_hidden = 11};
const nn::vit_block_config scaled{.d_model = 4,
                                  .heads = 1,
                                  .mlp_hidden = 5,
                                  .epsilon = 1e-5,
                                  .activation = activation::quick_gelu,
                                  .qkv_bias = false,
                                  .layer_scale = true};

}  // namespace

TEST_SUITE("vit_block_test") {
  TEST_CASE("the gradient is exact, with and without layer scale") {
    for (const auto& c : {plain, scaled})
      for (const shape<2> n : {shape<2>{{1, 1}}, shape<2>{{2, 3}}}) {
        const auto g = verify::gradcheck_case<block_case>(17, n, c);
        INFO("worst at ", g.where);
        CHECK(g.worst < 1e-12);
        CHECK(g.checked > 100);
      }
  }

  TEST_CASE("a block whose layer scale is zero changes nothing") {
    nn::vit_block<exact> block(scaled);
    nn::initialise(block, {1, 2, 3});
    nn::fill(block.ls1.gamma, [] { return 0.0; });
    nn::fill(block.ls2.gamma, [] { return 0.0; });
    tensor<double, 3> x({1, 2, 4});
    for (index_t i = 0; i < x.count(); ++i) x.data()[i] = double(i) - 3.5;
    context<backend::reference> ctx;
    nn::vit_block<exact>::saved s;
    const auto y = block.forward(ctx, x, s);
    for (index_t i = 0; i < x.count(); ++i) CHECK(y.data[i] == x.data()[i]);
  }

  TEST_CASE("frozen parameters get no gradient, and the others the same as ever") {
    block_case<exact> all(shape<2>{{1, 3}}, scaled), some(shape<2>{{1, 3}}, scaled);
    context<backend::reference> ctx;
    verify::randomise(all, some, 23);
    nn::freeze(some.block, "attn");
    verify::run_case(all, ctx);
    verify::run_case(some, ctx);
    CHECK(!some.block.attn.qkv.weight.grad);
    CHECK(verify::detail::read(some.dx) == verify::detail::read(all.dx));
    CHECK(verify::detail::read(some.block.mlp.fc1.weight.grad) ==
          verify::detail::read(all.block.mlp.fc1.weight.grad));
  }
}

TEST_CASE_TEMPLATE("vit_block: engines agree with the reference", E, MLMAMBA_TEST_ENGINES) {
  context_of<E> ctx;
  for (const auto& c : {plain, scaled}) {
    const auto d = verify::compare<block_case, E>(ctx, 19, shape<2>{{2, 5}}, c);
    INFO(d.where, " relative ", d.relative, " tolerance ", d.tolerance);
    CHECK(d.ok);
  }
}
