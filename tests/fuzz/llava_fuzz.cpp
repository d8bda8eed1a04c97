// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fuzz target: any bytes as a LLaVA file. Cut into records it is what the JSON parser sees in it.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "mlmamba/train/llava.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mlmamba;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  json cut = json::array();
  bool accepted = true;
  try {
    train::detail::for_each_record(text, "fuzz", [&](std::uint64_t, std::string_view record) {
      cut.push_back(parse_json(record, "fuzz"));
    });
  } catch (const io_error&) {
    accepted = false;
  }
  for (const json& record : cut) {
    try {
      (void)train::count_words(train::read_turns(record, "fuzz"));
      (void)train::checked_picture(record, "fuzz");
    } catch (const io_error&) {
    }
  }
  if (!accepted) return 0;
  try {
    if (parse_json(text, "fuzz", 65) != cut) std::abort();
  } catch (const io_error&) {
    std::abort();  // white space that JSON has not, for one
  }
  return 0;
}
