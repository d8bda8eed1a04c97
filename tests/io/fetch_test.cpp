// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
#include "mlmamba/io/fetch.hpp"

#include <doctest/doctest.h>

#include "hub_server.hpp"
#include "mlmamba/io/detail/curl_client.hpp"

using namespace mlmamba;
using test::server_reply, test::server_request;

namespace {

/// What is wrong with what the server sends; "" if nothing is.
std::string problem(test::http_server& server, const std::string& path, std::size_t most = 1000) {
  detail::curl_client client;
  try {
    fetch(client, server.address() + path, most);
    return "";
  } catch (const io_error& e) {
    return e.what();
  }
}

bool says(const std::string& text, const char* words) {
  INFO(text);
  return text.find(words) != std::string::npos;
}

/// Sends one redirect.
struct redirecting : http_client {
  http_response send(const http_request&, const http_body&) override {
    return {302, {{"location", "http://example.org/a.png"}}};
  }
};

}  // namespace

TEST_SUITE("fetch_test") {
  TEST_CASE("addresses are told from names of files") {
    CHECK(is_address("https://example.org/a.png"));
    CHECK(is_address("ftp://example.org/a.png"));  // fetch refuses it with a reason
    for (const char* name : {"a.png", "dir/a.png", "://a", "dir/a://b", "a:b", ""})
      CHECK_FALSE(is_address(name));
  }

  TEST_CASE("what is at an address comes whole, and after redirects") {
    const std::string body("\x89PNG\0\r\n", 7);
    test::http_server server([&](const server_request& r) -> server_reply {
      if (r.target == "/moved") return {302, {"Location: /again"}};
      if (r.target == "/again") return {307, {"Location: /a.png"}};
      return {200, {}, body, std::string::npos, r.target != "/without-length"};
    });
    detail::curl_client client;
    for (const char* path : {"/a.png", "/moved", "/without-length"}) {
      const auto bytes = fetch(client, server.address() + path, 7);
      CHECK(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()) == body);
    }
  }

  TEST_CASE("errors say what is wrong") {
    test::http_server server([](const server_request& r) -> server_reply {
      if (r.target.starts_with("/none")) return {404, {}, "not here"};
      if (r.target == "/loop") return {302, {"Location: /loop"}};
      if (r.target == "/nowhere") return {302, {}};
      if (r.target == "/cut") return {200, {}, std::string(500, 'x'), 100};
      return {200, {}, std::string(2000, 'x'), std::string::npos, r.target != "/without-length"};
    });
    CHECK(says(problem(server, "/none?token=secret"), "answered 404"));
    CHECK_FALSE(says(problem(server, "/none?token=secret"), "secret"));
    CHECK(says(problem(server, "/loop"), "more than 10 times"));
    CHECK(says(problem(server, "/nowhere"), "to nowhere"));
    CHECK(says(problem(server, "/cut"), "broke off"));
    CHECK(says(problem(server, "/large"), "more than 1000 bytes"));
    CHECK(says(problem(server, "/without-length"), "more than 1000 bytes"));
    CHECK(problem(server, "/large", 2000) == "");
  }

  TEST_CASE("schemes and steps down to http are refused") {
    redirecting client;
    CHECK_THROWS_WITH_AS(fetch(client, "ftp://example.org/a", 10),
                         doctest::Contains("http or https"), io_error);
    CHECK_THROWS_WITH_AS(fetch(client, "https://example.org/a", 10),
                         doctest::Contains("from https to http"), io_error);
  }
}
