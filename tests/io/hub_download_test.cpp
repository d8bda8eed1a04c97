// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Downloads from the hub: what breaks off goes on, what is not what was announced is removed.
#include "mlmamba/io/hub.hpp"

#include <doctest/doctest.h>

#include <cstdio>
#include <string>
#include <thread>
#include <utility>

#include "io/hub_fixture.hpp"

using namespace mlmamba;
using namespace mlmamba::test;
namespace fs = std::filesystem;
using fixture = hub_fixture;

TEST_SUITE("hub_download_test") {
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
}
