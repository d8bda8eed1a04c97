// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Text to the ids of its tokens, and back.
//
//   printf 'Hello world' | tokenize --tokenizer examples/garment_model
//   echo 12092 1533 | tokenize --tokenizer gpt-neox-20b/tokenizer.json --decode
#include <CLI/CLI.hpp>

#include <charconv>
#include <iostream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "mlmamba/text/tokenizer.hpp"
#include "program.hpp"

using namespace mlmamba;

namespace {

/// Ids in decimal, with anything blank between them.
std::vector<std::int32_t> ids_of(std::string_view text) {
  constexpr std::string_view blank = " \t\r\n\v\f";
  std::vector<std::int32_t> ids;
  for (std::size_t at = text.find_first_not_of(blank); at != text.npos;) {
    const std::size_t end = std::min(text.find_first_of(blank, at), text.size());
    const std::string_view word = text.substr(at, end - at);
    std::int32_t id = 0;
    const auto [rest, failure] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (failure != std::errc() || rest != word.data() + word.size())
      fail<error>("\"", word.substr(0, 40), "\" is not an id; numbers are wanted");
    ids.push_back(id);
    at = text.find_first_not_of(blank, end);
  }
  return ids;
}

}  // namespace

int main(int argc, char** argv) {
  std::string file;
  bool decode = false;
  CLI::App app{
      "Reads text on standard input, as it is, and prints the ids of its tokens on one line.\n"
      "Text that is not UTF-8 has each wrong part replaced by U+FFFD. Nothing is added at either\n"
      "end. Exit code: 0 done, 2 bad option or input."};
  app.add_option("--tokenizer", file, "tokenizer.json, or a folder with one")->required();
  app.add_flag("--decode", decode,
               "The reverse: ids on standard input, the bytes of their tokens as they are");
  if (const auto code = examples::parse(app, argc, argv)) return *code;
  try {
    const tokenizer words = tokenizer::open(file);
    const std::string text{std::istreambuf_iterator<char>(std::cin), {}};
    std::string out;
    if (decode) {
      for (const std::int32_t id : ids_of(text)) out += words.token_bytes(id);
    } else {
      for (const std::int32_t id : words.encode(text)) {
        if (!out.empty()) out += ' ';
        out += std::to_string(id);
      }
      out += '\n';
    }
    std::cout.write(out.data(), std::streamsize(out.size()));
    return examples::written();
  } catch (const std::exception& e) {
    std::cerr << "tokenize: " << e.what() << '\n';
    return 2;
  }
}
