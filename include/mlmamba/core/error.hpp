// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The exceptions of the library, and the one way to throw them.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdio>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>

namespace mlmamba {

/// Base of everything the library throws. Message grammar: "who: what was given; what is wanted".
struct error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct shape_error : error {  ///< sizes, strides or missing operands of an op or module
  using error::error;
};
struct io_error
    : error {  ///< files: missing, truncated, corrupt, of another format, or not writable
  using error::error;
};
struct device_error : error {  ///< accelerators: none there, out of memory, a failed launch
  using error::error;
};

namespace detail {
/// A string, a character or a number of a message.
class message_part {
 public:
  message_part(std::string_view text) : text_(text) {}
  message_part(const std::string& text) : text_(text) {}
  message_part(const char* text) : text_(text) {}
  message_part(char c) : signed_(c), type_(type::character) {}
  message_part(std::signed_integral auto i) : signed_(i), type_(type::whole) {}
  message_part(std::unsigned_integral auto i) : unsigned_(i), type_(type::natural) {}
  message_part(double x) : real_(x), type_(type::real) {}

  std::string text() const {
    if (type_ == type::character) return std::string(1, char(signed_));
    if (type_ == type::whole) return std::to_string(signed_);
    if (type_ == type::natural) return std::to_string(unsigned_);
    if (type_ == type::real) {
      char digits[32];
      return std::string(digits, std::size_t(std::snprintf(digits, sizeof digits, "%g", real_)));
    }
    return std::string(text_);
  }

 private:
  enum class type : char { text, character, whole, natural, real };
  union {
    std::string_view text_;
    long long signed_;
    unsigned long long unsigned_;
    double real_;
  };
  type type_ = type::text;
};

inline std::string message(std::initializer_list<message_part> parts) {
  std::string text;
  for (const message_part& part : parts) text += part.text();
  return text;
}
}  // namespace detail

/// Throws `Error` with the concatenated text of `parts`: strings, characters and numbers. (Not a
/// stream: nearly every function fails somehow, and each would be compiled with one.)
template <class Error = error, class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw Error(detail::message({parts...}));
}

}  // namespace mlmamba
