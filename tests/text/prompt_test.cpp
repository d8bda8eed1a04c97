// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Chat templates: literal texts of the original's builders.
#include <string>

#include <doctest/doctest.h>

#include "mlmamba/text/prompt.hpp"

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
}
