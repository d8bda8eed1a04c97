// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Chat templates: literal texts of the original's builders.
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "io/temporary.hpp"
#include "mlmamba/text/prompt.hpp"
#include "mlmamba/text/tokenizer.hpp"

using namespace mlmamba;
using enum mlmamba::chat_role;

TEST_SUITE("prompt_test") {
  TEST_CASE("two turns of each format") {
    const auto chat = [](chat_format format) {
      prompt_builder p(format);
      p.add_turn(human, "Q1");
      p.add_turn(gpt, "A1");
      p.add_turn(human, "Q2");
      return p.prompt();
    };
    CHECK(chat(chat_format::zephyr) ==
          "<|user|>\nQ1<|endoftext|>\n<|assistant|>\nA1<|endoftext|>\n<|user|>\nQ2<|endoftext|>\n"
          "<|assistant|>\n");
    CHECK(chat(chat_format::mamba) == "In: Q1\nOut: A1<|endoftext|>\nIn: Q2\nOut: ");
    CHECK(chat(chat_format::pure) == "In: Q1\nOut: A1</s>In: Q2\nOut:");
  }

  TEST_CASE("a turn returns what it added") {
    prompt_builder p;
    const std::string a = p.add_turn(human, "What is this?"), b = p.add_turn(gpt, "A cat.");
    const std::string c = p.add_turn(human, "What colour?");
    CHECK(a == "<|user|>\nWhat is this?<|endoftext|>\n<|assistant|>\n");
    CHECK(b == "A cat.<|endoftext|>");
    CHECK(c == "\n<|user|>\nWhat colour?<|endoftext|>\n<|assistant|>\n");
    CHECK(p.prompt() == a + b + c);
    CHECK(p.turns() == 3);
  }

  TEST_CASE("messages are cleaned; an empty answer is a blank") {
    prompt_builder p(chat_format::mamba);
    CHECK(p.add_turn(human, " <image>\n\xc2\xa0 a <image>b\t\xe3\x80\x80\x1f") == "In: a b\nOut: ");
    CHECK(p.add_turn(gpt, " <image> ") == " <|endoftext|>");
    CHECK(p.add_turn(human, "<ima<image>ge>") == "\nIn: <image>\nOut: ");
    CHECK(p.add_turn(gpt, "\xff") == "\xff<|endoftext|>");
  }

  TEST_CASE("a potential prompt changes nothing and cleans nothing") {
    prompt_builder p;
    p.add_turn(human, "Q");
    p.add_turn(gpt, "A");
    const std::string before = p.prompt();
    CHECK(p.potential_prompt(" <image>x ") ==
          before + "<|user|>\n <image>x <|endoftext|>\n<|assistant|>\n");
    CHECK(p.prompt() == before);
    CHECK(prompt_builder(chat_format::pure).potential_prompt("x") == "In: x\nOut:");
  }

  TEST_CASE("roles take turns, human first") {
    prompt_builder p;
    CHECK_THROWS_AS(p.add_turn(gpt, "x"), error);
    p.add_turn(human, "x");
    CHECK_THROWS_AS(p.add_turn(human, "x"), error);
    CHECK(p.turns() == 1);
  }

  TEST_CASE("names") {
    for (auto f : {chat_format::zephyr, chat_format::mamba, chat_format::pure})
      CHECK(chat_format_of(name_of(f)) == f);
    CHECK_THROWS_AS(chat_format_of("llama"), error);
  }

  TEST_CASE("ids of prompts in GPT-NeoX's vocabulary, where it is there") {
    const auto file = test::shared_data("gpt-neox-20b/tokenizer.json");
    if (!std::filesystem::exists(file)) {
      MESSAGE("skipped: no ", file.string(), " (set MLMAMBA_SHARED_DATA)");
      return;
    }
    using ids_t = std::vector<std::int32_t>;
    const auto words = tokenizer::open(file);
    const auto ids_of = [&](const char* question) {
      return words.encode(prompt_builder().add_turn(human, question));
    };
    CHECK(ids_of("Provide a detailed description of this image") ==
          ids_t{29,  93,   4537, 49651, 187, 11509, 504, 247,  7000,  5740, 273,
                436, 2460, 0,    187,   29,  93,    515, 5567, 49651, 187});
    CHECK(ids_of("What's unusual about this photo?") ==
          ids_t{29,   93, 4537, 49651, 187, 1276, 434, 11555, 670,   436,
                7512, 32, 0,    187,   29,  93,   515, 5567,  49651, 187});
    CHECK(ids_of(
              "Is there a dog in the image?\nAnswer the question using a single word or phrase.") ==
          ids_t{29,    93, 4537, 49651, 187, 2513, 627, 247,  4370,  275,  253,
                2460,  32, 187,  32869, 253, 1953, 970, 247,  2014,  3159, 390,
                12616, 15, 0,    187,   29,  93,   515, 5567, 49651, 187});
    // Turn by turn, as in training, and as a whole.
    prompt_builder p;
    const std::pair<chat_role, const char*> turns[] = {
        {human, "What is this?"}, {gpt, "A cat."}, {human, "What colour?"}, {gpt, "Black."}};
    const ids_t want[] = {
        {29, 93, 4537, 49651, 187, 1276, 310, 436, 32, 0, 187, 29, 93, 515, 5567, 49651, 187},
        {34, 5798, 15, 0},
        {187, 29, 93, 4537, 49651, 187, 1276, 10688, 32, 0, 187, 29, 93, 515, 5567, 49651, 187},
        {15383, 15, 0}};
    ids_t all;
    for (std::size_t i = 0; i < 4; ++i) {
      const auto ids = words.encode(p.add_turn(turns[i].first, turns[i].second));
      CHECK(ids == want[i]);
      all.insert(all.end(), ids.begin(), ids.end());
    }
    CHECK(words.encode(p.prompt()) == all);
    // Answers of one token, whose probabilities evaluations ask for.
    CHECK(words.encode("True") == ids_t{5088});
    CHECK(words.encode("False") == ids_t{5653});
    CHECK(words.encode("Yes") == ids_t{4374});
    CHECK(words.encode("No") == ids_t{2302});
    for (char c = 'A'; c <= 'Z'; ++c) CHECK(words.encode(std::string(1, c)) == ids_t{34 + c - 'A'});
    CHECK(words.encode(" Hello world") == ids_t{24387, 1533});
  }
}
