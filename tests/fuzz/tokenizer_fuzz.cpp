// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fuzz target: any bytes as a tokenizer.json; what is accepted encodes and decodes texts.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "mlmamba/text/stream_decoder.hpp"
#include "mlmamba/text/tokenizer.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mlmamba;
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  try {
    const tokenizer words = tokenizer::parse(file, "fuzz");
    // The file itself is a text too: it has the added tokens in it.
    for (const std::string_view text :
         {std::string_view("hello  they're 12 \xc3\xa9\xe6\x97\xa5 <x>\n"), file}) {
      try {
        const auto ids = words.encode(text);
        stream_decoder stream(words, false);
        std::string pieces;
        for (const auto id : ids) pieces += stream.push(id);
        if (pieces + stream.finish() != words.decode(ids, false)) std::abort();
      } catch (const error&) {  // a byte that the vocabulary lacks
      }
    }
    for (std::int32_t id = 0; id < words.size(); ++id)
      if (words.contains(id) && words.find(words.token(id)) != id) std::abort();
  } catch (const io_error&) {
  }
  return 0;
}
