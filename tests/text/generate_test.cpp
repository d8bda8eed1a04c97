// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Generation: pieces, stops, seeds, states that go on, batches, pictures, probabilities of answers.
#include "mlmamba/text/generate.hpp"

#include <doctest/doctest.h>

#include <set>

#include "mlmamba/models/state.hpp"
#include "mlmamba/text/answer_probabilities.hpp"
#include "mlmamba/text/generate_batch.hpp"
#include "text/small_model.hpp"

using namespace mlmamba;
using namespace mlmamba::test;

TEST_SUITE("generate_test") {
  TEST_CASE("greedy text is that of the whole forward pass, and pieces are whole characters") {
    for (const char* text : {"is there", "coat or shirt", "\xE2\x82\xAC?", "a"}) {
      auto g = generate(ctx(), model(), words(), text, {.max_new_tokens = 12});
      std::string all;
      int pieces = 0;
      for (std::string_view piece : g) {
        CHECK_FALSE(piece.empty());
        CHECK(detail::is_utf8(piece));
        all += piece;
        ++pieces;
      }
      const std::vector<std::int32_t> made(g.tokens().begin(), g.tokens().end());
      CHECK(made == slowly(words().encode(text), 12));
      CHECK(all == words().decode(made));
      CHECK(pieces > 0);
      CHECK(g.begin() == g.end());
    }
  }
  TEST_CASE("as a range: the algorithms of the standard library take it") {
    auto g = generate(ctx(), model(), words(), "is there", {.max_new_tokens = 5});
    static_assert(std::ranges::input_range<decltype(g)>);
    CHECK(std::ranges::distance(g) > 0);
  }
  TEST_CASE("it ends at the end token, at tokens of one's own, after so many tokens") {
    const auto first = slowly(words().encode("bag"), 8);
    REQUIRE(first.size() == 8);
    auto g = generate(ctx(), model(), words(), "bag", {.max_new_tokens = 8, .stop = {first[3]}});
    const auto made = tokens_of(g);
    const std::size_t end =
        std::size_t(std::find(first.begin(), first.end(), first[3]) - first.begin());
    CHECK(made == std::vector<std::int32_t>(first.begin(), first.begin() + long(end) + 1));
    CHECK(g.stopped());
    auto short_one = generate(ctx(), model(), words(), "bag", {.max_new_tokens = 3});
    CHECK(tokens_of(short_one).size() == 3);
    CHECK_FALSE(short_one.stopped());
    auto none = generate(ctx(), model(), words(), "bag", {.max_new_tokens = 0});
    CHECK(none.rest().empty());
    REQUIRE(words().eos() == 0);
    lm_type ends = model();  // whose logits are all 0: the first token, which ends the text
    nn::fill(ends.backbone.norm_f.weight, [] { return 0.0; });
    auto silent = generate(ctx(), ends, words(), "bag", {.max_new_tokens = 9});
    CHECK(silent.rest().empty());
    CHECK(silent.stopped());
    CHECK(silent.tokens().size() == 1);
    auto on =
        generate(ctx(), ends, words(), "bag", {.max_new_tokens = 9, .stop_at_end_of_text = false});
    CHECK(tokens_of(on).size() == 9);
  }
  TEST_CASE("max_length counts the prompt's text, and one token is always made") {
    const auto ids = words().encode("is there");
    const index_t n = index_t(ids.size());
    const auto long_text = slowly(ids, 8);
    REQUIRE(long_text.size() == 8);
    for (const index_t length : {index_t(1), n, n + 1, n + 3, n + 100}) {
      auto g = generate(ctx(), model(), words(), "is there",
                        {.max_new_tokens = 8, .max_length = length});
      const std::size_t want = std::size_t(std::clamp<index_t>(length - n, 1, 8));
      CHECK(tokens_of(g) ==
            std::vector<std::int32_t>(long_text.begin(), long_text.begin() + std::ptrdiff_t(want)));
    }
    const std::vector<std::vector<std::int32_t>> prompts{ids, words().encode("a")};
    const auto rows = generate_batch(ctx(), model(), words(), prompts,
                                     {.max_new_tokens = 8, .max_length = n + 2});
    CHECK(rows[0].size() == 2);
    CHECK(rows[1].size() == std::size_t(std::min<index_t>(8, n + 1)));
  }
  TEST_CASE("forced tokens come first, and the text goes on after them") {
    auto ids = words().encode("is there");
    const auto forced = words().encode(" coat");
    auto g = generate(ctx(), model(), words(), "is there",
                      {.max_new_tokens = index_t(forced.size()) + 4, .forced = forced});
    const auto made = tokens_of(g);
    ids.insert(ids.end(), forced.begin(), forced.end());
    auto want = forced;
    for (const auto id : slowly(ids, 4)) want.push_back(id);
    CHECK(made == want);
    CHECK_THROWS_AS(generate(ctx(), model(), words(), "is", {.forced = {-1}}), error);
    CHECK_THROWS_AS(
        generate(ctx(), model(), words(), "is", {.forced = {std::int32_t(model().vocabulary())}}),
        error);
    const std::vector<std::vector<std::int32_t>> prompts{ids};
    CHECK_THROWS_AS(generate_batch(ctx(), model(), words(), prompts, {.forced = forced}), error);
    CHECK_THROWS_AS(generate_batch(ctx(), model(), words(), prompts, {.keep_scores = true}), error);
  }
  TEST_CASE("scores are the model's logits before penalty, temperature and limits") {
    const generate_options plain{.max_new_tokens = 3, .keep_scores = true};
    generate_options bent = plain;
    auto a = generate(ctx(), model(), words(), "is there", plain);
    const auto made = tokens_of(a);
    REQUIRE(a.scores().size() == made.size());
    for (std::size_t i = 0; i < made.size(); ++i) {
      CHECK(index_t(a.scores()[i].size()) == model().vocabulary());
      const auto& z = a.scores()[i];
      CHECK(std::max_element(z.begin(), z.begin() + words().size()) - z.begin() == made[i]);
    }
    bent.forced = made, bent.temperature = 0.5, bent.repetition_penalty = 1.7, bent.top_k = 3;
    auto b = generate(ctx(), model(), words(), "is there", bent);
    b.rest();
    CHECK(a.scores() == b.scores());
    bent.vocabulary = 20;
    auto c = generate(ctx(), model(), words(), "is there", bent);
    c.rest();
    for (const auto& z : c.scores()) CHECK(z.size() == 20);
    auto none = generate(ctx(), model(), words(), "is there", {.max_new_tokens = 3});
    none.rest();
    CHECK(none.scores().empty());
  }
  TEST_CASE("a smaller vocabulary leaves only its tokens") {
    for (const double temperature : {0.0, 1.5}) {
      auto g = generate(ctx(), model(), words(), "is there",
                        {.max_new_tokens = 20, .temperature = temperature, .vocabulary = 40});
      for (const auto id : tokens_of(g)) CHECK(id < 40);
    }
    auto all =
        generate(ctx(), model(), words(), "is there", {.max_new_tokens = 4, .vocabulary = 100000});
    CHECK(tokens_of(all).size() == 4);
  }
  TEST_CASE("a seed draws the same text again, another seed another") {
    std::set<std::string> texts;
    for (std::uint64_t seed = 0; seed < 4; ++seed) {
      const generate_options o{.max_new_tokens = 12, .temperature = 1.5, .seed = seed};
      auto a = generate(ctx(), model(), words(), "is", o);
      auto b = generate(ctx(), model(), words(), "is", o);
      const std::string text = a.rest();
      CHECK(text == b.rest());
      texts.insert(text);
      for (const std::int32_t id : a.tokens()) CHECK(id < words().size());  // no padding
    }
    CHECK(texts.size() > 2);
  }
  TEST_CASE("a prompt read in parts gives the same text") {
    const char* text = "is there a bag, coat or shirt at the top left? yes no";
    auto whole = generate(ctx(), model(), words(), text, {.max_new_tokens = 8});
    for (const index_t part : {1, 3, 7}) {
      auto parts =
          generate(ctx(), model(), words(), text, {.max_new_tokens = 8, .prefill_tokens = part});
      CHECK(tokens_of(parts) == tokens_of(whole));
    }
  }
  TEST_CASE("a chat that goes on is one text") {
    auto state = model().make_state(1);
    auto one = generate_after(ctx(), model(), words(), state, {.text = "is there"},
                              {.max_new_tokens = 4, .stop_at_end_of_text = false});
    one.rest();
    CHECK(state.position == index_t(words().encode("is there").size()) + 4);
    CHECK(equal(one.state(), state));
    auto two =
        generate_after(ctx(), model(), words(), state, {.text = " coat"}, {.max_new_tokens = 6});
    std::vector<std::int32_t> all = words().encode("is there");
    all.insert(all.end(), one.tokens().begin(), one.tokens().end());
    const auto more = words().encode(" coat");
    all.insert(all.end(), more.begin(), more.end());
    CHECK(tokens_of(two) == slowly(all, 6));
  }
  TEST_CASE("a batch of prompts of different lengths: each row is what it is alone") {
    std::vector<std::vector<std::int32_t>> prompts;
    for (const char* text : {"is there", "coat", "a", "at the top left?", "coat", "no no no"})
      prompts.push_back(words().encode(text));
    for (const double temperature : {0.0, 1.2}) {
      generate_options o{.max_new_tokens = 10, .temperature = temperature, .seed = 5};
      o.stop = {slowly(prompts[1], 3)[2]};  // some rows end early
      const auto all = generate_batch(ctx(), model(), words(), prompts, o);
      for (std::size_t i = 0; i < prompts.size(); ++i) {
        generate_options alone = o;
        alone.seed += i;
        auto g = generate(ctx(), model(), words(), words().decode(prompts[i]), alone);
        std::vector<std::int32_t> want;
        while (const auto id = g.next_token()) want.push_back(*id);
        CHECK(all[i] == want);
      }
    }
    CHECK(generate_batch(ctx(), model(), words(), {}).empty());
  }
  TEST_CASE("probabilities of answers are those of the first token") {
    const std::vector<std::string> answers{"a", "n", "t"};
    const auto p = answer_probabilities(ctx(), model(), words(), {.text = "is it? "}, answers);
    auto frame = ctx().scratch.make_frame();
    auto state = model().make_state(1);
    const auto ids = words().encode("is it? ");
    const in_index<E, 2> view(ids.data(), shape<2>{{1, index_t(ids.size())}});
    const auto y = model().prefill(ctx(), model().embed(ctx(), view), state);
    double sum = 0;
    for (const std::string& a : answers) sum += std::exp(double(y(0, words().encode(a)[0])));
    for (std::size_t i = 0; i < 3; ++i)
      CHECK(p[i] == doctest::Approx(std::exp(double(y(0, words().encode(answers[i])[0]))) / sum));
    const std::vector<std::string> many{"is there a bag"}, none;
    CHECK_THROWS_AS(answer_probabilities(ctx(), model(), words(), {.text = "x"}, many), error);
    CHECK_THROWS_AS(answer_probabilities(ctx(), model(), words(), {.text = "x"}, none), error);
  }
  TEST_CASE("probabilities of many prompts after states are those of each alone") {
    const std::vector<std::string> answers{"a", "n", "t"};
    const std::vector<std::string> texts{"is it? ", "no", "is it? ", "at the top left?"};
    auto before = model().make_state(1);
    detail::read_ids(ctx(), model(), words().encode("a coat. "), 1, 8, before);
    std::vector<std::vector<std::int32_t>> prompts;
    for (const auto& t : texts) prompts.push_back(words().encode(t));
    const std::vector<index_t> same(texts.size(), 0);
    const auto all = answer_probabilities_after(ctx(), model(), words(), gather_rows(before, same),
                                                prompts, answers);
    REQUIRE(all.size() == texts.size());
    for (std::size_t i = 0; i < texts.size(); ++i) {
      auto state = before;
      const auto logits = detail::read_ids(ctx(), model(), prompts[i], 1, 1024, state);
      double sum = 0;
      for (const std::string& a : answers)
        sum += std::exp(double(logits[std::size_t(words().encode(a)[0])]));
      for (std::size_t k = 0; k < answers.size(); ++k) {
        const double x = std::exp(double(logits[std::size_t(words().encode(answers[k])[0])]));
        CHECK(all[i][k] == doctest::Approx(x / sum));
      }
    }
    CHECK(all[0] == all[2]);
    CHECK(all[0] != all[1]);
    const auto none = model().make_state(0);
    CHECK(answer_probabilities_after(ctx(), model(), words(), none, {}, answers).empty());
  }
  TEST_CASE("a batch after states goes on where they stand") {
    auto before = model().make_state(1);
    detail::read_ids(ctx(), model(), words().encode("a coat. "), 1, 8, before);
    const std::vector<std::vector<std::int32_t>> prompts{words().encode("is there"),
                                                         words().encode("no")};
    const std::vector<index_t> same(2, 0);
    const auto all = generate_batch_after(ctx(), model(), words(), gather_rows(before, same),
                                          prompts, {.max_new_tokens = 6});
    for (std::size_t i = 0; i < 2; ++i) {
      auto state = before;
      auto g = generate_after(ctx(), model(), words(), state, {.text = words().decode(prompts[i])},
                              {.max_new_tokens = 6});
      std::vector<std::int32_t> want;
      while (const auto id = g.next_token()) want.push_back(*id);
      CHECK(all[i] == want);
    }
  }
  TEST_CASE("with a picture before the text: alone, in a batch, and different from no picture") {
    const seeing_type& m = seeing_model();
    const std::vector<image_transform> rule{{.size = 8}};
    const std::vector<std::string> letters{"a", "n", "t"};
    std::set<std::vector<double>> answers;
    tensor<float, 4> both({2, 3, 8, 8});
    std::vector<std::vector<std::int32_t>> alone;
    for (std::uint64_t k = 0; k < 2; ++k) {
      image picture{9, 7, std::vector<std::uint8_t>(189)};
      random_stream r{k, 0, 0};
      for (auto& u : picture.rgb) u = std::uint8_t(k == 0 ? r.below(256) : 255 * r.below(2));
      const auto pixels = pixels_of(picture, rule);
      std::copy_n(pixels[0].data(), 192, both.data() + 192 * k);
      auto g = generate(ctx(), m, words(), prompt{.pixels = pixels, .text = "is there"},
                        {.max_new_tokens = 8, .stop_at_end_of_text = false});
      alone.push_back(tokens_of(g));
      answers.insert(answer_probabilities(ctx(), m, words(),
                                          prompt{.pixels = pixels, .text = "is there"}, letters));
      CHECK(g.state().position == 4 + index_t(words().encode("is there").size()) + 8);
    }
    answers.insert(answer_probabilities(ctx(), m, words(), {.text = "is there"}, letters));
    CHECK(answers.size() == 3);
    const std::vector<std::vector<std::int32_t>> prompts(2, words().encode("is there"));
    const std::vector<tensor<float, 4>> pixels{both};
    CHECK(generate_batch(ctx(), m, words(), prompts,
                         {.max_new_tokens = 8, .stop_at_end_of_text = false}, pixels) == alone);
    CHECK_THROWS_AS(generate(ctx(), m, words(), prompt{.pixels = pixels, .text = "is"}),
                    shape_error);
  }
  TEST_CASE("bad input gives one clear line") {
    CHECK_THROWS_AS(generate(ctx(), model(), words(), ""), shape_error);
    CHECK_THROWS_AS(generate(ctx(), model(), words(), "a", {.max_new_tokens = -1}), error);
    CHECK_THROWS_AS(generate(ctx(), model(), words(), "a", {.temperature = -1}), error);
    CHECK_THROWS_AS(generate(ctx(), model(), words(), "a", {.max_length = -1}), error);
    CHECK_THROWS_AS(generate(ctx(), model(), words(), "a", {.vocabulary = -1}), error);
    CHECK_THROWS_AS(generate(ctx(), model(), words(), "a", {.prefill_tokens = 0}), error);
    const prompt seen{.pixels = {tensor<float, 4>({1, 3, 8, 8})}, .text = "a"};
    CHECK_THROWS_WITH(
        generate(ctx(), model(), words(), seen),
        "generate: a prompt with a picture for a model that can't see; text is wanted");
    mamba_config c = sizes();
    c.vocab_size = 10, c.pad_vocab_size_multiple = 1;
    const lm_type few(c);
    CHECK_THROWS_AS(generate(ctx(), few, words(), "top"), error);
    lm_type broken = model();
    broken.backbone.norm_f.weight.value(0) = std::nanf("");
    auto g = generate(ctx(), broken, words(), "a");
    CHECK_THROWS_AS(g.rest(), error);
    auto latin = generate(ctx(), model(), words(), "\xff\xfe", {.max_new_tokens = 2});
    CHECK_NOTHROW(latin.rest());
  }
  TEST_CASE("what is refused leaves the state as it was") {
    auto state = model().make_state(1);
    (void)generate_after(ctx(), model(), words(), state, {.text = "top"}, {.max_new_tokens = 2})
        .rest();
    const auto kept = state;
    const auto refused = [&](const char* text, const generate_options& o) {
      CHECK_THROWS_AS(generate_after(ctx(), model(), words(), state, {.text = text}, o), error);
      CHECK(equal(state, kept));
    };
    refused("", {});
    refused("left", {.temperature = -1});
    refused("left", {.top_p = 2});
    refused("left", {.forced = {-1}});
    refused("left", {.prefill_tokens = 0});
  }
}
