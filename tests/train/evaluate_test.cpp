// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Answers in batches equal answers one by one; controls show what they say.
#include "mlmamba/train/evaluate.hpp"

#include <doctest/doctest.h>

#include "io/temporary.hpp"
#include "mlmamba/backend/reference.hpp"
#include "mlmamba/models/connectors/mlp.hpp"
#include "mlmamba/models/mamba_lm.hpp"
#include "mlmamba/models/ml_mamba.hpp"
#include "mlmamba/models/vit.hpp"
#include "mlmamba/text/bpe_trainer.hpp"
#include "train/garment_photos.hpp"

using namespace mlmamba;
using namespace mlmamba::train;

namespace {
using E = reference_f32;
using model_type = ml_mamba<vit<E>, mlp_connector<E>, mamba_lm<E>>;

tokenizer small_tokenizer() {
  bpe_trainer t({.vocabulary = 300, .least_count = 1});
  t.add("is there a bag, coat or shirt at the top left? yes no");
  return tokenizer::parse(t.train(), "test");
}
model_type tiny(index_t vocabulary) {
  mamba_config lm;
  lm.mixer.d_model = 16;
  lm.mixer.headdim = 8;
  lm.mixer.d_state = 4;
  lm.n_layer = 2;
  lm.vocab_size = vocabulary;
  lm.tie_embeddings = false;  // else each token would suggest itself
  model_type m(vit<E>(make_vit_config(vit_kind::siglip, 8, 4, 8, 2, 2, 2)), mamba_lm<E>(lm));
  nn::initialise(m, {4, 0, 0});
  return m;
}
vqa_set some() {
  vqa_set s;
  s.name = "some";
  s.scenes = 7;
  s.get = [](std::uint64_t i) {
    vqa_scene v;
    if (i != 3) {
      image p{8, 8, std::vector<std::uint8_t>(192)};
      random_stream r{i, 0, 0};
      for (auto& byte : p.rgb) byte = std::uint8_t(r.below(256));
      v.picture = p;
    }
    for (std::uint64_t q = 0; q < 1 + i % 3; ++q)
      v.questions.push_back(
          {q ? "count" : "presence", "", q ? "is there a bag?" : "at the top", "yes"});
    return v;
  };
  return s;
}
answer_options options() {
  answer_options o;
  o.chat = chat_format::plain;
  o.towers = {image_transform::of_tower("siglip", 8)};
  o.max_tokens = 6;
  o.scenes_at_once = 3;
  return o;
}
// One question, one row, no forking.
std::string alone(const model_type& m, const tokenizer& words, const vqa_scene& v,
                  const std::string& question) {
  context_of<E> ctx;
  auto state = m.make_state(1);
  if (v.picture) {
    const std::vector<float> pixels = options().towers[0](*v.picture);
    const in<E, 4> view(pixels.data(), shape<4>{{1, 3, 8, 8}});
    m.prefill(ctx, m.tokens(ctx, m.features(ctx, std::span(&view, 1))), state);
  }
  prompt_builder prompt(chat_format::plain);
  std::vector<std::int32_t> ids = words.encode(prompt.add_turn(chat_role::human, question)), out;
  auto logits = m.prefill(
      ctx, m.embed(ctx, in_index<E, 2>(ids.data(), shape<2>{{1, index_t(ids.size())}})), state);
  for (int t = 0; t < 6; ++t) {
    std::int32_t best = 0;
    for (index_t i = 1; i < logits.size[1]; ++i)
      if (logits(0, i) > logits(0, best)) best = std::int32_t(i);
    if (best == *words.eos()) break;
    out.push_back(best);
    logits = m.step(ctx, in_index<E, 1>(&out.back(), shape<1>{{1}}), state);
  }
  std::erase_if(out, [&](std::int32_t id) { return !words.contains(id); });
  return words.decode(out);
}
}  // namespace

TEST_SUITE("evaluate_test") {
  TEST_CASE("batched, forked answers equal those asked one by one") {
    const tokenizer words = small_tokenizer();
    const model_type m = tiny(words.size());
    context_of<E> ctx;
    std::uint64_t told = 0;
    const auto all =
        answer_all(ctx, m, words, some(), options(), [&](std::uint64_t n) { told = n; });
    CHECK(told == 7);
    std::size_t at = 0;
    std::set<std::string> different;
    for (std::uint64_t i = 0; i < 7; ++i) {
      const vqa_scene v = some().get(i);
      for (const vqa_question& q : v.questions) {
        CHECK(all[at].given == alone(m, words, v, q.text));
        CHECK(all[at].type == q.type);
        CHECK(all[at].truth == "yes");
        different.insert(all[at++].given);
      }
    }
    CHECK(at == all.size());
    CHECK(different.size() > 3);  // the model looks at its input
  }
  TEST_CASE("shown nothing or another's picture, the model answers from that") {
    const tokenizer words = small_tokenizer();
    const model_type m = tiny(words.size());
    context_of<E> ctx;
    answer_options o = options();
    o.show = shown::nothing;
    const auto blind = answer_all(ctx, m, words, some(), o);
    CHECK(blind[0].given == alone(m, words, {}, "at the top"));
    o.show = shown::shuffled;
    const auto order = train::detail::strangers(7, o.seed);
    const auto other = answer_all(ctx, m, words, some(), o);
    CHECK(other[0].given == alone(m, words, some().get(order[0]), "at the top"));
  }
  TEST_CASE("strangers: a permutation without fixed points and partners") {
    for (const std::uint64_t n : {1u, 2u, 3u, 4u, 5u, 8u, 51u, 200u}) {
      const auto p = train::detail::strangers(n, 3);
      CHECK(std::set<std::uint64_t>(p.begin(), p.end()).size() == n);
      for (std::uint64_t i = 0; i < n; ++i) {
        if (n > 1) CHECK(p[i] != i);
        if (n > 4) CHECK(p[i] / 2 != i / 2);
      }
    }
  }
  TEST_CASE("questions from a file and from garment scenes") {
    const test::temporary_folder folder;
    test::spill(folder / "q.json", R"([
      {"image": "a.png", "type": "count", "kind": "all", "conversations":
        [{"from": "human", "value": "<image>\nHow many?"}, {"from": "gpt", "value": "two"}]},
      {"image": "a.png", "conversations":
        [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"},
         {"from": "human", "value": "r"}, {"from": "gpt", "value": "b"}]},
      {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}])");
    write_png(folder / "a.png", image{2, 2, std::vector<std::uint8_t>(12, 7)});
    const vqa_set s = read_questions(folder / "q.json", folder / ".");
    CHECK(s.scenes == 2);
    const vqa_scene first = s.get(0);
    REQUIRE(first.picture);
    REQUIRE(first.questions.size() == 3);
    CHECK(first.questions[0].type == "count");
    CHECK(first.questions[0].kind == "all");
    CHECK(first.questions[2].text == "r");
    CHECK(first.questions[2].truth == "b");
    CHECK_FALSE(s.get(1).picture);
    CHECK_THROWS_AS(read_questions(folder / "none.json", folder / "."), io_error);

    const vqa_set g = garment_questions(garment::made_up(garment::split::test), 1, 5);
    CHECK(g.scenes == 5);
    CHECK(g.get(2).questions.size() >= 6);
    CHECK(g.get(2).picture->width == 96);
  }
}
