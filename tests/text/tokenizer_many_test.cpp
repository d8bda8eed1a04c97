// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// 104,000 texts, every character of Unicode among them, have the ids that Hugging Face's tokenizers
// give them.
#include <algorithm>
#include <string>

#include <doctest/doctest.h>

#include "io/temporary.hpp"
#include "mlmamba/text/stream_decoder.hpp"
#include "mlmamba/text/tokenizer.hpp"
#include "text/many_texts.hpp"

using namespace mlmamba;

namespace {

/// How many blocks of texts have the checksum of the file.
void check_many(const tokenizer& words, const std::filesystem::path& file) {
  const json golden = read_json(file);
  const auto each = golden.at("texts_each").get<std::uint64_t>();
  const json& sums = golden.at("checksums");
  CHECK(sums.size() * each >= 100000);
  for (std::uint64_t block = 0; block < sums.size(); ++block) {
    test::ids_checksum sum;
    for (std::uint64_t i = block * each; i < (block + 1) * each; ++i)
      sum.add(words.encode(test::many_text(i)));
    CAPTURE(block * each);  // the first of the texts one of which differs
    CHECK(sum.value == std::stoull(sums.at(block).get<std::string>(), nullptr, 16));
  }
}

}  // namespace

TEST_SUITE("tokenizer_many_test") {
  TEST_CASE("the checksum sees one id, and where texts end") {
    const auto of = [](std::initializer_list<std::vector<std::int32_t>> texts) {
      test::ids_checksum sum;
      for (const auto& ids : texts) sum.add(ids);
      return sum.value;
    };
    CHECK(of({{1, 2}, {3}}) != of({{1, 2}, {4}}));
    CHECK(of({{1, 2}, {3}}) != of({{1}, {2, 3}}));
  }

  TEST_CASE("a small vocabulary") {
    check_many(tokenizer::open(test::test_data("golden/tokenizer/tokenizer.json")),
               test::test_data("golden/tokenizer/many_small.json"));
  }

  TEST_CASE("GPT-NeoX's own vocabulary, where it is there") {
    const auto file = test::shared_data("gpt-neox-20b/tokenizer.json");
    if (!std::filesystem::exists(file)) {
      MESSAGE("skipped: no ", file.string(), " (set MLMAMBA_SHARED_DATA)");
      return;
    }
    check_many(tokenizer::open(file), test::test_data("golden/tokenizer/many_neox.json"));
  }

  TEST_CASE("the bytes of the ids are the text in normal form, whole and in pieces") {
    const auto words = tokenizer::open(test::test_data("golden/tokenizer/tokenizer.json"));
    for (std::uint64_t i = 0; i < 4000; ++i) {
      std::string valid;
      detail::append_utf8(test::many_text(7 * i), valid, false);
      const auto ids = words.encode(valid);
      const std::string whole = words.decode(ids, false);
      stream_decoder stream(words, false);
      std::string pieces;
      bool halves = false;
      for (const auto id : ids) {
        const std::string piece = stream.push(id);
        halves = halves || !detail::is_utf8(piece);
        pieces += piece;
      }
      CAPTURE(7 * i);
      CHECK_FALSE(halves);
      CHECK(pieces + stream.finish() == whole);
      if (valid.find("<|") == std::string::npos) CHECK(whole == detail::nfc(valid));
    }
  }
}
