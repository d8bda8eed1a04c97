// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fuzz target: any bytes as JSON; every member of what is accepted is asked for as every type.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "mlmamba/io/json.hpp"

namespace {

template <class T>
void ask(const mlmamba::json& object, const std::string& key) {
  try {
    (void)mlmamba::json_get<T>(object, key, "fuzz");
    (void)mlmamba::json_get_or<T>(object, key, T{}, "fuzz");
  } catch (const mlmamba::io_error&) {
  }
}

void visit(const mlmamba::json& value) {
  if (value.is_object()) {
    for (const auto& [key, member] : value.items()) {
      ask<bool>(value, key);
      ask<std::int8_t>(value, key);
      ask<std::uint64_t>(value, key);
      ask<std::int64_t>(value, key);
      ask<float>(value, key);
      ask<std::string>(value, key);
      ask<std::vector<int>>(value, key);
      ask<std::vector<std::vector<double>>>(value, key);
    }
  }
  if (value.is_structured())
    for (const auto& member : value) visit(member);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    visit(mlmamba::parse_json({reinterpret_cast<const char*>(data), size}, "fuzz", 20));
  } catch (const mlmamba::io_error&) {
  }
  return 0;
}
