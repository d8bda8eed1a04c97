// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Text that is drawn where the model runs: token for token what the host's sampler draws from the
// same logits, alone and in a batch.
#include "engines.hpp"
#include "mlmamba/mlmamba.hpp"
#include "mlmamba/text/generate_batch.hpp"
#include "text/small_model.hpp"

using namespace mlmamba;
using mlmamba::test::words;

namespace {

#if defined(__CUDACC__)
#define MLMAMBA_SAMPLED_ENGINES cuda_f32, cuda_bf16
#else
#define MLMAMBA_SAMPLED_ENGINES cpu_f32  // text/generate has the reference
#endif

const std::vector<generate_options>& all_options() {
  static const std::vector<generate_options> all{
      {.max_new_tokens = 20},
      {.max_new_tokens = 20, .repetition_penalty = 1.5},
      {.max_new_tokens = 20, .temperature = 1.3, .seed = 3},
      {.max_new_tokens = 20, .temperature = 1.3, .top_k = 6, .top_p = 0.8, .seed = 4},
      {.max_new_tokens = 20, .temperature = 2, .min_p = 0.05, .repetition_penalty = 1.4, .seed = 5},
      {.max_new_tokens = 20, .temperature = 3, .seed = 6, .vocabulary = 40},
  };
  return all;
}

/// Rows of equal length, by steps whose logits come to the host.
template <class F>
std::vector<std::vector<std::int32_t>> by_host(
    context_of<F>& ctx, const std::vector<std::vector<std::int32_t>>& prompts,
    const generate_options& o) {
  const mamba_lm<F>& m = test::model_on<F>();
  const index_t rows = index_t(prompts.size());
  const std::size_t v = std::size_t(m.vocabulary());
  auto state = m.make_state(rows);
  std::vector<std::int32_t> ids;
  std::vector<sampler> draw;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    ids.insert(ids.end(), prompts[i].begin(), prompts[i].end());
    sampling s = o.sampling_for(words().size(), m.vocabulary());
    s.seed += i;
    draw.emplace_back(s);
  }
  auto logits = detail::read_ids(ctx, m, ids, rows, o.prefill_tokens, state);
  detail::stepper<mamba_lm<F>> steps(rows, false);
  auto seen = prompts;
  std::vector<std::vector<std::int32_t>> made(prompts.size());
  for (index_t step = 0; step < o.max_new_tokens; ++step) {
    std::vector<std::int32_t> next;
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      next.push_back(draw[i](std::span(logits).subspan(i * v, v), seen[i]));
      seen[i].push_back(next.back());
      made[i].push_back(next.back());
    }
    steps.step(ctx, m, next, state);
    logits = steps.logits();
  }
  return made;
}

}  // namespace

TEST_SUITE("sampled_test") {
  TEST_CASE_TEMPLATE("one text", F, MLMAMBA_SAMPLED_ENGINES) {
    context_of<F> ctx;
    for (generate_options o : all_options()) {
      o.stop_at_end_of_text = false;
      const auto want = by_host<F>(ctx, {words().encode("is there")}, o)[0];
      auto g = generate(ctx, test::model_on<F>(), words(), "is there", o);
      CHECK(test::tokens_of(g) == want);
      // Another time with the recorded steps of another context's age, and with scores: on the host
      auto again = generate(ctx, test::model_on<F>(), words(), "is there", o);
      CHECK(test::tokens_of(again) == want);
      o.keep_scores = true;
      auto scored = generate(ctx, test::model_on<F>(), words(), "is there", o);
      CHECK(test::tokens_of(scored) == want);
    }
  }
  TEST_CASE_TEMPLATE("forced tokens are not drawn", F, MLMAMBA_SAMPLED_ENGINES) {
    context_of<F> ctx;
    for (generate_options o : all_options()) {
      o.stop_at_end_of_text = false;
      o.forced = words().encode(" coat");
      auto g = generate(ctx, test::model_on<F>(), words(), "is there", o);
      const auto made = test::tokens_of(g);
      o.keep_scores = true;
      auto by_logits = generate(ctx, test::model_on<F>(), words(), "is there", o);
      CHECK(test::tokens_of(by_logits) == made);
      CHECK(std::equal(o.forced.begin(), o.forced.end(), made.begin()));
    }
  }
  TEST_CASE_TEMPLATE("a batch whose rows end one by one", F, MLMAMBA_SAMPLED_ENGINES) {
    context_of<F> ctx;
    // Equally long, so that both ways read them together.
    std::vector<std::vector<std::int32_t>> prompts;
    for (const char* text :
         {"is there", "at the top left?", "coat or shirt", "no no yes", "a bag"}) {
      prompts.push_back(words().encode(text));
      prompts.back().resize(2, 40);
    }
    for (generate_options o : all_options()) {
      o.stop_at_end_of_text = false;
      const auto want = by_host<F>(ctx, prompts, o);
      CHECK(generate_batch(ctx, test::model_on<F>(), words(), prompts, o) == want);
#if !defined(__CUDACC__)  // where a row of fewer rows has the same bits
      o.stop = {want[1][4], want[3][9]};
      const auto some = generate_batch(ctx, test::model_on<F>(), words(), prompts, o);
      for (std::size_t i = 0; i < prompts.size(); ++i) {
        const auto end =
            std::find_first_of(want[i].begin(), want[i].end(), o.stop.begin(), o.stop.end());
        CHECK(some[i] == std::vector<std::int32_t>(want[i].begin(), end));
      }
#endif
    }
  }
  TEST_CASE_TEMPLATE("weights that are not finite", F, MLMAMBA_SAMPLED_ENGINES) {
    context_of<F> ctx;
    mamba_lm<F> broken = test::model_on<F>();
    nn::fill(broken.backbone.norm_f.weight, [] { return std::nan(""); });
    auto g = generate(ctx, broken, words(), "a", {.temperature = 1});
    CHECK_THROWS_AS(g.rest(), error);
    const auto forced = words().encode("a bag");
    auto late = generate(ctx, broken, words(), "a", {.temperature = 1, .forced = forced});
    CHECK_THROWS_AS(late.rest(), error);
  }
}
