// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Language models: exact gradients, prompts cut anywhere, decoding, names, sizes, initialisation.
#include "mlmamba/models/mamba_lm.hpp"

#include "engines.hpp"
#include "mlmamba/mlmamba.hpp"
#include "mlmamba/models/state.hpp"
#include "mlmamba/nn/mamba1.hpp"
#include "nn/mixer_checks.hpp"

using namespace mlmamba;

namespace {
mamba_config small() {
  mamba_config c;
  c.mixer.d_model = 8;
  c.mixer.d_state = 3;
  c.mixer.headdim = 4;
  c.n_layer = 2;
  c.vocab_size = 13;
  return c;
}
mamba_config small1() {
  mamba_config c = small();
  c.mixer.headdim = 64;  // means nothing to Mamba-1, and would not divide
  return c;
}
tensor<std::int32_t, 2> some_ids(index_t batch, index_t length) {
  tensor<std::int32_t, 2> ids({batch, length});
  for (index_t i = 0; i < ids.count(); ++i) ids.data()[i] = std::int32_t(i * 7 % 13);
  return ids;
}
/// Ids in, logits out: the embedding's gradient is the sum of both its uses when the head is tied.
template <class E>
struct id_case {
  using engine_type = E;
  mamba_lm<E> model;
  tensor<std::int32_t, 2> ids = some_ids(2, 3);
  tensor_of<E, 3> y, dy;

  explicit id_case(const mamba_config& c)
      : model(c), y({2, 3, c.padded_vocabulary()}), dy({2, 3, c.padded_vocabulary()}) {
    nn::allocate_grads(model);
  }
  static void inputs(auto& self, auto&& f) {
    nn::for_each_parameter(self.model, [&](const std::string& path, auto& p) {
      f(path.c_str(), p.value, p.grad, verify::range::small);
    });
  }
  static void outputs(auto& self, auto&& f) { f("y", self.y, self.dy); }
  void forward(context_of<E>& ctx) {
    auto frame = ctx.scratch.make_frame();
    typename mamba_lm<E>::saved s;
    nn::assign(ctx, y.view(), model.forward(ctx, model.embed(ctx, ids, s), s));
  }
  void backward(context_of<E>& ctx) {
    auto frame = ctx.scratch.make_frame();
    typename mamba_lm<E>::saved s;
    model.forward(ctx, model.embed(ctx, ids, s), s);
    model.embed_backward(ctx, model.backward(ctx, dy, s), s);
  }
  double terms() const { return 100; }
};

/// Ids where the engine is.
template <class E, int R>
tensor<std::int32_t, R, typename E::memory> there(const tensor<std::int32_t, R>& host) {
  tensor<std::int32_t, R, typename E::memory> t(host.shape());
  from_host(t.view(), host.view());
  return t;
}

/// Logits of prefill and steps against those of forward, whatever the cut.
template <class Model, class Config>
void check_decoding(const Config& c) {
  using E = typename Model::engine_type;
  context_of<E> ctx;
  Model m(c);
  nn::initialise(m, {2, 0, 0});
  const index_t batch = 2, length = 6, v = m.vocabulary();
  const auto ids = some_ids(batch, length);
  const auto all_ids = there<E>(ids);
  auto frame = ctx.scratch.make_frame();
  typename Model::saved s;
  const auto whole = verify::values(m.forward(ctx, m.embed(ctx, all_ids, s), s));
  for (index_t cut = 1; cut <= length; ++cut) {
    auto state = m.make_state(batch);
    std::vector<double> got, want;
    const auto compare_at = [&](index_t t, const auto& logits) {
      const auto now = verify::values(logits);
      for (index_t b = 0; b < batch; ++b)
        for (index_t i = 0; i < v; ++i) {
          got.push_back(now[std::size_t(b * v + i)]);
          want.push_back(whole[std::size_t((b * length + t) * v + i)]);
        }
    };
    tensor<std::int32_t, 2> first({batch, cut});
    for (index_t b = 0; b < batch; ++b)
      for (index_t t = 0; t < cut; ++t) first(b, t) = ids(b, t);
    const auto part = there<E>(first);
    compare_at(cut - 1, m.prefill(ctx, m.embed(ctx, part), state));
    for (index_t t = cut; t < length; ++t) {
      tensor<std::int32_t, 1> one({batch});
      for (index_t b = 0; b < batch; ++b) one(b) = ids(b, t);
      const auto next = there<E>(one);
      compare_at(t, m.step(ctx, in_index<E, 1>(next.view()), state));
    }
    CHECK(state.position == length);
    // Two layers of about eight roundings each to the value type, errors adding as a random walk.
    const double allowed = 4 * verify::tolerance<E>(64);
    const auto d = verify::compare_arrays({{"logits", got}}, {{"logits", want}}, allowed);
    CHECK_MESSAGE(d.ok, "cut at ", cut, ": ", d.where, "; off by ", d.relative, ", allowed is ",
                  d.tolerance);
  }
}
}  // namespace

TEST_SUITE("mamba_lm_test") {
  TEST_CASE("gradients are exact: tied or own head, with an MLP, Mamba-1") {
    mamba_config c = small();
    verify::check_gradients<mamba_lm<exact>>({{2, 4, 8}}, c);
    c.tie_embeddings = false, c.d_intermediate = 5;
    verify::check_gradients<mamba_lm<exact>>({{1, 3, 8}}, c);
    c.mixer.ngroups = 2, c.mixer.d_ssm = 8, c.norm_epsilon = 1e-3;
    verify::check_gradients<mamba_lm<exact>>({{1, 3, 8}}, c);
    verify::check_gradients<mamba_lm<exact, nn::mamba1>>({{1, 4, 8}}, small1());
  }
  TEST_CASE("from ids: the embedding's gradient too") {
    for (const bool tied : {true, false}) {
      mamba_config c = small();
      c.tie_embeddings = tied, c.n_layer = 1;
      const auto r = verify::gradcheck_case<id_case>(4, c);
      CHECK(r.checked > 0);
      CHECK_MESSAGE(r.worst < 1e-12, r.where, " is off by ", r.worst);
    }
  }
  TEST_CASE_TEMPLATE("prefill and steps give the logits of forward", E, exact,
                     MLMAMBA_TEST_ENGINES) {
    check_decoding<mamba_lm<E>>(small());
    mamba_config c = small();
    c.d_intermediate = 5, c.tie_embeddings = false;
    check_decoding<mamba_lm<E>>(c);
  }
  TEST_CASE("with Mamba-1 too") { check_decoding<mamba_lm<exact, nn::mamba1>>(small1()); }
  TEST_CASE("names are the published ones; a tied head has none of its own") {
    mamba_config c = small();
    c.n_layer = 1, c.d_intermediate = 5, c.tie_embeddings = false;
    std::string all;
    const mamba_lm<exact> m(c);
    nn::for_each_parameter(m, [&](const std::string& n, const auto&) { all += n + "\n"; });
    CHECK(all ==
          "backbone.embedding.weight\nbackbone.layers.0.norm.weight\n"
          "backbone.layers.0.mixer.in_proj.weight\nbackbone.layers.0.mixer.conv1d.weight\n"
          "backbone.layers.0.mixer.conv1d.bias\nbackbone.layers.0.mixer.dt_bias\n"
          "backbone.layers.0.mixer.A_log\nbackbone.layers.0.mixer.D\n"
          "backbone.layers.0.mixer.norm.weight\nbackbone.layers.0.mixer.out_proj.weight\n"
          "backbone.layers.0.norm2.weight\nbackbone.layers.0.mlp.fc1.weight\n"
          "backbone.layers.0.mlp.fc2.weight\nbackbone.norm_f.weight\nlm_head.weight\n");
  }
  TEST_CASE("the published models have the published numbers of parameters") {
    mamba_config one = preset::mamba2_2_7b;  // a layer, and what is outside of the layers
    one.n_layer = 0, one.vocab_size = 1;
    CHECK(nn::parameter_count(mamba_block<reference_f32, nn::mamba2>(one)) == 40216560);
    CHECK(nn::parameter_count(mamba_block<reference_f32, nn::mamba2>(one)) * 64 + 50288 * 2560 +
              2560 ==
          2702599680);
    CHECK(nn::parameter_count(mamba_block<reference_f32, nn::mamba2>(preset::mamba2_130m)) * 24 +
              50288 * 768 + 768 ==
          128989632);
    CHECK(nn::parameter_count(mamba_block<reference_f32, nn::mamba1>(preset::mamba_130m)) * 24 +
              50280 * 768 + 768 ==
          129135360);
  }
  TEST_CASE("projections into the residual start smaller by the square root of their number") {
    mamba_config c = small();
    c.mixer.d_model = 64, c.n_layer = 4, c.d_intermediate = 128;
    mamba_lm<exact> m(c);
    nn::initialise(m, {1, 0, 0});
    const auto largest = [](const auto& w) {
      double x = 0;
      for (index_t i = 0; i < w.value.count(); ++i) x = std::max(x, std::abs(w.value.data()[i]));
      return x;
    };
    const double bound = 1 / std::sqrt(128.0) / std::sqrt(8.0);
    const double out = largest(m.backbone.layers[3].mixer.out_proj.weight);
    CHECK((out <= bound && out > 0.99 * bound));
    const double fc2 = largest(m.backbone.layers[0].mlp[0].fc2.weight);
    CHECK((fc2 <= bound && fc2 > 0.99 * bound));
  }
  TEST_CASE("nothing to read gives nothing, and changes nothing") {
    context_of<exact> ctx;
    mamba_lm<exact> m(small());
    nn::initialise(m, {1, 0, 0});
    auto state = m.make_state(2);
    m.prefill(ctx, m.embed(ctx, some_ids(2, 3)), state);
    const auto before = state;
    CHECK_FALSE(bool(m.prefill(ctx, m.embed(ctx, some_ids(2, 0)), state)));
    CHECK(equal(before, state));
    auto none = m.make_state(0);
    CHECK(m.prefill(ctx, m.embed(ctx, some_ids(0, 3)), none).size[0] == 0);
  }
  TEST_CASE("a state of another batch is refused") {
    context_of<exact> ctx;
    mamba_lm<exact> m(small());
    auto state = m.make_state(1);
    CHECK_THROWS_AS(m.prefill(ctx, m.embed(ctx, some_ids(2, 3)), state), shape_error);
  }
  TEST_CASE("sizes that make no model are refused") {
    mamba_config c = small();
    c.vocab_size = 0;
    CHECK_THROWS_AS(mamba_lm<exact>{c}, shape_error);
    c = small(), c.mixer.headdim = 5;
    CHECK_THROWS_WITH(mamba_lm<exact>{c}, "mamba_lm: headdim must divide the scanned channels");
    CHECK_NOTHROW((mamba_lm<exact, nn::mamba1>{c}));
  }
}
