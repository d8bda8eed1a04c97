// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The exceptions of the library, and the one way to throw them.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

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

/// Throws `Error` with the concatenated text of `parts`.
template <class Error = error, class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw Error(text.str());
}

}  // namespace mlmamba
