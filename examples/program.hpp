// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What programs have in common: options that mean something, and an end that says when output got
// lost.
#pragma once

#include <CLI/CLI.hpp>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <initializer_list>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

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

/// The same of a folder that is looked into.
inline std::string folder_problem(const std::string& given) {
  std::error_code none;
  if (std::filesystem::is_directory(given, none)) return "";
  return "\"" + given + "\" is no folder; one that is there is wanted";
}

/// Reads the options. An empty value is none, though CLI11 makes 0 of it, but where empty text has
/// a meaning (`may_be_empty`). The exit code, if the program ends with that.
inline std::optional<int> parse(CLI::App& app, int argc, char** argv,
                                std::initializer_list<std::string_view> may_be_empty = {}) {
  try {
    app.parse(argc, argv);
    for (const CLI::Option* o : app.get_options()) {
      const std::vector<std::string>& given = o->results();
      const std::string name = o->get_name();
      if (o->nonpositional() && std::find(given.begin(), given.end(), "") != given.end() &&
          std::find(may_be_empty.begin(), may_be_empty.end(), name) == may_be_empty.end())
        throw CLI::ValidationError(name + " is empty; a value is wanted");
    }
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  return std::nullopt;
}

/// Errors    error if one of the options `names` is given: `why` it has no effect, and what is
///           wanted
inline void no_use_of(const CLI::App& app, std::initializer_list<const char*> names,
                      const std::string& why) {
  for (const char* name : names) {
    const CLI::Option* const o = app.get_option_no_throw(name);
    if (o != nullptr && o->count() > 0) fail<error>(name, " has no effect ", why);
  }
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
