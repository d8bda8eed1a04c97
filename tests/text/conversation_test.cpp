// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Conversations: turns that go on, one look at the picture, forks, undo, interrupts, errors.
#include "mlmamba/text/conversation.hpp"

#include <doctest/doctest.h>

#include <stdexcept>

#include "mlmamba/models/state.hpp"
#include "mlmamba/nn/mamba1.hpp"
#include "mlmamba/text/answer_probabilities.hpp"
#include "mlmamba/text/any_text_model.hpp"
#include "mlmamba/text/generate_batch.hpp"
#include "text/small_model.hpp"

using namespace mlmamba;
using namespace mlmamba::test;

namespace {

using ids_t = std::vector<std::int32_t>;
const generate_options few{.max_new_tokens = 5};

ids_t operator+(ids_t a, const ids_t& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}
template <class M>
ids_t tokens_in(const conversation<M>& c) {
  return {c.tokens().begin(), c.tokens().end()};
}

}  // namespace

TEST_SUITE("conversation_test") {
  TEST_CASE("turns are one text: each answer is that to everything before it") {
    conversation c(ctx(), model(), words(), chat_format::mamba);
    ids_t all;
    for (const char* question : {"is there a bag?", " coat <image>", "no"}) {
      all = all + words().encode((all.empty() ? "In: " : "\nIn: ") +
                                 std::string(question[0] == ' ' ? "coat" : question) + "\nOut: ");
      const auto want = slowly(all, 5);
      const auto& turn = c.ask(question, few);
      CHECK(turn.question == question);
      CHECK(turn.answer == words().decode(want));
      all = all + want;
      CHECK(turn.ended == (want.back() == *words().eos()));
      if (!turn.ended) all.push_back(*words().eos());  // a cut answer is closed
      CHECK(tokens_in(c) == all);
      CHECK(c.state().position == index_t(all.size()));
    }
    CHECK(c.turns().size() == 3);
  }

  TEST_CASE("an answer that the model ends is not closed twice") {
    lm_type ends = model();  // whose logits are all 0: the first token, which ends the text
    nn::fill(ends.backbone.norm_f.weight, [] { return 0.0; });
    conversation c(ctx(), ends, words());
    CHECK(c.ask("is it?", few).ended);
    CHECK(c.tokens().back() == *words().eos());
    CHECK(c.tokens()[c.tokens().size() - 2] != *words().eos());
    CHECK(c.turns()[0].answer.empty());
  }

  TEST_CASE("without a format text is read as it is") {
    conversation c(ctx(), model(), words(), std::nullopt);
    c.ask("is there", few);
    const ids_t ids = words().encode("is there"), want = slowly(ids, 5);
    CHECK(tokens_in(c) == ids + want);
    c.ask(" <image>", few);
    CHECK(c.tokens().size() == ids.size() + 5 + words().encode(" <image>").size() + 5);
  }

  TEST_CASE("the picture is looked at once, and stays when the chat starts anew") {
    const auto picture = noise_picture(3);
    conversation c(ctx(), seeing_model(), words());
    const std::string blind = c.ask("is there", few).answer;
    c.begin(picture);
    CHECK(c.state().position == 4);
    CHECK(c.turns().empty());
    const auto seen = c.state();
    conversation other(ctx(), seeing_model(), words());
    other.begin(noise_picture(4));
    CHECK_FALSE(equal(other.state(), seen));
    const std::string first = c.ask("is there", few).answer, second = c.ask("a", few).answer;
    auto whole =
        generate(ctx(), seeing_model(), words(),
                 prompt{picture, prompt_builder().add_turn(chat_role::human, "is there")}, few);
    CHECK(first == whole.rest());
    c.restart();
    CHECK(equal(c.state(), seen));
    CHECK(c.ask("is there", few).answer == first);
    CHECK(c.ask("a", few).answer == second);
    c.begin();
    CHECK(c.ask("is there", few).answer == blind);
  }

  TEST_CASE("a turn can be taken back and asked again") {
    conversation c(ctx(), model(), words());
    CHECK_FALSE(c.undo());
    c.ask("is there", few);
    const auto before = c.state();
    const ids_t ids = tokens_in(c);
    const std::string answer = c.ask("coat", few).answer;
    REQUIRE(c.undo());
    CHECK(equal(c.state(), before));
    CHECK(tokens_in(c) == ids);
    CHECK(c.turns().size() == 1);
    CHECK_FALSE(c.undo());
    CHECK(c.ask("coat", few).answer == answer);
  }

  TEST_CASE("a copy goes its own way") {
    conversation c(ctx(), model(), words());
    c.ask("is there", few);
    auto fork = c;
    fork.ask("no no no", few);
    const std::string there = fork.ask("coat", few).answer, here = c.ask("coat", few).answer;
    CHECK(c.turns().size() == 2);
    CHECK(fork.turns().size() == 3);
    conversation alone(ctx(), model(), words());
    alone.ask("is there", few);
    CHECK(alone.ask("coat", few).answer == here);
    CHECK(tokens_in(alone) == tokens_in(c));
    CHECK(equal(alone.state(), c.state()));
    CHECK_FALSE(equal(fork.state(), c.state()));
  }

  TEST_CASE("an interrupted answer is a turn, and the conversation goes on after it") {
    conversation c(ctx(), model(), words());
    int pieces = 0;
    const generate_options more{.max_new_tokens = 50, .stop_at_end_of_text = false};
    const auto cut = c.ask("is there", more, [&](std::string_view) { return ++pieces < 3; });
    CHECK(pieces == 3);
    CHECK_FALSE(cut.ended);
    CHECK_FALSE(cut.answer.empty());
    REQUIRE(c.turns().size() == 1);
    CHECK(c.state().position == index_t(c.tokens().size()));
    CHECK(c.tokens().back() == *words().eos());
    const ids_t next =
        tokens_in(c) + words().encode("\n<|user|>\ncoat<|endoftext|>\n<|assistant|>\n");
    CHECK(c.ask("coat", few).answer == words().decode(slowly(next, 5)));
  }

  TEST_CASE("after an error all is as it was") {
    conversation c(ctx(), model(), words());
    c.ask("is there", few);
    const auto before = c.state();
    CHECK_THROWS_AS(c.ask("coat", few, [](std::string_view) { throw std::runtime_error("pipe"); }),
                    std::runtime_error);
    CHECK_THROWS_AS(c.ask("coat", {.temperature = -1}), error);
    CHECK_THROWS_AS(c.begin(noise_picture(1)), error);
    CHECK(equal(c.state(), before));
    CHECK(c.turns().size() == 1);
    CHECK(c.ask("coat", few).question == "coat");
    lm_type broken = model();
    broken.backbone.norm_f.weight.value(0) = std::nanf("");
    conversation b(ctx(), broken, words());
    CHECK_THROWS_AS(b.ask("a", few), error);
    CHECK(b.turns().empty());
    CHECK(b.tokens().empty());
  }

  TEST_CASE("the repetition penalty counts the turns before") {
    const generate_options strict{.max_new_tokens = 6, .repetition_penalty = 1000};
    conversation c(ctx(), model(), words());
    c.ask("is there", few);
    const ids_t before = tokens_in(c);
    c.ask("coat", strict);
    const ids_t question = words().encode("\n<|user|>\ncoat<|endoftext|>\n<|assistant|>\n");
    sampler greedy(strict.sampling_for(words().size(), model().vocabulary()));
    auto state = model().make_state(1);
    const ids_t all = before + question;
    const auto logits = detail::read_ids(ctx(), model(), all, 1, 1024, state);
    CHECK(c.tokens()[all.size()] == greedy(logits, all));
  }

  TEST_CASE("any text model: the words of the one in it, in states that go their own ways") {
    static_assert(text_model<any_text_model<E>> && seeing_text_model<any_text_model<E>>);
    const any_text_model<E> any(seeing_type{seeing_model()});
    const auto picture = noise_picture(3);
    conversation plain(ctx(), seeing_model(), words());
    conversation c(ctx(), any, words());
    CHECK(c.ask("is there", few).answer == plain.ask("is there", few).answer);
    plain.begin(picture), c.begin(picture);
    CHECK(c.state().position == 4);
    CHECK(c.ask("is there", few).answer == plain.ask("is there", few).answer);
    auto fork = c;
    fork.ask("no no no", few);
    CHECK(c.ask("coat", few).answer == plain.ask("coat", few).answer);
    CHECK(c.state().position == plain.state().position);
    CHECK(tokens_in(fork) != tokens_in(c));

    const std::vector<ids_t> prompts{words().encode("is there"), words().encode("a")};
    tensor<float, 4> both({2, 3, 8, 8});
    std::copy_n(picture[0].data(), 192, both.data());
    std::copy_n(picture[0].data(), 192, both.data() + 192);
    const std::vector<tensor<float, 4>> pictures{both};
    CHECK(generate_batch(ctx(), any, words(), prompts, few, pictures) ==
          generate_batch(ctx(), seeing_model(), words(), prompts, few, pictures));
    const std::vector<std::string> letters{"a", "n", "t"};
    const auto looked = any.make_state(1);
    const auto before = gather_rows(looked, std::vector<index_t>{0, 0});
    CHECK(answer_probabilities_after(ctx(), any, words(), before, prompts, letters) ==
          answer_probabilities_after(ctx(), seeing_model(), words(), seeing_model().make_state(2),
                                     prompts, letters));
  }

  TEST_CASE("any text model: activations in bf16 behind those in float") {
    using N = on<backend::reference, bf16>;
    using narrow_type = rebind_t<seeing_type, N>;
    const auto made = [] {
      narrow_type m(vit<N>(make_vit_config(vit_kind::siglip, 8, 4, 8, 2, 2, 2)),
                    mamba_lm<N>(sizes()));
      nn::initialise(m, {4, 0, 0});
      return m;
    };
    const narrow_type narrow = made();
    const any_text_model<E> any(made());
    for (const auto& pixels : {noise_picture(3), std::vector<tensor<float, 4>>{}}) {
      const prompt p{pixels, "is there"};
      for (const double temperature : {0.0, 1.0}) {
        generate_options o{.max_new_tokens = 9};
        o.temperature = temperature;
        CHECK(tokens_of(generate(ctx(), any, words(), p, o)) ==
              tokens_of(generate(ctx(), narrow, words(), p, o)));
      }
    }
  }

  TEST_CASE("any text model: one that can't see, states of others") {
    const any_text_model<E> any(lm_type{model()});
    CHECK_THROWS_WITH(
        generate(ctx(), any, words(), prompt{noise_picture(1), "a"}),
        "generate: a prompt with a picture for a model that can't see; text is wanted");
    any_text_model<E>::state none;
    CHECK_THROWS_AS(generate_after(ctx(), any, words(), none, prompt{.text = "a"}), shape_error);
    using other = mamba_lm<E, nn::mamba1>;
    mamba_config c = sizes();
    c.mixer.headdim = 1;
    auto wrong = any_text_model<E>(other(c)).make_state(1);
    CHECK_THROWS_AS(generate_after(ctx(), any, words(), wrong, prompt{.text = "a"}), shape_error);
  }
}
