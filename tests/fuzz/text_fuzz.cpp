// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fuzz target: any bytes as text; it must come back as its own normal form, streamed or not.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "mlmamba/text/bpe_trainer.hpp"
#include "mlmamba/text/prompt.hpp"
#include "mlmamba/text/stream_decoder.hpp"
#include "mlmamba/text/tokenizer.hpp"

namespace {

mlmamba::tokenizer make_tokenizer() {
  mlmamba::bpe_trainer trainer({.vocabulary = 400, .least_count = 1});
  trainer.add(
      "the state of the model is what it has seen: they're 1234 caf\xc3\xa9s   and "
      "\xe6\x97\xa5\xe6\x9c\xac");
  return mlmamba::tokenizer::parse(trainer.train(), "fuzz");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mlmamba;
  static const tokenizer words = make_tokenizer();
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  std::string valid;
  detail::append_utf8(text, valid, false);
  const auto ids = words.encode(text);
  const std::string back = words.decode(ids, false);
  // Special tokens cut the text before it is normalised; without them the form is that of the
  // whole.
  if (valid.find("<|") == std::string::npos && back != detail::nfc(valid)) std::abort();
  stream_decoder stream(words, false);
  std::string pieces;
  for (const auto id : ids) pieces += stream.push(id);
  if (pieces + stream.finish() != back) std::abort();
  std::size_t at = 0;
  while (at < valid.size()) {
    const std::size_t end = detail::word_end(valid, at);
    if (end <= at || end > valid.size()) std::abort();
    at = end;
  }
  prompt_builder prompt(static_cast<chat_format>(size % 3));
  (void)prompt.add_turn(chat_role::human, text);
  (void)prompt.add_turn(chat_role::gpt, text);
  (void)prompt.prompt();
  return 0;
}
