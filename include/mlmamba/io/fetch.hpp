// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A small file from an http or https address, into memory.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mlmamba/io/detail/hub_request.hpp"
#include "mlmamba/io/http.hpp"

namespace mlmamba {

/// Is it an address rather than the name of a file? (Of any scheme: fetch says which it can.)
inline bool is_address(std::string_view text) {
  const auto colon = text.find("://");
  return colon != text.npos && colon > 0 && text.find('/') > colon;
}

/// What is at an address. Up to 10 redirects are followed, but none from https to http; no token
/// is sent, and nothing is tried twice.
///
/// Errors    io_error with the address: no connection, another status than 200, more than
///           `most_bytes`, an answer that breaks off
inline std::vector<std::byte> fetch(http_client& client, const std::string& address,
                                    std::size_t most_bytes) {
  detail::hub_source source;
  source.who = address.substr(0, address.find('?'));  // what follows may be secret
  source.from = parse_url(address);
  std::vector<std::byte> bytes;
  const auto too_large = [&] {
    fail<io_error>(source.who, ": more than ", most_bytes, " bytes; that many at the most");
  };
  const http_body take = [&](const http_response& r, std::span<const std::byte> piece) {
    if (r.status != 200) return;
    if (r.number("content-length").value_or(0) > std::int64_t(most_bytes) ||
        piece.size() > most_bytes - bytes.size())
      too_large();
    bytes.insert(bytes.end(), piece.begin(), piece.end());
  };
  try {
    const auto on = [](const http_response&, const url&) { return false; };
    const http_response r = detail::follow(client, source, false, {}, on, take);
    if (r.status != 200)
      fail<io_error>(source.who, ": ", source.from.host, " answered ", r.status, "; 200 is wanted");
    const auto said = r.number("content-length");
    if (said && *said != std::int64_t(bytes.size()))
      fail<io_error>(source.who, ": ", bytes.size(), " bytes came of ", *said);
  } catch (const http_error& e) {
    fail<io_error>(source.who,
                   e.why == http_error::reason::no_connection ? ": no connection ("
                   : e.why == http_error::reason::broken_off  ? ": the answer broke off ("
                                                              : ": it can't be fetched (",
                   e.what(), ")");
  }
  return bytes;
}

}  // namespace mlmamba
