// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Tokenizer files and folders: what is not supported or wrong is refused with the reason.
#include <string>

#include <doctest/doctest.h>

#include "io/temporary.hpp"
#include "mlmamba/io/write_file.hpp"
#include "text/small_tokenizer.hpp"

using namespace mlmamba;
using mlmamba::test::added, mlmamba::test::message_of, mlmamba::test::small_file;

namespace {

template <class F>
std::string refusal(F&& change) {
  const std::string text = small_file(change);
  return message_of<io_error>([&] { (void)tokenizer::parse(text, "t.json"); });
}

}  // namespace

TEST_SUITE("tokenizer_files_test") {
  TEST_CASE("what is not supported or wrong is refused, with the reason") {
    CHECK(refusal([](json&) {}) == "nothing was thrown");
    struct wrong {
      const char* says;
      void (*change)(json&);
    };
    const wrong list[] = {
        {"model \"Unigram\"", [](json& r) { r["model"]["type"] = "Unigram"; }},
        {"there is no \"model\"", [](json& r) { r.erase("model"); }},
        {"there is no \"vocab\"", [](json& r) { r["model"].erase("vocab"); }},
        {"\"vocab\" is []", [](json& r) { r["model"]["vocab"] = json::array(); }},
        {"there is no \"merges\"", [](json& r) { r["model"].erase("merges"); }},
        {"\"merges\" is 3", [](json& r) { r["model"]["merges"] = 3; }},
        {"two tokens and a blank", [](json& r) { r["model"]["merges"] = {"he"}; }},
        {"two tokens and a blank", [](json& r) { r["model"]["merges"] = {"h e l"}; }},
        {"two tokens are wanted", [](json& r) { r["model"]["merges"] = {3}; }},
        {"token \"hx\" is not in", [](json& r) { r["model"]["merges"] = {"h x"}; }},
        {"token \"\" is not in", [](json& r) { r["model"]["merges"] = {" x"}; }},
        {"both have id 3", [](json& r) { r["model"]["vocab"]["zz"] = 3; }},
        {"has id -1", [](json& r) { r["model"]["vocab"]["zz"] = -1; }},
        {"has id 2000000000", [](json& r) { r["model"]["vocab"]["zz"] = 2000000000; }},
        {"an integer is wanted", [](json& r) { r["model"]["vocab"]["zz"] = "3"; }},
        {"\"dropout\" is 0.1", [](json& r) { r["model"]["dropout"] = 0.1; }},
        {"\"continuing_subword_prefix\"",
         [](json& r) { r["model"]["continuing_subword_prefix"] = "##"; }},
        {"\"end_of_word_suffix\"", [](json& r) { r["model"]["end_of_word_suffix"] = "</w>"; }},
        {"\"byte_fallback\"", [](json& r) { r["model"]["byte_fallback"] = true; }},
        {"normalizer \"Lowercase\"",
         [](json& r) {
           r["normalizer"] = {{"type", "Lowercase"}};
         }},
        {"there is no \"type\"", [](json& r) { r["normalizer"] = json::object(); }},
        {"an object with", [](json& r) { r["normalizer"] = 3; }},
        {"pre_tokenizer", [](json& r) { r["pre_tokenizer"]["type"] = "Whitespace"; }},
        {"pre_tokenizer", [](json& r) { r["pre_tokenizer"] = nullptr; }},
        {"Split",
         [](json& r) {
           r["pre_tokenizer"] = {{"type", "Sequence"},
                                 {"pretokenizers", {{{"type", "Split"}}, {{"type", "ByteLevel"}}}}};
         }},
        {"decoder", [](json& r) { r["decoder"] = nullptr; }},
        {"post_processor",
         [](json& r) {
           r["post_processor"] = {{"type", "TemplateProcessing"}};
         }},
        {"\"truncation\" is set",
         [](json& r) {
           r["truncation"] = {{"max_length", 5}};
         }},
        {"\"padding\" is set", [](json& r) { r["padding"] = json::object(); }},
        {"\"added_tokens\" is 3", [](json& r) { r["added_tokens"] = 3; }},
        {"added token of 0 bytes", [](json& r) { r["added_tokens"] = {added("", 261)}; }},
        {"in the vocabulary it has 256", [](json& r) { r["added_tokens"] = {added("he", 261)}; }},
        {"both have id 5", [](json& r) { r["added_tokens"] = {added("<x>", 5)}; }},
    };
    for (const wrong& w : list) {
      const std::string message = refusal(w.change);
      CHECK(message.starts_with("t.json"));
      CHECK_MESSAGE(message.find(w.says) != std::string::npos, message);
    }
    CHECK_THROWS_AS(tokenizer::parse("", "t"), io_error);
    CHECK_THROWS_AS(tokenizer::parse("[]", "t"), io_error);
    CHECK_THROWS_AS(tokenizer::parse("{\"model\": 3}", "t"), io_error);
    CHECK_THROWS_AS(tokenizer::open("/no/such/tokenizer.json"), io_error);
  }

  TEST_CASE("a folder with a configuration says which token ends a text") {
    test::temporary_folder folder;
    CHECK_THROWS_AS(tokenizer::open(folder / ""), io_error);
    write_file(folder / "tokenizer.json", small_file([](json&) {}));
    CHECK_FALSE(tokenizer::open(folder / "").eos().has_value());
    write_file(folder / "tokenizer_config.json", R"({"eos_token": {"content": "hello"}})");
    CHECK(tokenizer::open(folder / "").eos() == 259);
    write_file(folder / "tokenizer_config.json", R"({"eos_token": "he"})");
    CHECK(tokenizer::open(folder / "tokenizer.json").eos() == 256);
    write_file(folder / "tokenizer_config.json", R"({"eos_token": "absent"})");
    CHECK_THROWS_AS(tokenizer::open(folder / ""), io_error);
  }
}
