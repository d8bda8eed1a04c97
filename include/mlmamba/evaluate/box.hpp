// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Boxes in a model's words, and how well two boxes agree.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

#include "mlmamba/core/error.hpp"

namespace mlmamba::evaluate {

/// x1, y1, x2, y2 as shares of the picture's width and height.
using box = std::array<double, 4>;

namespace detail {

/// Reads what Python's literals allow of a list of numbers.
class list_reader {
 public:
  explicit list_reader(std::string_view text) : rest_(text) {}

  std::optional<box> read() {
    box out{};
    if (!take('[')) return std::nullopt;
    for (std::size_t i = 0; i < 4; ++i) {
      if (i > 0 && !take(',')) return std::nullopt;
      const auto x = number();
      if (!x) return std::nullopt;
      out[i] = *x;
    }
    take(',');
    if (!take(']')) return std::nullopt;
    blanks();
    if (!rest_.empty()) return std::nullopt;
    return out;
  }

 private:
  void blanks() {
    while (!rest_.empty() && std::string_view(" \t\n\r\f").find(rest_[0]) != rest_.npos)
      rest_.remove_prefix(1);
  }
  bool take(char c) {
    blanks();
    if (rest_.empty() || rest_[0] != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool take_word(std::string_view word) {
    blanks();
    if (!rest_.starts_with(word)) return false;
    rest_.remove_prefix(word.size());
    return true;
  }
  /// Digits, single underscores between them.
  std::string digits() {
    std::string out;
    const auto is_digit = [&](std::size_t i) {
      return i < rest_.size() && rest_[i] >= '0' && rest_[i] <= '9';
    };
    while (is_digit(0) || (!out.empty() && !rest_.empty() && rest_[0] == '_' && is_digit(1))) {
      if (rest_[0] != '_') out += rest_[0];
      rest_.remove_prefix(1);
    }
    return out;
  }
  std::optional<double> number() {
    if (take_word("True")) return 1;
    if (take_word("False")) return 0;
    const bool minus = take('-');
    if (!minus) take('+');
    blanks();
    const std::string whole = digits();
    std::string text = whole;
    bool is_float = false;
    if (!rest_.empty() && rest_[0] == '.') {
      rest_.remove_prefix(1);
      const std::string part = digits();
      if (whole.empty() && part.empty()) return std::nullopt;
      text += "." + part;
      is_float = true;
    }
    if (text.empty()) return std::nullopt;
    if (!rest_.empty() && (rest_[0] == 'e' || rest_[0] == 'E')) {
      rest_.remove_prefix(1);
      text += 'e';
      if (!rest_.empty() && (rest_[0] == '+' || rest_[0] == '-'))
        text += rest_[0], rest_.remove_prefix(1);
      const std::string power = digits();
      if (power.empty()) return std::nullopt;
      text += power;
      is_float = true;
    }
    // 01 is no number in Python, 00 and 01.5 are.
    if (!is_float && whole[0] == '0' && whole.find_first_not_of('0') != whole.npos)
      return std::nullopt;
    const double x = std::strtod(text.c_str(), nullptr);
    return minus ? -x : x;
  }

  std::string_view rest_;
};

}  // namespace detail

/// The box that a text is: a Python list of exactly four numbers in [0, 1] with x1 < x2 and
/// y1 < y2, and nothing else. Decimal numbers, True and False are read; hexadecimal ones, brackets
/// around a number and comments, which Python would read too, are not.
inline std::optional<box> parse_box(std::string_view text) {
  const auto b = detail::list_reader(text).read();
  if (!b) return std::nullopt;
  for (const double x : *b)
    if (!(x >= 0 && x <= 1)) return std::nullopt;
  if (!((*b)[0] < (*b)[2] && (*b)[1] < (*b)[3])) return std::nullopt;
  return b;
}

/// Area of the intersection by that of the union; 0 for two boxes without area.
inline double intersection_over_union(const box& a, const box& b) {
  const auto area = [](const box& x) { return (x[2] - x[0]) * (x[3] - x[1]); };
  const double wide = std::max(0.0, std::min(a[2], b[2]) - std::max(a[0], b[0]));
  const double high = std::max(0.0, std::min(a[3], b[3]) - std::max(a[1], b[1]));
  const double all = area(a) + area(b) - wide * high;
  return all > 0 ? wide * high / all : 0;
}

/// A box in pixels as shares, rounded to two decimals as Python's round does.
///
/// Errors    io_error if it is no box inside a picture of this size
inline box normalised_box(const box& pixels, double width, double height, std::string_view who) {
  if (!(pixels[0] >= 0 && pixels[0] < pixels[2] && pixels[2] <= width && pixels[1] >= 0 &&
        pixels[1] < pixels[3] && pixels[3] <= height))
    fail<io_error>(who, ": box ", pixels[0], ", ", pixels[1], " to ", pixels[2], ", ", pixels[3],
                   "; one inside a picture of ", width, " x ", height, " is wanted");
  box out{};
  for (std::size_t i = 0; i < 4; ++i) {
    char text[32];
    std::snprintf(text, sizeof text, "%.2f", pixels[i] / (i % 2 == 0 ? width : height));
    out[i] = std::strtod(text, nullptr);
  }
  return out;
}

}  // namespace mlmamba::evaluate
