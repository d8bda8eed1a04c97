// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The hub: cache layout, downloads that break off and go on, tokens, and a server that lies.
#include "mlmamba/io/hub.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "io/hub_server.hpp"
#include "io/temporary.hpp"

using namespace mlmamba;
using namespace mlmamba::test;
namespace fs = std::filesystem;

namespace {

const std::string repository = "some/model", small_text = "{\"d_model\": 8}\n";

std::string large_text() {
  std::string text;
  for (int i = 0; text.size() < 300'000; ++i) text += std::to_string(i * 7919) + ",";
  return text;
}
fake_hub honest() {
  return {.files = {{"some/model/config.json", small_text},
                    {"some/model/model.safetensors", large_text()},
                    {"some/model/a/b/c d.txt", "deep"},
                    {"some/model/empty", ""}}};
}
bool contains(const std::string& text, const std::string& what) {
  return text.find(what) != std::string::npos;
}

/// A hub with a cache of its own.
struct fixture {
  temporary_folder folder;
  hub_options options;
  explicit fixture(const http_server& server) {
    options.endpoint = server.address();
    options.cache = folder / "hub";
    options.retries = 0;
    options.pause = std::chrono::milliseconds(0);
  }
  fs::path model(std::string_view path) const {
    return options.cache / "models--some--model" / path;
  }
  fs::path file(const std::string& name, const std::string& revision = "main") const {
    return hub(options).file(repository, name, revision);
  }
  std::string error_of(const std::string& name) const {
    return message_of<error>([&] { file(name); });
  }
  std::size_t files_in_cache() const {
    std::size_t n = 0;
    if (fs::exists(options.cache))
      for (const auto& e : fs::recursive_directory_iterator(options.cache))
        n += e.is_regular_file() && e.path().extension() != ".lock";
    return n;
  }
};

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

  TEST_CASE("a download that broke off is kept and goes on") {
    const std::string all = large_text();
    int gets = 0;
    const fake_hub h = honest();
    const http_server server([&](const server_request& r) {
      server_reply reply = h(r);
      if (r.method == "GET" && ++gets <= 2) reply.cut = 100'000;
      return reply;
    });
    const fixture f(server);
    const std::string said = f.error_of("model.safetensors");
    CHECK(contains(said, "some/model/model.safetensors: broke off after 100000 of " +
                             std::to_string(all.size()) + " bytes"));
    const fs::path part = f.model("blobs/" + sha256_of(all) + ".incomplete");
    CHECK(slurp(part) == all.substr(0, 100'000));
    CHECK(!fs::exists(f.model("snapshots/" + some_commit + "/model.safetensors")));
    CHECK(contains(f.error_of("model.safetensors"), "broke off after 200000 of "));
    CHECK(slurp(f.file("model.safetensors")) == all);
    CHECK(!fs::exists(part));
    const auto asked = server.requests();
    REQUIRE(asked.size() == 6);
    CHECK(asked[1].header("range").empty());
    CHECK(asked[3].header("range") == "bytes=100000-");
    CHECK(asked[5].header("range") == "bytes=200000-");
  }

  TEST_CASE("broken connections and a busy server are tried again") {
    int asked = 0;
    const fake_hub h = honest();
    const http_server server([&](const server_request& r) {
      ++asked;
      if (asked == 1) return server_reply{.status = 503};
      if (asked == 3) return server_reply{.status = 429};
      server_reply reply = h(r);
      if (r.method == "GET" && asked < 9) reply.cut = 50'000;
      return reply;
    });
    fixture f(server);
    f.options.retries = 1;  // without progress; four times some of it comes
    CHECK(slurp(f.file("model.safetensors")) == large_text());
    CHECK(server.count("HEAD") == 2);
    CHECK(server.count("GET") == 7);
  }

  TEST_CASE("without a length, the end of the connection is no end of the file") {
    const std::string all = large_text();
    bool first = true;
    const fake_hub h = honest();
    const http_server server([&](const server_request& r) {
      server_reply reply = h(r);
      reply.length = r.method == "HEAD";
      if (r.method == "GET" && std::exchange(first, false)) reply.cut = 1000;
      return reply;
    });
    fixture f(server);
    CHECK(contains(f.error_of("model.safetensors"), "broke off after 1000 of "));
    CHECK(slurp(f.file("model.safetensors")) == all);
  }

  TEST_CASE("a server without ranges sends all again; one that is asked beyond the end is too") {
    const std::string all = large_text();
    const fake_hub h = honest();
    bool ranges = true;
    const http_server server([&](server_request r) {
      if (!ranges) r.headers.erase("range");
      if (ranges && !r.header("range").empty()) return server_reply{.status = 416};
      return h(r);
    });
    const fixture f(server);
    const fs::path part = f.model("blobs/" + sha256_of(all) + ".incomplete");
    fs::create_directories(part.parent_path());
    ranges = false;
    spill(part, "something else");
    CHECK(slurp(f.file("model.safetensors")) == all);
    fs::remove_all(f.options.cache);
    fs::create_directories(part.parent_path());
    ranges = true;
    spill(part, "something else");
    fixture patient(server);
    patient.options.cache = f.options.cache;
    patient.options.retries = 1;
    CHECK(slurp(patient.file("model.safetensors")) == all);
  }

  TEST_CASE("a beginning that is too long, complete, or of another file") {
    const std::string all = large_text();
    const http_server server(honest());
    const fixture f(server);
    const fs::path part = f.model("blobs/" + sha256_of(all) + ".incomplete");
    fs::create_directories(part.parent_path());
    spill(part, all + "more");
    CHECK(slurp(f.file("model.safetensors")) == all);
    fs::remove_all(f.options.cache);
    fs::create_directories(part.parent_path());
    spill(part, all);
    CHECK(slurp(f.file("model.safetensors")) == all);
    CHECK(server.count("GET") == 1);  // nothing was missing
    fs::remove_all(f.options.cache);
    fs::create_directories(part.parent_path());
    spill(part, "another file");
    CHECK(contains(f.error_of("model.safetensors"), "the checksum of what came is "));
    CHECK(!fs::exists(part));
    CHECK(slurp(f.file("model.safetensors")) == all);
  }

  TEST_CASE("bytes that are not those announced are removed") {
    fake_hub h = honest();
    server_reply lie;
    const http_server server([&](const server_request& r) {
      server_reply reply = h(r);
      if (r.method == "HEAD") return reply;
      server_reply other = lie;
      if (other.body.empty()) other.body = reply.body;
      return other;
    });
    const fixture f(server);
    const auto refused = [&](const char* name, server_reply l, const std::string& words) {
      lie = std::move(l);
      const std::string said = f.error_of(name);
      INFO(said);
      CHECK(contains(said, words));
      CHECK(!contains(said, "\n"));
      CHECK(f.files_in_cache() == 0);
    };
    std::string changed = small_text;
    changed[3] ^= 1;
    refused("config.json", {.body = changed}, "the checksum of what came is ");
    changed = large_text();
    changed[200'000] ^= 1;
    refused("model.safetensors", {.body = changed}, "the checksum of what came is ");
    for (const char* name : {"config.json", "model.safetensors"}) {
      refused(name, {.body = "short"}, "it has 5 bytes; ");
      refused(name, {.body = large_text() + "longer", .length = false}, "has more than the ");
      refused(name, {.status = 206, .headers = {"Content-Range: bytes 7-9/300000"}, .body = "abc"},
              "goes on at \"bytes 7-9/300000\" where byte 0 of ");
    }
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

  TEST_CASE("a full disk") {
    const std::string all = large_text();
    fake_hub h = honest();
    std::string size = std::to_string(std::int64_t{1} << 49);
    const http_server server([&](const server_request& r) {
      server_reply reply = h(r);
      if (!size.empty()) reply.headers.push_back("X-Linked-Size: " + size);
      return reply;
    });
    const fixture f(server);
    // announced: said before anything is fetched
    CHECK(contains(f.error_of("config.json"), "562950.0 GB are wanted in "));
    CHECK(server.count("GET") == 0);
    if (!fs::exists("/dev/full")) return;
    size = "";
    const fs::path part = f.model("blobs/" + sha256_of(all) + ".incomplete");
    fs::create_directories(part.parent_path());
    fs::create_symlink("/dev/full", part);
    CHECK(contains(f.error_of("model.safetensors"), "the disk is full after 0 of "));
    CHECK(!fs::exists(f.model("snapshots/" + some_commit + "/model.safetensors")));
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

  TEST_CASE("two at once fetch a file once") {
    const http_server server(honest());
    const fixture f(server);
    std::string a, b;
    std::thread one([&] { a = slurp(f.file("model.safetensors")); });
    std::thread two([&] { b = slurp(f.file("model.safetensors")); });
    one.join(), two.join();
    CHECK(a == large_text());
    CHECK(b == a);
    CHECK(server.count("GET") == 1);
  }

  TEST_CASE("a log shows how far a download is") {
    fake_hub h = honest();
    h.files["some/model/big"] = std::string(3'000'000, 'x');
    const http_server server(h);
    fixture f(server);
    std::FILE* log = std::fopen((f.folder / "log").c_str(), "w");
    f.options.progress = log;
    f.file("big");
    f.file("config.json");  // too small to be worth a line
    std::fclose(log);
    const std::string text = slurp(f.folder / "log");
    CHECK(contains(text, "some/model/big 3/3 MB"));
    CHECK(contains(text, " MB/s, "));
    CHECK(!contains(text, "config.json"));
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
