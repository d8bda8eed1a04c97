// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Files of any web server to a path of one's own: continued where they broke off, checked.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "mlmamba/core/sha.hpp"
#include "mlmamba/io/detail/blob_download.hpp"
#include "mlmamba/io/hub.hpp"

namespace mlmamba {

struct fetch_options {
  std::string mirror;  ///< "": none; else every address is asked for at MIRROR/HOST/PATH
  std::string hub = "https://huggingface.co";  ///< in place of this address
  std::string token;                           ///< for the hub alone
  bool offline = false;                        ///< fetch nothing
  std::FILE* progress = nullptr;
  int retries = 4;
  std::chrono::milliseconds pause{1000};
};

namespace detail {

/// What a server says of a file: as the hub, or by its length and whatever names its version.
struct remote_file {
  hub_metadata meta;    // hash: "" where the server knows none
  std::string version;  // 16 hexadecimal digits: another file, other digits
};

/// Errors    io_error
inline remote_file ask_server(http_client& client, const hub_source& source) {
  std::string hash, tag;
  std::optional<std::int64_t> size;
  const auto look = [&](const http_response& r, const url&) {
    const bool hub = !r.header("x-repo-commit").empty();
    if (hash.empty()) hash = r.header("x-linked-etag");
    if (!size) size = r.number("x-linked-size");
    if (r.status == 200) {
      if (!size) size = r.number("content-length");
      tag = r.header("etag").empty() ? r.header("last-modified") : r.header("etag");
      if (hash.empty() && hub) hash = r.header("etag");
    }
    // what is signed for GET, as the hub's redirects are, can't be asked with HEAD
    return r.redirect() && !hash.empty() && size.has_value();
  };
  try {
    with_retries(
        source, false,
        [&] {
          hash.clear(), tag.clear(), size.reset();
          http_response r =
              follow(client, source, true, {}, look, [](const http_response&, auto) {});
          if (r.redirect() && !hash.empty()) r.status = 200;
          if (r.status == 404 && r.header("x-error-code").empty())
            fail<hub_missing>(source.who, ": ", source.from.host, " does not have ",
                              source.from.target, " (404)");
          return r;
        },
        [] { return 0; });
  } catch (const http_error& e) {
    fail<io_error>(source.who, ": the answer of ", source.from.host, " broke off (", e.what(), ")");
  }
  std::erase(hash, '"');
  if (!is_hex(hash, 64) && !is_hex(hash, 40)) hash.clear();
  if (!size || *size > std::int64_t{1} << 50)
    fail<io_error>(source.who, ": ", source.from.host, " does not say how large it is");
  sha256 version;
  version.update(hash + '\n' + tag + '\n' + std::to_string(*size));
  return {{"", hash, static_cast<std::uint64_t>(*size)}, version.hex().substr(0, 16)};
}

}  // namespace detail

/// Fetches files.
///
///   fetcher fetch(options);
///   fetch("https://host/a.zip", "folder/a.zip");
///
/// Until it is whole a file is called PATH.VERSION.incomplete, so that the beginning of one is not
/// continued with the end of another. Its size is checked always, its hash where the server is a
/// hub; elsewhere an archive's own checksums must do.
///
/// Errors    io_error in one line: no network, not there, disk full, broken off, wrong size or hash
class fetcher {
 public:
  explicit fetcher(fetch_options options,
                   std::unique_ptr<http_client> client = default_http_client())
      : options_(std::move(options)), client_(std::move(client)) {
    for (std::string* base : {&options_.mirror, &options_.hub}) {
      while (base->ends_with('/')) base->pop_back();
      if (!base->empty()) (void)parse_url(*base);
    }
  }

  const fetch_options& options() const { return options_; }

  /// Where an address is really asked for.
  url address(std::string_view wanted) const {
    const url u = parse_url(wanted);
    if (!options_.mirror.empty()) return parse_url(options_.mirror + "/" + u.host + u.target);
    if (on_hub(u)) return parse_url(options_.hub + u.target);
    return u;
  }

  void operator()(std::string_view from, const std::filesystem::path& to) const {
    const std::string who = to.filename().string();
    if (options_.offline)
      fail<io_error>(to.string(), ": not there, and nothing is to be fetched (--offline or ",
                     "HF_HUB_OFFLINE); put the file of ", from, " there");
    if (!client_)
      fail<io_error>(to.string(), ": not there, and this program was built without libcurl; put ",
                     "the file of ", from, " there, or build with libcurl4-openssl-dev");
    const bool hub = options_.mirror.empty() && on_hub(parse_url(from));
    const detail::hub_source source{who,
                                    address(from),
                                    hub ? options_.token : "",
                                    options_.retries,
                                    options_.pause,
                                    "files that are put there are used"};
    const detail::remote_file file = detail::ask_server(*client_, source);
    std::filesystem::path aside = to;
    aside += "." + file.version + ".incomplete";
    forget(to, aside);
    detail::download(*client_, source, file.meta, to, options_.progress, aside);
  }

  /// Removes beginnings of `to`, of whichever version, but for one of them.
  static void forget(const std::filesystem::path& to, const std::filesystem::path& but = {}) {
    std::error_code code;
    const std::string head = to.filename().string() + ".", tail = ".incomplete";
    for (const auto& e : std::filesystem::directory_iterator(to.parent_path(), code)) {
      const std::string name = e.path().filename().string();
      if (name.size() == head.size() + 16 + tail.size() && name.starts_with(head) &&
          name.ends_with(tail) && e.path() != but)
        std::filesystem::remove(e.path(), code);
    }
  }

 private:
  static bool on_hub(const url& u) { return u.host == "huggingface.co"; }
  fetch_options options_;
  std::unique_ptr<http_client> client_;
};

}  // namespace mlmamba
