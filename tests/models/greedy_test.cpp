// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Greedy decoding: in single precision every backend says, token for token, what the reference says
// in double.
#include <algorithm>
#include <vector>

#include "engines.hpp"
#include "mlmamba/mlmamba.hpp"
#include "mlmamba/nn/mamba1.hpp"
#include "models/ml_mamba_case.hpp"

using namespace mlmamba;

namespace {

constexpr index_t batch = 2, steps = 24;

struct answer {
  std::vector<std::int32_t> tokens;  // step by step, rows together
  double narrowest = 1e300;          // the least lead of a chosen token over the next, of the range
};

/// Prefills, then takes the likeliest token of each row and feeds it back.
template <class E, class Model>
answer decode(context_of<E>& ctx, const Model& m, in<E, 3> embedded) {
  answer a;
  auto frame = ctx.scratch.make_frame();
  auto state = m.make_state(batch);
  tensor<std::int32_t, 1, typename E::memory> next({batch});
  const auto choose = [&](in_accum<E, 2> logits) {
    run(ctx, ops::argmax<E, typename E::accum>{.x = logits, .index = next});
    const auto ids = to_host(std::as_const(next).view());
    const auto l = to_host(logits);
    for (index_t b = 0; b < batch; ++b) {
      a.tokens.push_back(ids(b));
      double least = 1e300, lead = 1e300;
      for (index_t v = 0; v < l.size(1); ++v) {
        least = std::min(least, double(l(b, v)));
        if (v != ids(b)) lead = std::min(lead, double(l(b, ids(b)) - l(b, v)));
      }
      a.narrowest = std::min(a.narrowest, lead / (double(l(b, ids(b))) - least));
    }
  };
  choose(m.prefill(ctx, embedded, state));
  for (index_t i = 1; i < steps; ++i) {
    auto inner = ctx.scratch.make_frame();
    choose(m.step(ctx, in_index<E, 1>(std::as_const(next).view()), state));
  }
  return a;
}

void check_equal(const answer& got, const answer& want) {
  CHECK(want.narrowest > 1e-4);  // else rounding may rightly choose another token
  CHECK(got.tokens == want.tokens);
  CHECK(std::any_of(got.tokens.begin(), got.tokens.end(),
                    [&](std::int32_t t) { return t != got.tokens[0]; }));
}

/// A language model with random weights; the same on every engine.
template <class Model>
Model language(index_t d_model) {
  auto c = verify::tiny_language(d_model, 2);
  c.vocab_size = 50;
  Model m(c);
  nn::initialise(m, {1, 2, 3});
  nn::for_each_parameter(m, [](const std::string& path, auto& p) {
    random_stream r = random_stream{7, 7, 7}.fork(path);
    if (path.find("A_log") == std::string::npos) nn::fill(p, [&] { return 0.5 * r.normal(); });
  });
  return m;
}
template <class E, template <class> class Mixer>
answer of_language() {
  context_of<E> ctx;
  const auto m = language<mamba_lm<E, Mixer>>(16);
  tensor<std::int32_t, 2> ids({batch, 5});
  for (index_t i = 0; i < ids.count(); ++i) ids.data()[i] = std::int32_t(i * 17 % 50);
  tensor<std::int32_t, 2, typename E::memory> there(ids.shape());
  from_host(there.view(), std::as_const(ids).view());
  auto frame = ctx.scratch.make_frame();
  return decode<E>(ctx, m, m.embed(ctx, in_index<E, 2>(std::as_const(there).view())));
}

}  // namespace

TEST_CASE_TEMPLATE("greedy: pictures and text, as the reference in double", E,
                   MLMAMBA_TEST_ENGINES) {
  if constexpr (std::is_same_v<typename E::value, float>) {
    for (std::uint64_t seed : {1u, 2u, 3u}) {
      verify::ml_mamba_case<E> c(batch, 4, 2);
      verify::ml_mamba_case<exact> x(batch, 4, 2);
      verify::randomise(c, x, seed);
      context_of<E> ctx;
      context<backend::reference> plain;
      auto frame = ctx.scratch.make_frame();
      const auto got = decode<E>(ctx, c.model, c.model.embed(ctx, c.pictures(), c.ids));
      const auto want = decode<exact>(plain, x.model, x.model.embed(plain, x.pictures(), x.ids));
      INFO("seed ", seed, ", narrowest lead ", want.narrowest);
      check_equal(got, want);
    }
  }
}
TEST_CASE_TEMPLATE("greedy: Mamba-1 and Mamba-2, as the reference in double", E,
                   MLMAMBA_TEST_ENGINES) {
  if constexpr (std::is_same_v<typename E::value, float>) {
    check_equal(of_language<E, nn::mamba1>(), of_language<exact, nn::mamba1>());
    check_equal(of_language<E, nn::mamba2>(), of_language<exact, nn::mamba2>());
  }
}
