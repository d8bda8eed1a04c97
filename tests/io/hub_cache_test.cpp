// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Where cache and token of the hub are looked for; addresses; paths that lead elsewhere.
#include "mlmamba/io/hub.hpp"

#include <doctest/doctest.h>

#include <cstdlib>
#include <string>
#include <utility>

#include "io/hub_fixture.hpp"

using namespace mlmamba;
using namespace mlmamba::test;
namespace fs = std::filesystem;
using fixture = hub_fixture;

namespace {

/// Sets or unsets a variable for a while.
class variable {
 public:
  variable(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old, had_ = true;
    value == nullptr ? ::unsetenv(name) : ::setenv(name, value, 1);
  }
  variable(const variable&) = delete;
  ~variable() { had_ ? ::setenv(name_, old_.c_str(), 1) : ::unsetenv(name_); }

 private:
  const char* name_;
  std::string old_;
  bool had_ = false;
};

}  // namespace

TEST_SUITE("hub_cache_test") {
  TEST_CASE("paths that lead elsewhere are not asked for") {
    const http_server server(honest());
    const fixture f(server);
    for (const char* name : {"", "../x", "a/../../x", "/etc/passwd", "a//b", "a/./b", "a/", "..",
                             "a\\b", "a\nb", "~/../.."}) {
      INFO(name);
      if (std::string(name) != "~/../..") CHECK_THROWS_AS(f.file(name), io_error);
      CHECK_THROWS_AS(f.file("config.json", name), io_error);
    }
    for (const char* r : {"", "model", "a/b/c", "../model", "a/..", ".a/b", "a/b--c", "a b/c",
                          "a/b?x", "/a", "a/", "-a/b"}) {
      INFO(r);
      CHECK_THROWS_AS(hub(f.options).file(r, "config.json"), io_error);
    }
    CHECK(server.requests().empty());
    CHECK(!fs::exists(f.options.cache));
  }

  TEST_CASE("where cache and token are looked for") {
    const temporary_folder folder;
    const std::string home = (folder / "").string();
    const variable v0("HOME", home.c_str()), v1("HF_HOME", nullptr), v2("HF_HUB_CACHE", nullptr),
        v3("XDG_CACHE_HOME", nullptr), v4("HF_TOKEN", nullptr), v5("HF_TOKEN_PATH", nullptr),
        v6("HUGGINGFACE_HUB_CACHE", nullptr), v7("HUGGING_FACE_HUB_TOKEN", nullptr),
        v8("HF_HUB_OFFLINE", nullptr), v9("HF_ENDPOINT", nullptr);
    CHECK(default_hub_cache() == fs::path(home) / ".cache/huggingface/hub");
    CHECK(hub_options::from_environment().endpoint == "https://huggingface.co");
    CHECK(!hub_options::from_environment().offline);
    CHECK(find_hub_token().empty());
    fs::create_directories(folder / ".cache/huggingface");
    spill(folder / ".cache/huggingface/token", "hf_login\n");
    CHECK(find_hub_token() == "hf_login");
    {
      const variable x("XDG_CACHE_HOME", "/x");
      CHECK(default_hub_cache() == "/x/huggingface/hub");
      const variable h("HF_HOME", "~/hf");
      CHECK(default_hub_cache() == fs::path(home) / "hf/hub");
      const variable c("HF_HUB_CACHE", "/y");
      CHECK(default_hub_cache() == "/y");
    }
    spill(folder / ".hf_token", "  hf_here \r\nmore\n");
    CHECK(find_hub_token((folder / ".hf_token").string()) == "hf_here");
    {
      const variable t("HF_TOKEN", "hf_variable"), o("MY_TOKEN", "hf_mine"),
          off("HF_HUB_OFFLINE", "yes"), e("HF_ENDPOINT", "http://localhost:1/");
      CHECK(find_hub_token() == "hf_variable");
      CHECK(find_hub_token("MY_TOKEN") == "hf_mine");
      CHECK(hub_options::from_environment().offline);
      CHECK(hub_options::from_environment().endpoint == "http://localhost:1/");
      CHECK_THROWS_AS(find_hub_token("NO_SUCH_THING"), io_error);
    }
    const variable t("HF_TOKEN", "hf_secret\r\nX-Injected: 1");
    const std::string said = message_of<io_error>([] { find_hub_token(); });
    CHECK(contains(said, "token: "));
    CHECK(!contains(said, "secret"));
  }

  TEST_CASE("addresses") {
    const url u = parse_url("HTTPS://Host.example/a/b?c=d#e");
    CHECK(u.origin() == "https://host.example:443");
    CHECK(u.target == "/a/b?c=d");
    CHECK(parse_url("http://127.0.0.1:8080").text() == "http://127.0.0.1:8080/");
    CHECK(parse_url("http://[::1]:80").port == "80");
    CHECK(parse_url("https://h?x=1").target == "/?x=1");
    CHECK(redirected(u, "/x").text() == "https://host.example:443/x");
    CHECK(redirected(u, "//other/x").origin() == "https://other:443");
    CHECK(redirected(u, "x?u=http://y").text() == "https://host.example:443/a/x?u=http://y");
    CHECK(redirected(u, "http://other/x").origin() == "http://other:80");
    for (const char* text :
         {"", "huggingface.co", "ftp://h/", "http://", "http://u:p@h/", "http://h:99999999/",
          "http://h:x/", "http://h/\r\nX: y", "http://h /", "http://h%00/"}) {
      INFO(text);
      CHECK_THROWS_AS(parse_url(text), io_error);
    }
    CHECK(percent_encoded("a b/ü+", true) == "a%20b/%C3%BC%2B");
    CHECK(percent_encoded("refs/pr/1", false) == "refs%2Fpr%2F1");
    // in clear text the token stays here
    detail::hub_source source;
    source.token = "t";
    for (const auto& [text, sends] : {std::pair("https://h", true), std::pair("http://h", false),
                                      std::pair("http://127.0.0.1:1", true)}) {
      source.from = parse_url(text);
      CHECK(source.sends_token() == sends);
    }
  }
}
