// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A tokenizer file of 256 bytes and five merges, with changes of the test's choice.
#pragma once

#include <string>

#include "mlmamba/text/tokenizer.hpp"

namespace mlmamba::test {

/// A byte-level file with five merges and whatever `change` does to it.
template <class F>
std::string small_file(F&& change) {
  json vocabulary = json::object();
  const auto& alphabet = detail::byte_alphabet::get();
  for (int b = 0; b < 256; ++b)
    vocabulary[alphabet.spelled(std::string(1, static_cast<char>(b)))] = b;
  int next = 256;
  for (const char* token : {"he", "ll", "hell", "hello", "\xc4\xa0hello"})
    vocabulary[token] = next++;
  json root = {{"added_tokens", json::array()},
               {"normalizer", nullptr},
               {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
               {"decoder", {{"type", "ByteLevel"}}},
               {"model",
                {{"type", "BPE"},
                 {"vocab", vocabulary},
                 {"merges", {"h e", "l l", "he ll", "hell o", "\xc4\xa0 hello"}}}}};
  change(root);
  return root.dump();
}
inline tokenizer small() {
  return tokenizer::parse(small_file([](json&) {}), "small");
}
inline json added(const char* content, int id) {
  return {{"content", content}, {"id", id}, {"normalized", false}, {"special", false}};
}

}  // namespace mlmamba::test
