// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The tokenizer: equal to Hugging Face's on recorded texts, and what it does with everything else.
#include <cstdint>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "io/temporary.hpp"
#include "mlmamba/text/stream_decoder.hpp"
#include "text/small_tokenizer.hpp"

using namespace mlmamba;
using mlmamba::test::added, mlmamba::test::small, mlmamba::test::small_file;
using ids_t = std::vector<std::int32_t>;

namespace {

void check_cases(const tokenizer& words, const std::filesystem::path& cases) {
  const json list = read_json(cases);
  CHECK(list.size() >= 400);
  for (const json& c : list) {
    const auto text = c.at("text").get<std::string>();
    const auto want = c.at("ids").get<ids_t>();
    CAPTURE(text);
    const ids_t got = words.encode(text);
    CHECK(got == want);
    stream_decoder stream(words, false);
    std::string pieces;
    for (const auto id : got) {
      const std::string piece = stream.push(id);
      CHECK(detail::is_utf8(piece));
      pieces += piece;
    }
    CHECK(pieces + stream.finish() == words.decode(got, false));
  }
}

}  // namespace

TEST_SUITE("tokenizer_test") {
  TEST_CASE("recorded texts have the ids that Hugging Face's tokenizers gave") {
    check_cases(tokenizer::open(test::test_data("golden/tokenizer/tokenizer.json")),
                test::test_data("golden/tokenizer/cases.json"));
  }

  TEST_CASE("GPT-NeoX's own vocabulary, where it is there") {
    const auto file = test::shared_data("gpt-neox-20b/tokenizer.json");
    if (!std::filesystem::exists(file)) {
      MESSAGE("skipped: no ", file.string(), " (set MLMAMBA_SHARED_DATA)");
      return;
    }
    const auto words = tokenizer::open(file);
    check_cases(words, test::test_data("golden/tokenizer/cases_neox.json"));
    CHECK(words.size() == 50277);
    CHECK(words.encode("Hello world") == ids_t{12092, 1533});
    CHECK(words.encode("<|user|>\n") == ids_t{29, 93, 4537, 49651, 187});
    CHECK(words.eos() == 0);
    CHECK(words.decode(ids_t{12092, 0, 1533}) == "Hello world");
    CHECK(words.decode(ids_t{12092, 0, 1533}, false) == "Hello<|endoftext|> world");
  }

  TEST_CASE("merges go by rank, words are split first") {
    const auto t = small();
    CHECK(t.encode("hello") == ids_t{259});
    CHECK(t.encode(" hello hello") == ids_t{260, 260});
    CHECK(t.encode("hellohello") == ids_t{259, 259});
    CHECK(t.encode("hel") == ids_t{256, 'l'});
    CHECK(t.encode("").empty());
    CHECK(t.encode("lll") == ids_t{257, 'l'});
    CHECK(t.id("\xc4\xa0hello") == 260);
    CHECK(t.token(260) == "\xc4\xa0hello");
    CHECK(t.token_bytes(260) == " hello");
    CHECK(t.size() == 261);
    CHECK_FALSE(t.eos().has_value());
    CHECK_FALSE(t.find("nope").has_value());
    CHECK_THROWS_AS((void)t.id("nope"), error);
    CHECK_THROWS_AS((void)t.token(261), error);
    CHECK_THROWS_AS((void)t.token(-1), error);
    CHECK_THROWS_AS(t.decode(ids_t{261}), error);
  }

  TEST_CASE("long words merge as short ones do") {
    const auto t = small();
    std::string text;
    ids_t want;
    for (int i = 0; i < 1000; ++i) {
      text += i % 3 ? "hello" : "llx";
      const ids_t part = i % 3 ? ids_t{259} : ids_t{257, 'x'};
      want.insert(want.end(), part.begin(), part.end());
    }
    CHECK(t.encode(text) == want);
    CHECK(t.encode(std::string(200001, 'l')).size() == 100001);  // and in less than quadratic time
    CHECK(t.encode(std::string(300000, ' ')).size() == 300000);
  }

  TEST_CASE("text that is not UTF-8 is replaced part by part") {
    const auto t = small();
    const std::string mark = "\xEF\xBF\xBD";
    const auto as = [&](const std::string& text) { return t.decode(t.encode(text)); };
    CHECK(as("a\xff"
             "b") == "a" + mark + "b");
    CHECK(as("\xe6\x97") == mark);  // a beginning of three bytes, cut short
    CHECK(as("\xe6\x97"
             "a") == mark + "a");
    CHECK(as("\xed\xa0\x80") == mark + mark + mark);  // a surrogate is no character
    CHECK(as("\xc0\xaf") == mark + mark);             // nor is an overlong form
    CHECK(as("\xf4\x90\x80\x80") == mark + mark + mark + mark);
    CHECK(as("\xf0\x9f\x98\x80") == "\xf0\x9f\x98\x80");
    CHECK(as(std::string("a\0b", 3)) == std::string("a\0b", 3));
  }

  TEST_CASE("streaming holds back what is not yet a character") {
    const auto t = small();
    stream_decoder s(t);
    CHECK(s.push(0xE6) == "");
    CHECK(s.push(0x97) == "");
    CHECK(s.push(0xA5) == "\xe6\x97\xa5");
    CHECK(s.push(0xE6) == "");
    CHECK(s.push('a') ==
          "\xEF\xBF\xBD"
          "a");
    CHECK(s.push(0xFF) == "\xEF\xBF\xBD");
    CHECK(s.push(0xF0) == "");
    CHECK(s.push(0x9F) == "");
    CHECK(s.finish() == "\xEF\xBF\xBD");
    CHECK(s.finish() == "");
  }

  TEST_CASE("flags of added tokens") {
    const auto with = [](json token) {
      return tokenizer::parse(
          small_file([&](json& root) { root["added_tokens"] = json::array({token}); }), "t");
    };
    json token = added("<x>", 261);
    CHECK(with(token).encode("a <x> b") == ids_t{'a', ' ', 261, ' ', 'b'});
    token["lstrip"] = true;
    CHECK(with(token).encode("a  <x> b") == ids_t{'a', 261, ' ', 'b'});
    token["rstrip"] = true;
    CHECK(with(token).encode("a  <x> \n b") == ids_t{'a', 261, 'b'});
    json word = added("ab", 261);
    word["single_word"] = true;
    CHECK(with(word).encode("ab-ab") == ids_t{261, '-', 261});
    CHECK(with(word).encode("abc") == ids_t{'a', 'b', 'c'});
    CHECK(with(word).encode("_ab") == ids_t{'_', 'a', 'b'});
    json special = added("<|endoftext|>", 261);
    special["special"] = true;
    const auto t = with(special);
    CHECK(t.eos() == 261);
    CHECK(t.decode(ids_t{'a', 261, 'b'}) == "ab");
    CHECK(t.decode(ids_t{'a', 261, 'b'}, false) == "a<|endoftext|>b");
    json accent = added("e\xcc\x81", 261);  // found after normalisation in its composed form
    accent["normalized"] = true;
    const auto n = tokenizer::parse(small_file([&](json& root) {
                                      root["added_tokens"] = json::array({accent});
                                      root["normalizer"] = {{"type", "NFC"}};
                                    }),
                                    "t");
    CHECK(n.encode("e\xcc\x81\xc3\xa9") == ids_t{261, 261});
  }

  TEST_CASE("the longest added token wins, at the leftmost place") {
    const auto t = tokenizer::parse(
        small_file([](json& root) {
          root["added_tokens"] = {added("  ", 261), added("    ", 262), added("aab", 263)};
        }),
        "t");
    CHECK(t.encode("       ") == ids_t{262, 261, ' '});
    CHECK(t.encode("aaaab") == ids_t{'a', 'a', 263});
  }

  TEST_CASE("options that change the result, and both forms of merges") {
    const auto t = tokenizer::parse(small_file([](json& root) {
                                      root["pre_tokenizer"]["add_prefix_space"] = true;
                                      root["model"]["merges"] = json::array();
                                      root["model"]["merges"].push_back(json::array({"h", "e"}));
                                    }),
                                    "t");
    CHECK(t.encode("he") == ids_t{' ', 256});
    CHECK(t.encode(" he") == ids_t{' ', 256});
    const auto whole = tokenizer::parse(small_file([](json& root) {
                                          root["model"]["ignore_merges"] = true;
                                          root["model"]["merges"] = json::array();
                                        }),
                                        "t");
    CHECK(whole.encode("hello") == ids_t{259});
    CHECK(whole.encode("hellos") == ids_t{'h', 'e', 'l', 'l', 'o', 's'});
    const auto one = tokenizer::parse(
        small_file([](json& root) { root["pre_tokenizer"]["use_regex"] = false; }), "t");
    CHECK(one.encode("x hello") == ids_t{'x', 260});
    const auto unknown = [](bool fuse) {
      return tokenizer::parse(small_file([&](json& root) {
                                root["model"]["vocab"].erase("x");
                                root["model"]["unk_token"] = "?";
                                root["model"]["fuse_unk"] = fuse;
                              }),
                              "t");
    };
    CHECK(unknown(false).encode("axxb") == ids_t{'a', '?', '?', 'b'});
    CHECK(unknown(true).encode("axxb") == ids_t{'a', '?', 'b'});
    const auto lacking =
        tokenizer::parse(small_file([](json& root) { root["model"]["vocab"].erase("x"); }), "t");
    CHECK(lacking.encode("ab") == ids_t{'a', 'b'});
    CHECK_THROWS_AS(lacking.encode("axb"), error);
  }
}
