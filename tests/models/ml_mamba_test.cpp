// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The multimodal model: exact gradients of the whole, freezing, decoding, what must not matter.
#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "engines.hpp"
#include "mlmamba/mlmamba.hpp"
#include "mlmamba/models/connectors/mlp.hpp"
#include "mlmamba/verify/gradcheck.hpp"
#include "models/ml_mamba_case.hpp"

using namespace mlmamba;
using verify::ml_mamba_case;
using verify::tiny_ml_mamba;

namespace {

template <class V>
std::vector<double> values(const V& v) {
  std::vector<double> r;
  const auto h = to_host(v);
  for (index_t i = 0; i < h.count(); ++i) r.push_back(double(h.data()[i]));
  return r;
}

}  // namespace

TEST_SUITE("ml_mamba_test") {
  TEST_CASE("the gradient of the whole model is exact") {
    const auto g = verify::gradcheck_case<ml_mamba_case>(3, index_t{1}, index_t{3});
    INFO("worst at ", g.where, ": ", g.worst);
    CHECK(g.worst < 1e-12);
    CHECK(g.checked > 1000);
  }

  TEST_CASE("frozen parts get no gradient and change no other") {
    ml_mamba_case<exact> all(2, 3), frozen(2, 3), only_language(2, 3);
    verify::randomise(all, frozen, 5);
    verify::randomise(all, only_language, 5);
    nn::freeze(frozen.model, "vision_backbone");
    nn::freeze(only_language.model, "vision_backbone");
    for (const char* part : {"mlp", "bidirectional_mamba", "projector"})
      nn::freeze(only_language.model, part);
    context<backend::reference> ctx;
    verify::run_case(all, ctx);
    verify::run_case(frozen, ctx);
    verify::run_case(only_language, ctx);
    CHECK(values(all.y.view()) == values(frozen.y.view()));
    CHECK(values(all.y.view()) == values(only_language.y.view()));
    std::map<std::string, std::vector<double>> want;
    nn::for_each_parameter(
        all.model, [&](const std::string& path, auto& p) { want[path] = values(p.grad.view()); });
    int with = 0, without = 0;
    const auto check = [&](const std::string& path, auto& p) {
      INFO(path);
      if (p.grad) {
        CHECK(values(p.grad.view()) == want[path]);
        ++with;
      } else {
        ++without;
      }
    };
    nn::for_each_parameter(frozen.model, check);
    nn::for_each_parameter(only_language.model, check);
    CHECK(with > 10);
    CHECK(without > 60);
  }

  TEST_CASE("text alone is the language model") {
    ml_mamba_case<exact> c(2, 3);
    context<backend::reference> ctx;
    verify::randomise(c, c, 5);
    tiny_ml_mamba<exact>::saved s;
    mamba_lm<exact>::saved t;
    const auto got = c.model.forward(ctx, {}, c.ids, s);
    const auto want = c.model.llm_backbone.forward(ctx, c.model.llm_backbone.embed(ctx, c.ids), t);
    CHECK(values(got) == values(want));
  }

  TEST_CASE("pictures and rows that don't fit are refused") {
    ml_mamba_case<exact> c(2, 3), other(1, 3);
    context<backend::reference> ctx;
    tiny_ml_mamba<exact>::saved s;
    CHECK_THROWS_AS(c.model.forward(ctx, c.pictures(), other.ids, s), shape_error);
    const std::array<in<exact, 4>, 1> one{in<exact, 4>(c.first.view())};
    CHECK_THROWS_AS(c.model.forward(ctx, one, c.ids, s), shape_error);
    using wrong = ml_mamba<vit<exact>, mlp_connector<exact>, mamba_lm<exact>>;
    const vit<exact> tower(make_vit_config(vit_kind::siglip, 4, 2, 4, 2, 2));
    CHECK_THROWS_AS((wrong(tower, mlp_connector<exact>(connector_shape{5, 4, 2, 2}),
                           mamba_lm<exact>(verify::tiny_language()))),
                    shape_error);
    CHECK(nn::parameter_count(wrong(tower, mamba_lm<exact>(verify::tiny_language()))) > 0);
  }

  TEST_CASE("names are those of published checkpoints") {
    std::vector<std::string> names;
    auto model = verify::make_tiny_ml_mamba<exact>();
    nn::for_each_parameter(model, [&](const std::string& n, auto&) { names.push_back(n); });
    for (const char* name :
         {"vision_backbone.dino_featurizer.blocks.0.ls1.gamma",
          "vision_backbone.siglip_featurizer.patch_embed.proj.weight", "mlp.0.weight",
          "bidirectional_mamba.layers.0.mixer.conv1d_b.weight", "projector.projector.4.bias",
          "llm_backbone.backbone.layers.0.mixer.in_proj.weight",
          "llm_backbone.backbone.embedding.weight"})
      CHECK(std::count(names.begin(), names.end(), name) == 1);
  }
}

TEST_CASE_TEMPLATE("ml_mamba: prefill and steps give the logits of the whole", E,
                   MLMAMBA_TEST_ENGINES) {
  context_of<E> ctx;
  ml_mamba_case<E> c(2, 4, 2);
  verify::randomise(c, c, 5);
  c.forward(ctx);
  const auto whole = values(c.y.view());
  const index_t v = 8, t = 4, l = 4;
  const double tolerance = 20 * verify::tolerance<E>(c.terms());
  double scale = 0;
  for (const double x : whole) scale = std::max(scale, std::abs(x));
  const auto check = [&](in_accum<E, 2> logits, index_t at) {
    const auto got = values(logits);
    double worst = 0;
    for (index_t b = 0; b < 2; ++b)
      for (index_t i = 0; i < v; ++i) {
        const double e =
            std::abs(got[std::size_t(b * v + i)] - whole[std::size_t((b * (t + l) + at) * v + i)]);
        if (verify::is_worse(e, worst)) worst = e;
      }
    INFO("token ", at, " off by ", worst, " of ", scale);
    CHECK(worst <= tolerance * scale);
  };
  auto frame = ctx.scratch.make_frame();
  auto state = c.model.make_state(2);
  const in_index<E, 2> ids = c.ids;
  const auto cut = [&](index_t from, index_t n) {
    tensor<std::int32_t, 2, typename E::memory> part({2, n});
    nn::assign(ctx, part.view(), ids.slice(1, from, n));
    return part;
  };
  const auto first = cut(0, 1), second = cut(1, 1);
  check(c.model.prefill(ctx, c.pictures(), first, state), t);
  const auto forked = state;
  check(c.model.prefill(ctx, c.model.embed(ctx, in_index<E, 2>(second)), state), t + 1);
  for (index_t i = 2; i < l; ++i) {
    const auto token = cut(i, 1);
    check(c.model.step(ctx, in_index<E, 1>(token.view().flat()), state), t + i);
  }
  auto again = forked;  // a state is a value: the fork goes on where it was
  check(c.model.step(ctx, in_index<E, 1>(second.view().flat()), again), t + 1);
}

TEST_CASE_TEMPLATE("ml_mamba: engines agree with the reference", E, MLMAMBA_TEST_ENGINES) {
  context_of<E> ctx;
  const auto d = verify::compare<ml_mamba_case, E>(ctx, 7, index_t{2}, index_t{3}, index_t{2});
  INFO(d.where, " relative ", d.relative, " tolerance ", d.tolerance);
  CHECK(d.ok);
}

TEST_CASE_TEMPLATE("ml_mamba: neighbours in a batch change no bit", E, MLMAMBA_TEST_ENGINES) {
#if defined(__CUDACC__)
  context_of<E> ctx(cuda_options{.independent_rows = true});  // else products may depend on it
#else
  context_of<E> ctx;
#endif
  ml_mamba_case<E> c(3, 3, 2);
  verify::randomise(c, c, 9);
  auto frame = ctx.scratch.make_frame();
  typename tiny_ml_mamba<E>::saved s, alone;
  const auto all = values(c.model.forward(ctx, c.pictures(), c.ids, s));
  const std::array<in<E, 4>, 2> x{c.pictures()[0].slice(0, 1, 1), c.pictures()[1].slice(0, 1, 1)};
  const auto one = values(c.model.forward(ctx, x, in_index<E, 2>(c.ids).slice(0, 1, 1), alone));
  CHECK(one == std::vector<double>(all.begin() + std::ptrdiff_t(one.size()),
                                   all.begin() + 2 * std::ptrdiff_t(one.size())));
}

#if !defined(__CUDACC__)
TEST_CASE_TEMPLATE("ml_mamba: the number of threads changes no bit", E, cpu_f32, cpu_bf16) {
  context_of<E> one(cpu_options{.threads = 1}), two(cpu_options{.threads = 2}),
      three(cpu_options{.threads = 3});
  const index_t b = 2, l = 5, scale = 2;
  CHECK(verify::same_bits<ml_mamba_case, E>(one, two, 11, b, l, scale));
  CHECK(verify::same_bits<ml_mamba_case, E>(one, three, 11, b, l, scale));
}

TEST_CASE_TEMPLATE("ml_mamba: prepared weights give the bits of weights as they are", E, cpu_packed,
                   cpu_packed_bf16) {
  using plain = on<backend::cpu, typename E::value>;
  ml_mamba_case<plain> c(2, 4, 2);
  verify::randomise(c, c, 13);
  std::map<std::string, tensor<float, 1>> given;
  nn::for_each_parameter(c.model, [&](const std::string& path, auto& p) {
    tensor<float, 1> all({p.value.count()});
    for (index_t i = 0; i < all.count(); ++i) all(i) = float(p.value.data()[i]);
    given.emplace(path, std::move(all));
  });
  auto model = verify::make_tiny_ml_mamba<E>(2);
  const weight_formats formats{{sizeof(typename E::value) == 2 ? weight_scheme::bf16  // as `plain`
                                                               : weight_scheme::f32},
                               {}};
  nn::choose_formats(model, formats);
  nn::for_each_parameter(model, [&](const std::string& path, auto& p) {
    index_t i = 0;
    nn::fill(p, [&] { return double(given.at(path)(i++)); });
  });
  nn::prepare(model, formats);
  context_of<E> ctx;
  auto frame = ctx.scratch.make_frame();
  auto first = c.model.make_state(2);
  auto second = model.make_state(2);
  CHECK(values(model.prefill(ctx, c.pictures(), c.ids, second)) ==
        values(c.model.prefill(ctx, c.pictures(), c.ids, first)));
  tensor<std::int32_t, 1> next({2});
  for (int t = 0; t < 3; ++t) {
    next(1) = t;
    const in_index<E, 1> ids = std::as_const(next).view();
    CHECK(values(model.step(ctx, ids, second)) == values(c.model.step(ctx, ids, first)));
  }
}
#endif
