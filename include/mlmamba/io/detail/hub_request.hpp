// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Asking the hub: redirects, retries, what its refusals mean, and what it says of a file.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "mlmamba/io/detail/printable.hpp"
#include "mlmamba/io/http.hpp"
#include "mlmamba/io/hub_cache.hpp"

namespace mlmamba {

/// A file or repository that the hub does not have.
struct hub_missing : io_error {
  using io_error::io_error;
};

namespace detail {

struct hub_source {
  std::string who;  ///< organisation/name/file, for errors
  url from;
  std::string token;
  int retries = 0;
  std::chrono::milliseconds pause{0};
  std::string without_network = "HF_HUB_OFFLINE=1 uses the cache alone";  ///< what else there is

  /// Not in clear text over a network.
  bool sends_token() const { return !token.empty() && (from.scheme == "https" || from.loopback()); }
};

/// What the hub says of a file before it is fetched.
struct hub_metadata {
  std::string commit;      ///< 40 hexadecimal digits
  std::string hash;        ///< SHA-256 of the file (64 digits), SHA-1 of git's blob (40), or ""
  std::uint64_t size = 0;  ///< bytes
};

/// Says what an answer that is not the file means.
[[noreturn]] inline void refuse(const hub_source& source, const http_response& r) {
  const std::string host = source.from.host, &code = r.header("x-error-code");
  const std::string wanted =
      source.token.empty()
          ? "a token is wanted: in .hf_token, HF_TOKEN or ~/.cache/huggingface/token"
      : source.sends_token() ? "the token is not accepted, or has no right to this repository"
                             : "the token was not sent, because the address is not https";
  if (code == "GatedRepo")
    fail<io_error>(source.who, ": the repository is open to those who accepted its terms on ", host,
                   "; ", wanted);
  // Without a token the hub does not tell whether a repository is private or not there.
  if (code == "RepoNotFound" || (r.status == 404 && code.empty()))
    fail<hub_missing>(source.who, ": ", host, " has no such repository or file (", r.status, ")",
                      source.token.empty() ? "; if it is private, " + wanted : "");
  if (code == "EntryNotFound" || code == "RevisionNotFound")
    fail<hub_missing>(source.who, ": ", host, " has the repository, but not this ",
                      code == "EntryNotFound" ? "file" : "revision");
  if (r.status == 401 || r.status == 403)
    fail<io_error>(source.who, ": ", host, " denies access (", r.status, "); ", wanted);
  if (r.status == 404) fail<hub_missing>(source.who, ": ", host, " does not have it (404)");
  fail<io_error>(source.who, ": ", host, " answered ", r.status,
                 r.status == 429  ? " (too many requests); try again later"
                 : r.status > 499 ? " (trouble at its end); try again later"
                                  : "; 200 is wanted");
}

/// Where an answer redirects to.
inline url next_address(const hub_source& source, const url& at, const http_response& r) {
  url next;
  try {
    next = redirected(at, r.header("location"));
  } catch (const io_error& e) {
    fail<io_error>(source.who, ": ", at.host, " redirects to ", e.what());
  }
  if (at.scheme == "https" && next.scheme != "https")
    fail<io_error>(source.who, ": ", at.host, " redirects from https to http; not followed");
  return next;
}

/// Sends a request, and what it is redirected to. The token goes to the first address's host alone,
/// and not in clear text over a network.
template <class Stop>
http_response follow(http_client& client, const hub_source& source, bool head,
                     const std::vector<std::string>& headers, Stop&& stop, const http_body& body) {
  url at = source.from;
  const std::string home = at.origin();
  for (int hop = 0; hop <= 10; ++hop) {
    http_request request{at, head, headers};
    if (source.sends_token() && at.origin() == home)
      request.headers.push_back("Authorization: Bearer " + source.token);
    http_response response = client.send(request, body);
    if (stop(response, at) || !response.redirect()) return response;
    if (response.header("location").empty())
      fail<io_error>(source.who, ": ", at.host, " redirects to nowhere");
    at = next_address(source, at, response);
  }
  fail<io_error>(source.who, ": ", source.from.host, " redirects more than 10 times");
}

/// Runs `once` until it says that it is done; again after a broken connection or a busy server, as
/// often as `retries` says without `progress()` having grown. No connection at all is no reason to
/// wait unless `patient`.
///
/// Errors    io_error; http_error if the connection keeps breaking off
template <class Once, class Progress>
void with_retries(const hub_source& source, bool patient, Once&& once, Progress&& progress) {
  using reason = http_error::reason;
  int failures = 0;
  for (auto most = progress();;) {
    const auto give_up = [&] {  // called once after each failure
      const auto now = progress();
      failures = now > most ? 1 : failures + 1;
      most = std::max(most, now);
      return failures > source.retries;
    };
    try {
      const http_response r = once();
      if (r.status == 200 || r.status == 206) return;
      const bool busy = r.status >= 500 || r.status == 429 || r.status == 416;
      if (!busy || give_up()) refuse(source, r);
    } catch (const http_error& e) {
      if (e.why == reason::refused)
        fail<io_error>(source.who, ": ", source.from.host, " can't be talked to (", e.what(), ")");
      const bool last = give_up();
      if (e.why == reason::no_connection && (last || !patient))
        fail<io_error>(source.who, ": no connection to ", source.from.host, " (", e.what(),
                       "); is there a network? ", source.without_network);
      if (last) throw;
    }
    std::this_thread::sleep_for(source.pause * (1 << std::min(failures - 1, 5)));
  }
}

/// Asks for commit, hash and size. Errors: io_error; hub_missing
inline hub_metadata ask(http_client& client, const hub_source& source) {
  std::string commit, linked, etag;
  std::optional<std::int64_t> size;
  const std::string home = source.from.origin();
  const auto look = [&](const http_response& r, const url& at) {
    const auto take = [&](std::string& to, const char* name) {
      if (to.empty()) to = r.header(name);
    };
    take(commit, "x-repo-commit"), take(linked, "x-linked-etag");
    if (!size) size = r.number("x-linked-size");
    if (r.status == 200) {
      take(etag, "etag");
      if (!size && linked.empty()) size = r.number("content-length");
    }
    if (!r.redirect() || r.header("location").empty()) return false;
    if (!linked.empty() && size && !commit.empty()) return true;  // the bytes are elsewhere
    const url next = next_address(source, at, r);
    if (next.origin() != home)
      fail<io_error>(source.who, ": ", at.host, " redirects to ", next.host,
                     " without saying what ", "the file is; HF_ENDPOINT must be a hub");
    return false;
  };
  try {
    with_retries(
        source, false,
        [&] {
          commit.clear(), linked.clear(), etag.clear(), size.reset();
          http_response r =
              follow(client, source, true, {}, look, [](const http_response&, auto) {});
          if (r.redirect() && !linked.empty()) r.status = 200;
          return r;
        },
        [] { return 0; });
  } catch (const http_error& e) {
    fail<io_error>(source.who, ": the answer of ", source.from.host, " broke off (", e.what(), ")");
  }
  std::string hash = linked.empty() ? etag : linked;
  if (hash.starts_with("W/")) hash.erase(0, 2);
  if (hash.size() >= 2 && hash.front() == '"' && hash.back() == '"')
    hash = hash.substr(1, hash.size() - 2);
  if (!is_hex(commit, 40))
    fail<io_error>(source.who, ": ", source.from.host, " does not answer as Hugging Face's hub ",
                   "does: its X-Repo-Commit is \"", printable(commit), "\"");
  if (!is_hex(hash, 64) && !is_hex(hash, 40))
    fail<io_error>(source.who, ": ", source.from.host, " says ETag \"", printable(hash),
                   "\"; a SHA-256 or SHA-1 to check the file with is wanted");
  if (!size || *size > std::int64_t{1} << 50)
    fail<io_error>(source.who, ": ", source.from.host, " does not say how large it is");
  return {commit, hash, static_cast<std::uint64_t>(*size)};
}

}  // namespace detail
}  // namespace mlmamba
