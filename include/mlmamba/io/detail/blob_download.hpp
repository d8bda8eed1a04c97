// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The bytes of a file on the hub: room on the disk, progress, going on where they broke off.
#pragma once

#include <sys/statvfs.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/io/detail/hub_request.hpp"
#include "mlmamba/io/detail/partial_file.hpp"
#include "mlmamba/io/progress.hpp"

namespace mlmamba::detail {

/// "1.2 GB", "340 MB", "12 kB".
inline std::string bytes_text(double bytes) {
  char text[40];
  if (bytes >= 1e9) {
    std::snprintf(text, sizeof text, "%.1f GB", bytes / 1e9);
  } else if (bytes >= 1e6) {
    std::snprintf(text, sizeof text, "%.0f MB", bytes / 1e6);
  } else {
    std::snprintf(text, sizeof text, "%.0f kB", bytes / 1e3);
  }
  return text;
}

/// Whether a 206 answer goes on at `at` of `size` bytes: "bytes AT-LAST/SIZE".
inline bool goes_on(std::string_view range, std::uint64_t at, std::uint64_t size) {
  const std::string begin = "bytes " + std::to_string(at) + "-", end = "/" + std::to_string(size);
  return range.starts_with(begin) && range.ends_with(end);
}

/// Fetches the blob `to`, which is called `aside` (TO.incomplete) until it is whole.
inline void download(http_client& client, const hub_source& source, const hub_metadata& meta,
                     const std::filesystem::path& to, std::FILE* shown,
                     std::filesystem::path aside = {}) {
  if (aside.empty()) (aside = to) += ".incomplete";
  partial_file part(aside, source, meta);
  struct statvfs disk {};
  const std::uint64_t missing = meta.size - part.size();
  if (::statvfs(to.parent_path().c_str(), &disk) == 0 &&
      missing / std::max<std::uint64_t>(disk.f_frsize, 1) > disk.f_bavail)
    fail<io_error>(source.who, ": ", bytes_text(double(missing)), " are wanted in ",
                   to.parent_path().string(), "; the disk has ",
                   bytes_text(double(disk.f_bavail) * double(disk.f_frsize)), " left");
  std::optional<progress> bar;
  if (shown != nullptr && missing >= 1'000'000)
    bar.emplace(source.who, static_cast<index_t>(meta.size), static_cast<index_t>(part.size()),
                std::max<index_t>(static_cast<index_t>(meta.size / 20), 50'000'000), shown,
                progress_unit{1'000'000, "MB"});
  const auto begin = [&](const http_response& r) {
    if (r.status == 206) {
      if (!goes_on(r.header("content-range"), part.size(), meta.size))
        part.discard(" goes on at \"", printable(r.header("content-range")), "\" where byte ",
                     part.size(), " of ", meta.size, " was asked for");
      return;
    }
    part.restart();  // the server knows no ranges, or the whole was asked for
    if (const auto n = r.number("content-length"); n && std::cmp_not_equal(*n, meta.size))
      part.discard(" has ", *n, " bytes; ", meta.size, " were announced");
  };
  const auto once = [&]() -> http_response {
    if (part.size() == meta.size) return {200, {}};
    bool first = true;
    const std::uint64_t from = part.size();
    std::vector<std::string> headers;
    if (from > 0) headers.push_back("Range: bytes=" + std::to_string(from) + "-");
    http_response r = follow(
        client, source, false, headers, [](const auto&...) { return false; },
        [&](const http_response& head, std::span<const std::byte> bytes) {
          if (std::exchange(first, false)) begin(head);
          part.append(bytes);
          if (bar) (*bar)(static_cast<index_t>(part.size()), "");
        });
    if (r.status == 416) part.restart();  // what is there is not the beginning of this file
    if ((r.status == 200 || r.status == 206) && part.size() < meta.size) {
      if (first) begin(r);
      throw http_error(http_error::reason::broken_off, "the connection was closed");
    }
    return r;
  };
  try {
    with_retries(source, true, once, [&] { return part.size(); });
  } catch (const http_error& e) {
    if (bar) bar->end_line();
    fail<io_error>(source.who, ": broke off after ", part.size(), " of ", meta.size, " bytes (",
                   e.what(), "); what has come is kept, the same command goes on from there");
  }
  part.finish(to);
}

}  // namespace mlmamba::detail
