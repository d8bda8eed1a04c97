// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What programs have in common: numbers as options, and an end that says when output got lost.
#pragma once

#include <charconv>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <string>

#include "mlmamba/core/error.hpp"

namespace mlmamba::examples {

constexpr int most = 1'000'000'000;  ///< of what is counted

/// What is wrong with a seed, as CLI11's check has it. CLI11 itself makes a number of -1 and of
/// what is too large.
inline std::string seed_problem(const std::string& given) {
  std::uint64_t number = 0;
  const char* const end = given.data() + given.size();
  const auto [rest, code] = std::from_chars(given.data(), end, number);
  if (code == std::errc() && rest == end) return "";
  return "\"" + given + "\"; a whole number from 0 to 18446744073709551615 is wanted";
}

/// `code`, the program's exit code, once all of its output is written. Errors: error if some is
/// not.
inline int written(int code = 0) {
  std::cout.flush();
  if (!std::cout || std::fflush(stdout) != 0 || std::ferror(stdout))
    fail<error>("standard output can't be written (is the disk full?)");
  return code;
}

}  // namespace mlmamba::examples
