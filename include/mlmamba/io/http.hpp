// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What is needed of HTTP: addresses, a request, a response, and who sends one for the other.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mlmamba/core/error.hpp"

namespace mlmamba {

/// A request that got no whole answer.
struct http_error : io_error {
  enum class reason {
    no_connection,  ///< nothing was answered
    broken_off,     ///< the answer ended before its end; asking again may help
    refused,        ///< asking again is no use: a wrong certificate, nonsense instead of HTTP
  };
  reason why;
  http_error(reason r, const std::string& text) : io_error(text), why(r) {}
};

/// An http or https address.
struct url {
  std::string scheme, host, port, target;  // target: "/path?query"

  /// Scheme, host and port: who is talked to. A token belongs to one of these.
  std::string origin() const { return scheme + "://" + host + ":" + port; }
  std::string text() const { return origin() + target; }
  bool loopback() const { return host == "127.0.0.1" || host == "localhost" || host == "[::1]"; }
};

/// Errors: io_error for anything but http:// or https://, a host, and printable ASCII
inline url parse_url(std::string_view text) {
  const auto wrong = [&](const char* what) {
    std::string shown(text.substr(0, std::min<std::size_t>(text.find('?'), 100)));
    for (char& c : shown)
      if (c < 0x20 || c > 0x7e) c = '?';
    fail<io_error>("address \"", shown, "\": ", what);
  };
  for (char c : text)
    if (c <= 0x20 || c > 0x7e || c == '\\' || c == '"')
      wrong("it has a space or a sign that belongs in no address");
  url u;
  const auto colon = text.find("://");
  if (colon == std::string_view::npos) wrong("an address such as https://host is wanted");
  u.scheme = text.substr(0, colon);
  std::transform(u.scheme.begin(), u.scheme.end(), u.scheme.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  if (u.scheme != "http" && u.scheme != "https") wrong("http or https is wanted");
  text.remove_prefix(colon + 3);
  const auto slash = std::min(text.find_first_of("/?#"), text.size());
  std::string_view host = text.substr(0, slash);
  u.target = text.substr(slash, text.find('#') - slash);
  if (u.target.empty() || u.target[0] != '/') u.target.insert(0, "/");
  if (host.find('@') != std::string_view::npos) wrong("a user in an address is not supported");
  u.port = u.scheme == "https" ? "443" : "80";
  if (const auto at = host.rfind(':');
      at != std::string_view::npos && host.find(']', at) == std::string_view::npos) {
    u.port = host.substr(at + 1);
    host = host.substr(0, at);
    if (u.port.empty() || u.port.size() > 5 ||
        u.port.find_first_not_of("0123456789") != std::string::npos)
      wrong("the port is not a number");
  }
  u.host = host;
  std::transform(u.host.begin(), u.host.end(), u.host.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  if (u.host.empty() ||
      u.host.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789.-_[]:") != std::string::npos)
    wrong("the host is not a name");
  return u;
}

/// Where a response at `from` with this Location leads.
inline url redirected(const url& from, std::string_view location) {
  if (location.find("://") != std::string_view::npos && location.find("://") < location.find('?'))
    return parse_url(location);
  if (location.starts_with("//")) return parse_url(from.scheme + ":" + std::string(location));
  if (location.starts_with("/")) return parse_url(from.origin() + std::string(location));
  const std::string path = from.target.substr(0, from.target.find('?'));
  return parse_url(from.origin() + path.substr(0, path.rfind('/') + 1) + std::string(location));
}

/// As it may stand in a path: all but letters, digits, "-._~" and, if wanted, "/" become %XX.
inline std::string percent_encoded(std::string_view text, bool keep_slash) {
  std::string out;
  for (char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("-._~").find(c) != std::string_view::npos ||
                       (keep_slash && c == '/');
    if (plain) {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += '%';
      out += "0123456789ABCDEF"[byte >> 4];
      out += "0123456789ABCDEF"[byte & 15];
    }
  }
  return out;
}

struct http_request {
  url to;
  bool head = false;                 ///< only the headers are wanted
  std::vector<std::string> headers;  ///< "Name: value"
};

struct http_response {
  int status = 0;
  std::map<std::string, std::string, std::less<>> headers;  ///< by name in lower case

  bool redirect() const {
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
  }
  /// The value of a header, "" if it is not there.
  const std::string& header(std::string_view name) const {
    static const std::string none;
    const auto at = headers.find(name);
    return at == headers.end() ? none : at->second;
  }
  /// A header that is a count of bytes.
  std::optional<std::int64_t> number(std::string_view name) const {
    const std::string& text = header(name);
    std::int64_t n = -1;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), n);
    if (code != std::errc() || end != text.data() + text.size() || n < 0) return std::nullopt;
    return n;
  }
};

/// Takes the body of a response with status 200 or 206, piece by piece; what it throws ends the
/// transfer. Other bodies are of no interest.
using http_body = std::function<void(const http_response&, std::span<const std::byte>)>;

/// Sends requests. It follows no redirects: who asks decides what may go where.
class http_client {
 public:
  virtual ~http_client() = default;
  /// Errors: http_error; what `body` throws
  virtual http_response send(const http_request& request, const http_body& body) = 0;
};

}  // namespace mlmamba
