// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The hub: cache layout, redirects and the token, refusals, answers that name files.
#include "mlmamba/io/hub.hpp"

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "io/hub_fixture.hpp"

using namespace mlmamba;
using namespace mlmamba::test;
namespace fs = std::filesystem;
using fixture = hub_fixture;

namespace {

/// Answers without a network, so that addresses can be those of the world.
struct scripted_client : http_client {
  std::function<http_response(const http_request&)> answer;
  std::vector<http_request> asked;
  http_response send(const http_request& request, const http_body&) override {
    asked.push_back(request);
    return answer(request);
  }
  bool token_sent(std::size_t i) const {
    for (const std::string& h : asked.at(i).headers)
      if (h.find("hf_secret") != std::string::npos) return true;
    return false;
  }
};

}  // namespace

TEST_SUITE("hub_test") {
  TEST_CASE("a file is fetched once, into the layout of Hugging Face's cache") {
    const http_server server(honest());
    const fixture f(server);
    const fs::path path = f.file("config.json");
    CHECK(slurp(path) == small_text);
    CHECK(path == f.model("snapshots/" + some_commit + "/config.json"));
    CHECK(fs::read_symlink(path) == "../../blobs/" + git_hash_of(small_text));
    CHECK(slurp(f.model("refs/main")) == some_commit);
    CHECK(slurp(f.model("blobs/" + git_hash_of(small_text))) == small_text);
    CHECK(f.file("config.json") == path);
    CHECK(f.file("config.json", some_commit) == path);
    CHECK(server.requests().size() == 2);  // HEAD and GET, nothing afterwards
    CHECK(server.requests()[0].target == "/some/model/resolve/main/config.json");
    CHECK(server.requests()[0].header("accept-encoding") == "identity");
    CHECK(server.requests()[0].header("authorization").empty());
    // what else is wanted is wanted of the same commit
    CHECK(slurp(f.file("a/b/c d.txt")) == "deep");
    CHECK(server.requests()[2].target == "/some/model/resolve/" + some_commit + "/a/b/c%20d.txt");
    CHECK(fs::read_symlink(f.model("snapshots/" + some_commit + "/a/b/c d.txt")) ==
          "../../../../blobs/" + git_hash_of("deep"));
    CHECK(slurp(f.file("empty")).empty());
    CHECK(fs::is_regular_file(f.file("empty")));
  }

  TEST_CASE("a large file comes from where it is redirected to, without the token") {
    const std::string all = large_text();
    const http_server cdn([&](const server_request& r) { return fake_hub::bytes(r, all); });
    fake_hub h = honest();
    h.cdn = cdn.address("localhost");
    const http_server server(h);
    fixture f(server);
    f.options.token = "hf_secret";
    CHECK(slurp(f.file("model.safetensors")) == all);
    CHECK(fs::exists(f.model("blobs/" + sha256_of(all))));
    for (const auto& r : server.requests()) CHECK(r.header("authorization") == "Bearer hf_secret");
    REQUIRE(cdn.requests().size() == 1);
    CHECK(cdn.requests()[0].header("authorization").empty());
    CHECK(contains(cdn.requests()[0].target, "?signature=secret"));
  }

  TEST_CASE("the token stays with the endpoint, also if only the port differs") {
    const http_server other([](const server_request&) { return server_reply{.status = 403}; });
    fake_hub h = honest();
    h.cdn = other.address();
    const http_server server(h);
    fixture f(server);
    f.options.token = "hf_secret";
    const std::string said = f.error_of("model.safetensors");
    CHECK(contains(said, "denies access (403)"));
    CHECK(!contains(said, "secret"));  // neither the token nor the signed address
    REQUIRE(other.requests().size() == 1);
    CHECK(other.requests()[0].header("authorization").empty());
  }

  TEST_CASE("over https: no way back to http; over http: no token") {
    const temporary_folder folder;
    hub_options o;
    o.cache = folder / "hub";
    o.token = "hf_secret";
    o.retries = 0;
    std::unique_ptr<hub> last;  // keeps the client
    const auto said = [&](const char* endpoint, http_response with, scripted_client*& client) {
      o.endpoint = endpoint;
      auto c = std::make_unique<scripted_client>();
      client = c.get();
      client->answer = [with](const http_request&) { return with; };
      last = std::make_unique<hub>(o, std::move(c));
      return message_of<io_error>([&] { last->file(repository, "config.json"); });
    };
    scripted_client* client = nullptr;
    CHECK(contains(said("https://hub.test", {307, {{"location", "http://hub.test/x"}}}, client),
                   "redirects from https to http; not followed"));
    REQUIRE(client->asked.size() == 1);
    CHECK(client->asked[0].head);
    CHECK(client->asked[0].to.text() == "https://hub.test:443/some/model/resolve/main/config.json");
    CHECK(client->token_sent(0));
    CHECK(contains(said("http://mirror.test/hf/", {401, {}}, client),
                   "the token was not sent, because the address is not https"));
    CHECK(client->asked[0].to.target == "/hf/some/model/resolve/main/config.json");
    CHECK(!client->token_sent(0));
    CHECK(!fs::exists(o.cache));
  }

  TEST_CASE("redirects within the hub are followed, with the token") {
    const fake_hub h = honest();
    const http_server server([&](const server_request& r) -> server_reply {
      if (r.target.starts_with("/some/model/"))
        return {.status = 307, .headers = {"Location: /new" + r.target.substr(5)}};
      server_request renamed = r;
      renamed.target = "/some" + r.target.substr(4);
      return h(renamed);
    });
    fixture f(server);
    f.options.token = "hf_secret";
    CHECK(slurp(f.file("config.json")) == small_text);
    CHECK(server.requests()[1].target == "/new/model/resolve/main/config.json");
    for (const auto& r : server.requests()) CHECK(!r.header("authorization").empty());
  }

  TEST_CASE("refusals are told apart, in one line, without the token") {
    server_reply reply;
    const http_server server([&](const server_request&) { return reply; });
    fixture f(server);
    const auto said = [&](server_reply r, const std::string& words) {
      reply = std::move(r);
      const std::string text = f.error_of("config.json");
      INFO(text);
      CHECK(contains(text, words));
      CHECK(text.starts_with("some/model/config.json: "));
      CHECK(!contains(text, "\n"));
      CHECK(!contains(text, "hf_secret"));
      CHECK(f.files_in_cache() == 0);
    };
    for (int status : {401, 403})
      said({.status = status}, "127.0.0.1 denies access (" + std::to_string(status) +
                                   "); a token is wanted: in .hf_token, HF_TOKEN or ");
    said({.status = 401, .headers = {"X-Error-Code: RepoNotFound"}},
         "has no such repository or file (401); if it is private, a token is wanted");
    f.options.token = "hf_secret";
    said({.status = 401}, "the token is not accepted, or has no right");
    said({.status = 403, .headers = {"X-Error-Code: GatedRepo"}}, "accepted its terms");
    said({.status = 404}, "has no such repository or file (404)");
    said({.status = 404, .headers = {"X-Error-Code: EntryNotFound"}}, "but not this file");
    said({.status = 404, .headers = {"X-Error-Code: RevisionNotFound"}}, "but not this revision");
    said({.status = 500}, "answered 500 (trouble at its end)");
    said({.status = 429}, "answered 429 (too many requests)");
    said({.status = 418}, "answered 418; 200 is wanted");
    said({.status = 302}, "redirects to nowhere");
    said({.status = 302, .headers = {"Location: /again"}}, "redirects more than 10 times");
    said({.status = 302, .headers = {"Location: http://localhost:1/x"}},
         "redirects to localhost without saying what the file is");
    said({.status = 302, .headers = {"Location: file:///etc/passwd"}}, "");
    said({.raw = "SSH-2.0-something\r\n"}, "");
    said({.raw = "HTTP/1.1 200 OK\r\nContent-Le"}, "");
    said({.body = "<html>"}, "does not answer as Hugging Face's hub does");
  }

  TEST_CASE("what the server says is not believed where it names files") {
    std::vector<std::string> headers;
    const http_server server(
        [&](const server_request&) { return server_reply{.headers = headers}; });
    fixture f(server);
    const auto said = [&](std::vector<std::string> h, const std::string& words) {
      headers = std::move(h);
      const std::string text = f.error_of("config.json");
      INFO(text);
      CHECK(contains(text, words));
      CHECK(!fs::exists(f.options.cache));
    };
    const std::string commit = "X-Repo-Commit: " + some_commit, tag = git_hash_of("");
    said({"X-Repo-Commit: ../../../../x", "ETag: \"" + tag + "\""}, "its X-Repo-Commit is \"../..");
    said({"X-Repo-Commit: " + some_commit + "0", "ETag: \"" + tag + "\""}, "X-Repo-Commit");
    said({commit, "ETag: \"../../../etc\""}, "ETag \"../../../etc\"; a SHA-256 or SHA-1");
    said({commit}, "ETag \"\"");
    said({commit, "X-Linked-ETag: \"" + tag + "\""}, "does not say how large it is");
    said({commit, "X-Linked-ETag: \"" + tag + "\"", "X-Linked-Size: -4"}, "how large");
    said({commit, "X-Linked-ETag: \"" + tag + "\"", "X-Linked-Size: 99999999999999999999"},
         "how large");
    CHECK(f.folder.count() == 0);
  }

  TEST_CASE("no network, no permission to use it, no means") {
    std::string address;
    {
      const http_server gone(honest());
      address = gone.address();
    }
    const http_server server(honest());
    fixture f(server);
    f.file("config.json");
    f.options.endpoint = address;
    CHECK(contains(f.error_of("model.safetensors"), "no connection to 127.0.0.1 ("));
    CHECK(slurp(f.file("config.json")) == small_text);  // it is in the cache
    f.options.endpoint = server.address();
    f.options.offline = true;
    CHECK(contains(f.error_of("model.safetensors"), "HF_HUB_OFFLINE is set"));
    CHECK(slurp(f.file("config.json")) == small_text);
    CHECK(contains(message_of<io_error>([&] {
                     f.options.offline = false;
                     hub(f.options, nullptr).file(repository, "model.safetensors");
                   }),
                   "built without libcurl"));
    CHECK(slurp(hub(f.options, nullptr).file(repository, "config.json")) == small_text);
    CHECK(server.requests().size() == 2);
  }

  TEST_CASE("the first of several files; a known blob is not fetched again") {
    const http_server server(honest());
    const fixture f(server);
    hub h(f.options);
    CHECK(slurp(h.any_of(repository, {"none.safetensors", "config.json", "empty"})) == small_text);
    CHECK_THROWS_AS(h.any_of(repository, {"x", "y"}), hub_missing);
    const auto before = server.count("GET");
    fs::remove(f.model("snapshots/" + some_commit + "/config.json"));
    CHECK(slurp(f.file("config.json")) == small_text);
    CHECK(server.count("GET") == before);
    // a blob that was cut is no blob
    spill(f.model("blobs/" + git_hash_of(small_text)), "{");
    fs::remove(f.model("snapshots/" + some_commit + "/config.json"));
    CHECK(slurp(f.file("config.json")) == small_text);
  }
}
