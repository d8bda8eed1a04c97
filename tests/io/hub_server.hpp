// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A small HTTP server on loopback that plays the hub, honest or not.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "mlmamba/core/sha.hpp"

namespace mlmamba::test {

struct server_request {
  std::string method, target;
  std::map<std::string, std::string> headers;  // by lower-case name

  std::string header(const std::string& name) const {
    const auto at = headers.find(name);
    return at == headers.end() ? "" : at->second;
  }
};

struct server_reply {
  int status = 200;
  std::vector<std::string> headers = {};
  std::string body = "";
  std::size_t cut = std::string::npos;  // bytes of the body after which the connection is closed
  bool length = true;                   // Content-Length of the body
  int pause = 0;                        // milliseconds after each 4 KiB
  std::string raw = "";                 // instead of all that
};

/// Answers one connection after the other in a thread of its own, and remembers what was asked.
class http_server {
 public:
  using handler = std::function<server_reply(const server_request&)>;

  explicit http_server(handler h) : handler_(std::move(h)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof a;
    if (listener_ < 0 || ::bind(listener_, reinterpret_cast<sockaddr*>(&a), sizeof a) != 0 ||
        ::listen(listener_, 16) != 0 ||
        ::getsockname(listener_, reinterpret_cast<sockaddr*>(&a), &size) != 0)
      throw std::runtime_error("http_server: no port on loopback");
    port_ = ntohs(a.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  http_server(const http_server&) = delete;
  http_server& operator=(const http_server&) = delete;
  ~http_server() {
    done_ = true;
    thread_.join();
    ::close(listener_);
  }

  std::string address(const std::string& host = "127.0.0.1") const {
    return "http://" + host + ":" + std::to_string(port_);
  }
  std::vector<server_request> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }
  std::size_t count(const std::string& method) const {
    std::size_t n = 0;
    for (const auto& r : requests()) n += r.method == method;
    return n;
  }

 private:
  void serve() {
    while (!done_) {
      pollfd wait{listener_, POLLIN, 0};
      if (::poll(&wait, 1, 20) <= 0) continue;
      const int c = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (c < 0) continue;
      const timeval limit{5, 0};
      ::setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
      std::string text;
      char part[4096];
      for (ssize_t n;
           text.find("\r\n\r\n") == std::string::npos && (n = ::recv(c, part, sizeof part, 0)) > 0;)
        text.append(part, std::size_t(n));
      if (!text.empty()) answer(c, parse(text));
      ::close(c);
    }
  }
  static server_request parse(const std::string& text) {
    server_request r;
    const auto space = text.find(' '), second = text.find(' ', space + 1);
    r.method = text.substr(0, space);
    r.target = text.substr(space + 1, second - space - 1);
    for (auto at = text.find("\r\n"); at != std::string::npos;) {
      const auto end = text.find("\r\n", at + 2);
      const std::string line = text.substr(at + 2, end == std::string::npos ? end : end - at - 2);
      if (const auto colon = line.find(": "); colon != std::string::npos) {
        std::string name = line.substr(0, colon);
        for (char& ch : name) ch = char(std::tolower(static_cast<unsigned char>(ch)));
        r.headers[name] = line.substr(colon + 2);
      }
      at = end;
    }
    return r;
  }
  void answer(int c, const server_request& r) {
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(r);
    }
    const server_reply reply = handler_(r);
    std::string text = reply.raw;
    if (text.empty()) {
      text = "HTTP/1.1 " + std::to_string(reply.status) + " Said\r\nConnection: close\r\n";
      for (const auto& h : reply.headers) text += h + "\r\n";
      if (reply.length) text += "Content-Length: " + std::to_string(reply.body.size()) + "\r\n";
      text += "\r\n";
      if (r.method != "HEAD") text += reply.body.substr(0, reply.cut);
    }
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t part = reply.pause > 0 ? 4096 : text.size();
      const ssize_t n = ::send(c, text.data() + at, std::min(part, text.size() - at), MSG_NOSIGNAL);
      if (n <= 0) break;
      if (reply.pause > 0) std::this_thread::sleep_for(std::chrono::milliseconds(reply.pause));
      at += std::size_t(n);
    }
    ::shutdown(c, SHUT_WR);
    char rest[256];  // until the other side has closed, so that nothing sent is lost
    while (::recv(c, rest, sizeof rest, 0) > 0) {
    }
  }

  handler handler_;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> done_{false};
  mutable std::mutex mutex_;
  std::vector<server_request> requests_;
  std::thread thread_;
};

inline std::string sha256_of(const std::string& text) {
  sha256 h;
  h.update(text);
  return h.hex();
}
inline std::string git_hash_of(const std::string& text) {
  sha1 h;
  h.update("blob " + std::to_string(text.size()) + std::string(1, '\0') + text);
  return h.hex();
}

inline const std::string some_commit = "0123456789abcdef0123456789abcdef01234567";

/// The hub as it is: files by "/organisation/name/resolve/REVISION/FILE", large ones redirected to
/// `cdn` (another server's address) where that is given.
struct fake_hub {
  std::map<std::string, std::string> files;  // "organisation/name/file" -> contents
  std::string cdn = "";
  std::size_t large = 1000;  // bytes from which on a file is large

  const std::string* find(const std::string& target) const {
    const auto at = target.find("/resolve/");
    if (at == std::string::npos) return nullptr;
    const auto file = target.find('/', at + 9);
    std::string name = target.substr(1, at) + target.substr(file + 1);
    for (std::size_t i = 0; (i = name.find('%', i)) != std::string::npos; ++i)
      name.replace(i, 3, 1, char(std::stoi(name.substr(i + 1, 2), nullptr, 16)));
    const auto found = files.find(name);
    return found == files.end() ? nullptr : &found->second;
  }
  /// Bytes with a Range.
  static server_reply bytes(const server_request& r, const std::string& all) {
    const std::string range = r.header("range");
    if (range.empty()) return {.body = all};
    const std::size_t from = std::stoul(range.substr(range.find('=') + 1));
    if (from >= all.size()) return {.status = 416};
    return {.status = 206,
            .headers = {"Content-Range: bytes " + std::to_string(from) + "-" +
                        std::to_string(all.size() - 1) + "/" + std::to_string(all.size())},
            .body = all.substr(from)};
  }
  server_reply operator()(const server_request& r) const {
    const std::string* file = find(r.target);
    if (file == nullptr) return {.status = 404, .headers = {"X-Error-Code: EntryNotFound"}};
    server_reply reply = bytes(r, *file);
    reply.headers.push_back("X-Repo-Commit: " + some_commit);
    if (file->size() < large) {
      reply.headers.push_back("ETag: \"" + git_hash_of(*file) + "\"");
      return reply;
    }
    reply.headers.push_back("X-Linked-ETag: \"" + sha256_of(*file) + "\"");
    reply.headers.push_back("X-Linked-Size: " + std::to_string(file->size()));
    if (cdn.empty()) return reply;
    reply.status = 302;
    reply.headers.push_back("Location: " + cdn + "/bytes" + r.target + "?signature=secret");
    reply.body = "Found";
    return reply;
  }
};

}  // namespace mlmamba::test
