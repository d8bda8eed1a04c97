// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Training a vocabulary: the definition of BPE, fixed ties, and a file that reads back.
#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "io/temporary.hpp"
#include "mlmamba/text/bpe_trainer.hpp"

using namespace mlmamba;

namespace {

std::vector<std::string> merges_of(const std::string& file) {
  return parse_json(file, "t").at("model").at("merges").get<std::vector<std::string>>();
}
const std::string sample =
    "low lower lowest newer newest wider widest the the the a state of the state space, "
    "spaces and states; \xc3\xa9t\xc3\xa9 3 33 333 3333";

/// The definition, word by word: count all pairs anew for each merge.
std::vector<std::string> merges_by_definition(const std::string& text, std::size_t room,
                                              std::int64_t least) {
  const auto& alphabet = detail::byte_alphabet::get();
  std::map<std::uint16_t, int> order;
  for (std::size_t b = 0; b < 256; ++b) order[alphabet.character[b]] = static_cast<int>(b);
  std::vector<std::string> tokens;  // ids without special tokens
  std::map<int, int> of_byte;
  for (const auto& [c, b] : order) {
    of_byte[b] = static_cast<int>(tokens.size());
    tokens.push_back(alphabet.spelled(std::string(1, static_cast<char>(b))));
  }
  std::vector<std::vector<int>> words;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = detail::word_end(text, at);
    words.emplace_back();
    for (; at < end; ++at) words.back().push_back(of_byte[static_cast<unsigned char>(text[at])]);
  }
  std::vector<std::string> merges;
  while (merges.size() < room) {
    std::map<std::pair<int, int>, std::int64_t> counts;
    for (const auto& w : words)
      for (std::size_t i = 0; i + 1 < w.size(); ++i) ++counts[{w[i], w[i + 1]}];
    auto best = counts.end();
    for (auto p = counts.begin(); p != counts.end(); ++p)
      if (best == counts.end() || p->second > best->second)
        best = p;  // of equals the first: lowest
    if (best == counts.end() || best->second < least) break;
    const auto [a, b] = best->first;
    const std::string& left = tokens[static_cast<std::size_t>(a)];
    const std::string& right = tokens[static_cast<std::size_t>(b)];
    merges.push_back(left + " " + right);
    const std::string joined = left + right;
    auto at = std::find(tokens.begin(), tokens.end(), joined);
    const int id = static_cast<int>(at - tokens.begin());
    if (at == tokens.end()) tokens.push_back(joined);
    for (auto& w : words)
      for (std::size_t i = 0; i + 1 < w.size(); ++i)
        if (w[i] == a && w[i + 1] == b) {
          w[i] = id;
          w.erase(w.begin() + static_cast<std::ptrdiff_t>(i) + 1);
        }
  }
  return merges;
}

}  // namespace

TEST_SUITE("bpe_trainer_test") {
  TEST_CASE("the merges are those of the definition") {
    for (const std::int64_t least : {1, 2, 3}) {
      bpe_trainer trainer({.vocabulary = 256 + 2 + 40, .least_count = least});
      trainer.add(sample);
      CHECK(merges_of(trainer.train()) == merges_by_definition(sample, 40, least));
    }
  }

  TEST_CASE("the order of the texts does not matter") {
    bpe_trainer one({.vocabulary = 320}), two({.vocabulary = 320});
    one.add("the state of the space");
    one.add(" newer and newest");
    two.add(" newer and newest");
    two.add("the state of the space");
    CHECK(one.train() == two.train());
  }

  TEST_CASE("the file reads back and spells every text") {
    test::temporary_folder folder;
    const std::vector<std::string> texts{sample, "<|endoftext|> is cut out"};
    const auto words = train_tokenizer(folder / "tokenizer.json", texts, {.vocabulary = 280});
    CHECK(words.size() == 280);
    CHECK(words.id("<|endoftext|>") == 0);
    CHECK(words.eos() == 0);
    CHECK(words.is_special(1));
    const auto again = tokenizer::open(folder / "tokenizer.json");
    for (const std::string& text :
         {sample, std::string("\xe6\x97\xa5 \xf0\x9f\x98\x80\n\t x"), std::string("\0\x01", 2)}) {
      CHECK(again.encode(text) == words.encode(text));
      CHECK(again.decode(again.encode(text)) == text);
    }
    CHECK(again.encode(" the").size() == 1);
    for (int id = 2; id < 280; ++id) CHECK(again.token(id).find("endof") == std::string::npos);
  }

  TEST_CASE("nothing to learn is a vocabulary of bytes") {
    const auto words = tokenizer::parse(bpe_trainer({.vocabulary = 5000}).train(), "t");
    CHECK(words.size() == 258);
    CHECK(words.encode("ab").size() == 2);
    bpe_trainer damaged({.vocabulary = 300, .nfc = false, .add_prefix_space = true});
    damaged.add("\xff\xfe x");
    damaged.add("");
    CHECK(tokenizer::parse(damaged.train(), "t").encode("x").size() == 2);
  }

  TEST_CASE("impossible options are refused") {
    CHECK_THROWS_AS(bpe_trainer({.vocabulary = 257}), error);
    CHECK_THROWS_AS(bpe_trainer({.special = {"<x>", "<x>"}}), error);
    CHECK_THROWS_AS(bpe_trainer({.special = {""}}), error);
    CHECK_THROWS_AS(bpe_trainer({.special = {"\xff"}}), error);
    CHECK_THROWS_AS(bpe_trainer({.special = {"a"}}), error);
  }
}
