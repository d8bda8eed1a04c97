// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A server whose answers are the bytes of a fuzz target, one after the other.
//
// An answer is  status LF header LF ... LF LF length-byte body;  status is a number.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>

#include "mlmamba/io/http.hpp"

namespace mlmamba {

class scripted_client : public http_client {
 public:
  explicit scripted_client(std::string_view script) : script_(script) {}
  http_response send(const http_request& request, const http_body& body) override {
    if (request.to.origin() != "https://hub.test:443")
      for (const std::string& h : request.headers)
        if (h.starts_with("Authorization")) std::abort();  // the token went elsewhere
    if (script_.empty() || ++requests_ > 50)
      throw http_error(http_error::reason::no_connection, "the script ends");
    http_response r;
    r.status = std::atoi(std::string(line()).c_str());
    for (std::string_view h; !(h = line()).empty();) {
      const auto colon = h.find(": ");
      if (colon != std::string_view::npos)
        r.headers[std::string(h.substr(0, colon))] = h.substr(colon + 2);
    }
    if (script_.empty()) throw http_error(http_error::reason::broken_off, "cut");
    const std::size_t n =
        std::min<std::size_t>(static_cast<unsigned char>(script_[0]), script_.size() - 1);
    const std::string_view bytes = script_.substr(1, n);
    script_.remove_prefix(1 + n);
    if (!request.head && n > 0 && (r.status == 200 || r.status == 206))
      body(r, std::as_bytes(std::span(bytes)));
    return r;
  }

 private:
  std::string_view line() {
    const auto end = std::min(script_.find('\n'), script_.size());
    const std::string_view l = script_.substr(0, end);
    script_.remove_prefix(std::min(end + 1, script_.size()));
    return l;
  }
  std::string_view script_;
  int requests_ = 0;
};

}  // namespace mlmamba
