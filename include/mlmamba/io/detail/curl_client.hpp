// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// HTTP with libcurl.
#pragma once

#include <curl/curl.h>

#include <charconv>
#include <cstddef>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "mlmamba/io/http.hpp"

namespace mlmamba::detail {

/// One connection at a time, kept open between requests. Certificates are checked; there is no
/// limit on how long a transfer takes, only on how long nothing comes.
class curl_client : public http_client {
 public:
  curl_client() {
    static const CURLcode global = curl_global_init(CURL_GLOBAL_DEFAULT);
    if (global == CURLE_OK) handle_.reset(curl_easy_init());
    if (!handle_) fail<io_error>("http: libcurl can't be started");
  }

  http_response send(const http_request& request, const http_body& body) override {
    transfer now{{}, &body, nullptr, 0, false};
    CURL* h = handle_.get();
    curl_easy_reset(h);
    const std::unique_ptr<curl_slist, list_deleter> headers(list(request));
    char why[CURL_ERROR_SIZE] = "";
    const std::string address = request.to.text();
    curl_easy_setopt(h, CURLOPT_URL, address.c_str());
    curl_easy_setopt(h, CURLOPT_NOBODY, request.head ? 1L : 0L);
    curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers.get());
    curl_easy_setopt(h, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    if (request.to.loopback()) curl_easy_setopt(h, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(h, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT, 20L);
    curl_easy_setopt(h, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(h, CURLOPT_LOW_SPEED_TIME, 60L);
    curl_easy_setopt(h, CURLOPT_USERAGENT, "mlmamba");
    curl_easy_setopt(h, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, &on_header);
    curl_easy_setopt(h, CURLOPT_HEADERDATA, &now);
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, &on_body);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, &now);
    const CURLcode code = curl_easy_perform(h);
    if (now.thrown) std::rethrow_exception(now.thrown);
    if (code == CURLE_OK || now.stopped) return std::move(now.response);
    using reason = http_error::reason;
    const std::string text = why[0] != '\0' ? why : curl_easy_strerror(code);
    switch (code) {
      case CURLE_COULDNT_RESOLVE_HOST:
      case CURLE_COULDNT_RESOLVE_PROXY:
      case CURLE_COULDNT_CONNECT:
        throw http_error(reason::no_connection, text);
      case CURLE_OPERATION_TIMEDOUT:
        throw http_error(now.response.status == 0 ? reason::no_connection : reason::broken_off,
                         text);
      case CURLE_GOT_NOTHING:
      case CURLE_PARTIAL_FILE:
      case CURLE_RECV_ERROR:
      case CURLE_SEND_ERROR:
      case CURLE_HTTP2:
      case CURLE_HTTP2_STREAM:
        throw http_error(reason::broken_off, text);
      default:
        throw http_error(reason::refused, text);
    }
  }

 private:
  struct handle_deleter {
    void operator()(CURL* h) const { curl_easy_cleanup(h); }
  };
  struct list_deleter {
    void operator()(curl_slist* l) const { curl_slist_free_all(l); }
  };
  struct transfer {
    http_response response;
    const http_body* body;
    std::exception_ptr thrown;
    std::size_t header_bytes;
    bool stopped;  // on purpose, at a body that nobody wants
  };

  static curl_slist* list(const http_request& request) {
    // sizes and ranges are those of the file, not of something compressed
    curl_slist* all = curl_slist_append(nullptr, "Accept-Encoding: identity");
    for (const std::string& header : request.headers) all = curl_slist_append(all, header.c_str());
    return all;
  }

  static std::size_t on_header(char* data, std::size_t, std::size_t size, void* to) {
    auto& now = *static_cast<transfer*>(to);
    if ((now.header_bytes += size) > std::size_t{1} << 18) return 0;
    try {
      std::string_view line(data, size);
      while (!line.empty() && (line.back() == '\r' || line.back() == '\n')) line.remove_suffix(1);
      if (line.starts_with("HTTP/")) {  // also after an interim answer: the last one counts
        now.response = {};
        const auto space = line.find(' ');
        if (space == std::string_view::npos) return size;
        std::from_chars(line.data() + space + 1, line.data() + line.size(), now.response.status);
      } else if (const auto colon = line.find(':'); colon != std::string_view::npos) {
        std::string name(line.substr(0, colon));
        for (char& c : name)
          if (c >= 'A' && c <= 'Z') c = char(c + 32);
        line.remove_prefix(colon + 1);
        while (!line.empty() && (line.front() == ' ' || line.front() == '\t'))
          line.remove_prefix(1);
        while (!line.empty() && (line.back() == ' ' || line.back() == '\t')) line.remove_suffix(1);
        now.response.headers[name] = line;
      }
      return size;
    } catch (...) {  // no exception may pass through C
      now.thrown = std::current_exception();
      return 0;
    }
  }
  static std::size_t on_body(char* data, std::size_t, std::size_t size, void* to) {
    auto& now = *static_cast<transfer*>(to);
    if (now.response.status != 200 && now.response.status != 206) {
      now.stopped = true;
      return 0;
    }
    try {
      (*now.body)(now.response, {reinterpret_cast<const std::byte*>(data), size});
      return size;
    } catch (...) {
      now.thrown = std::current_exception();
      return 0;
    }
  }

  std::unique_ptr<CURL, handle_deleter> handle_;
};

}  // namespace mlmamba::detail
