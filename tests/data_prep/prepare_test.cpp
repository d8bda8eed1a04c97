// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Components of data sets: fetched, extracted; stopped anywhere and continued.
#include "mlmamba/data_prep/prepare.hpp"

#include <doctest/doctest.h>

#include <map>
#include <memory>
#include <string>

#include "data_prep/stand_ins.hpp"
#include "io/hub_server.hpp"
#include "io/temporary.hpp"

using namespace mlmamba;
using namespace mlmamba::data_prep;
using namespace mlmamba::test;
namespace fs = std::filesystem;

namespace {

/// Path below the folder -> contents ("/" for a folder), the lock apart.
std::map<std::string, std::string> tree(const fs::path& folder) {
  std::map<std::string, std::string> all;
  for (const auto& e : fs::recursive_directory_iterator(folder))
    all[e.path().lexically_relative(folder).string()] = e.is_directory() ? "/" : slurp(e.path());
  return all;
}

/// A server that has files by "/PATH", with an ETag of its own.
http_server files_server(const std::map<std::string, std::string>& files, std::string tag = "1",
                         std::size_t cut = std::string::npos) {
  return http_server([=](const server_request& r) -> server_reply {
    const auto at = files.find(r.target.substr(1));
    if (at == files.end()) return {.status = 404};
    server_reply reply = fake_hub::bytes(r, at->second);
    reply.headers.push_back("ETag: \"" + tag + "\"");
    reply.cut = cut;
    return reply;
  });
}

fetch_options mirror_of(const http_server& server) {
  fetch_options how;
  how.mirror = server.address();
  how.retries = 0;
  how.pause = std::chrono::milliseconds(0);
  return how;
}

fetcher nobody() {
  fetch_options how;
  how.offline = true;
  return fetcher(how);
}

struct prepared {
  temporary_folder folder;
  fs::path data = folder / "data";
  prepared() { fs::create_directories(data); }
  std::string error(const component& c, const fetcher& fetch) const {
    return message_of<io_error>([&] { prepare(c, data, fetch); });
  }
};

constexpr component coco{"coco/train2017", "train2017.zip",
                         "http://images.cocodataset.org/zips/train2017.zip"};
constexpr component laion{"images", "images.zip", "http://host/images.zip", component_kind::merged};
constexpr component chat{"chat.json", "blip.json", "http://host/blip.json", component_kind::file};

}  // namespace

TEST_SUITE("prepare_test") {
  TEST_CASE("a component is fetched, extracted and named; a second call asks for nothing") {
    const auto files = stand_ins();
    const auto server = files_server(files);
    const fetcher fetch(mirror_of(server));
    for (const recipe& r : recipes) {
      if (r.id == "llava-lrv" || r.id == "llava-lvis4v-lrv") continue;
      const prepared p;
      for (const component& c : r.components) CHECK(prepare(c, p.data, fetch));
      const auto asked = server.requests().size();
      const auto once = tree(p.data);
      for (const component& c : r.components) CHECK(!prepare(c, p.data, fetch));
      CHECK(server.requests().size() == asked);
      CHECK(tree(p.data) == once);
      for (const component& c : r.components)
        CHECK(once.contains(std::string(c.kind == component_kind::merged ? "00453" : c.name)));
      for (const auto& [name, contents] : once) {
        CHECK(!contains(name, ".incomplete"));
        CHECK(!contains(name, ".extracting"));
        CHECK(!contains(name, ".writing"));
        CHECK(!contains(name, "MACOSX"));
      }
      if (r.id == "llava-v1.5-instruct") {
        CHECK(once.at("vg/VG_100K/" + some_name(3)) != once.at("gqa/images/" + some_name(4)));
        CHECK(once.contains("ocr_vqa/images/b.gif"));
      }
    }
  }

  TEST_CASE("archives that are there are used without a network") {
    const prepared p;
    spill(p.data / "train2017.zip", pictures_zip({"train2017"}, 3));
    CHECK(prepare(coco, p.data, nobody()));
    CHECK(fs::exists(p.data / "coco/train2017" / some_name(2)));
    spill(p.data / "blip.json", "[]");
    CHECK(prepare(chat, p.data, nobody()));
    CHECK(slurp(p.data / "chat.json") == "[]");
    CHECK(!fs::exists(p.data / "blip.json"));
    CHECK(contains(p.error(laion, nobody()),
                   "HF_HUB_OFFLINE); put the file of http://host/images.zip"));
  }

  TEST_CASE("an extraction that was killed is continued: no matter where") {
    const std::string archive = pictures_zip({"train2017"}, 8);
    const prepared whole;
    spill(whole.data / "train2017.zip", archive);
    prepare(coco, whole.data, nobody());
    const auto want = tree(whole.data);

    prepared p;
    spill(p.data / "train2017.zip", archive);
    const fs::path aside = p.data / "coco/.train2017.extracting";
    SUBCASE("in the middle of a file") {
      fs::create_directories(aside / "train2017");
      spill(aside / "train2017" / some_name(0), want.at("coco/train2017/" + some_name(0)));
      spill(aside / "train2017" / some_name(1), "half");
    }
    SUBCASE("before the rename") { extract_zip(p.data / "train2017.zip", aside); }
    SUBCASE("after the rename") {
      fs::create_directories(p.data / "coco");
      fs::copy(whole.data / "coco/train2017", p.data / "coco/train2017");
      fs::create_directories(aside);
    }
    SUBCASE("while a beginning of the archive was not yet removed") {
      spill(p.data / "train2017.zip.0123456789abcdef.incomplete", "PK");
    }
    SUBCASE("by somebody who made the folder and nothing in it") {
      fs::create_directories(p.data / "coco/train2017");
    }
    prepare(coco, p.data, nobody());
    CHECK(tree(p.data) == want);
  }

  TEST_CASE("a merged component: killed while it was moved, extracted by another program") {
    const std::string archive = pictures_zip({"00000", "00453", "00659"}, 5);
    const prepared whole;
    spill(whole.data / "images.zip", archive);
    spill(whole.data / "chat.json", "[]");
    CHECK(prepare(laion, whole.data, nobody()));
    const auto want = tree(whole.data);
    CHECK(want.contains("00453/" + some_name(4)));
    CHECK(want.contains(".images.complete"));

    const prepared p;
    spill(p.data / "images.zip", archive);
    spill(p.data / "chat.json", "[]");
    const fs::path aside = p.data / ".images.extracting";
    SUBCASE("folders moved, not all") {
      extract_zip(p.data / "images.zip", aside);
      fs::rename(aside / "00000", p.data / "00000");
    }
    SUBCASE("a folder half moved into one that was there") {
      extract_zip(p.data / "images.zip", aside);
      fs::create_directories(p.data / "00659");
      fs::rename(aside / "00659" / some_name(1), p.data / "00659" / some_name(1));
    }
    SUBCASE("all moved, no marker; or extracted by the original") {
      extract_zip(p.data / "images.zip", p.data);
    }
    SUBCASE("the marker half written") {
      extract_zip(p.data / "images.zip", p.data);
      fs::create_directories(p.data / "..images.complete.writing");
      spill(p.data / "..images.complete.writing/.images.complete.tmp1.0", "");
    }
    CHECK(prepare(laion, p.data, nobody()));
    CHECK(tree(p.data) == want);
    CHECK(!prepare(laion, p.data, nobody()));
  }

  TEST_CASE("a merged archive can't put a file or something hidden beside the lists") {
    for (const char* name : {"chat.json", ".images.complete/x", ".lock"}) {
      const prepared p;
      spill(p.data / "chat.json", "mine");
      spill(p.data / "images.zip",
            make_zip({{.name = "00000/a", .contents = "a"}, {.name = name, .contents = "b"}}));
      CHECK(contains(p.error(laion, nobody()), "folders of pictures are wanted"));
      CHECK(slurp(p.data / "chat.json") == "mine");
      CHECK(!fs::exists(p.data / "00000"));
    }
  }

  TEST_CASE("a damaged archive is named, with what to do; nothing is made of it") {
    const prepared p;
    spill(p.data / "train2017.zip", pictures_zip({"train2017"}, 8).substr(0, 2000));
    const std::string message = p.error(coco, nobody());
    CHECK(contains(message, "truncated"));
    CHECK(contains(message, "remove " + (p.data / "train2017.zip").string()));
    CHECK(!fs::exists(p.data / "coco/train2017"));
  }

  TEST_CASE("a download that breaks off is continued, but not with another version") {
    const std::string archive = pictures_zip({"train2017"}, 8);
    const std::string other = pictures_zip({"train2017"}, 9);
    const std::string path = "images.cocodataset.org/zips/train2017.zip";
    const prepared p;
    {
      const auto server = files_server({{path, archive}}, "1", 5000);
      CHECK(contains(p.error(coco, fetcher(mirror_of(server))), "broke off after 5000 of"));
      CHECK(!fs::exists(p.data / "train2017.zip"));
    }
    {
      const auto server = files_server({{path, archive}}, "1");
      fetch_options how = mirror_of(server);
      const fetcher fetch(how);
      fetch(coco.address, p.data / "train2017.zip");
      CHECK(slurp(p.data / "train2017.zip") == archive);
      CHECK(server.requests().back().header("range") == "bytes=5000-");
      fs::remove(p.data / "train2017.zip");
    }
    {
      const auto server = files_server({{path, archive}}, "1", 5000);
      CHECK(contains(p.error(coco, fetcher(mirror_of(server))), "broke off"));
    }
    {
      const auto server = files_server({{path, other}}, "2");
      CHECK(prepare(coco, p.data, fetcher(mirror_of(server))));
      CHECK(slurp(p.data / "train2017.zip") == other);
      CHECK(server.requests().back().header("range").empty());
      for (const auto& [name, contents] : tree(p.data)) CHECK(!contains(name, "incomplete"));
    }
  }

  TEST_CASE("of the hub, size and hash are checked, and the token goes to it alone") {
    fake_hub hub{.files = {{"datasets/a/b/x.json", std::string(5000, 'x')}}};
    const component c{"x.json", "x.json", "https://huggingface.co/datasets/a/b/resolve/main/x.json",
                      component_kind::file};
    const http_server server(hub);
    fetch_options how = mirror_of(server);
    how.hub = std::exchange(how.mirror, "");
    how.token = "hf_secret";
    const prepared p;
    CHECK(prepare(c, p.data, fetcher(how)));
    CHECK(slurp(p.data / "x.json") == std::string(5000, 'x'));
    CHECK(server.requests().back().header("authorization") == "Bearer hf_secret");

    // large files lie elsewhere, where nothing but GET is allowed, and nobody has a right to the
    // token
    const http_server cdn([&hub](const server_request& r) -> server_reply {
      return r.method == "GET" ? fake_hub::bytes(r, hub.files.begin()->second)
                               : server_reply{.status = 403};
    });
    fake_hub redirecting = hub;
    redirecting.cdn = cdn.address("localhost");
    const http_server front(redirecting);
    how.hub = front.address();
    const prepared elsewhere;
    CHECK(prepare(c, elsewhere.data, fetcher(how)));
    CHECK(slurp(elsewhere.data / "x.json") == std::string(5000, 'x'));
    CHECK(cdn.count("HEAD") == 0);
    CHECK(cdn.requests().back().header("authorization").empty());

    const http_server liar([hub](const server_request& r) {
      server_reply reply = hub(r);
      if (r.method == "GET") reply.body[17] = 'y';
      return reply;
    });
    how.hub = liar.address();
    const prepared q;
    CHECK(contains(q.error(c, fetcher(how)), "the checksum of what came"));
    CHECK(tree(q.data).empty());

    how.mirror = server.address();  // not the hub: no token
    CHECK(contains(q.error(c, fetcher(how)), "has the repository, but not this file"));
    CHECK(server.requests().back().header("authorization").empty());
    CHECK(server.requests().back().target == "/huggingface.co/datasets/a/b/resolve/main/x.json");
  }

  TEST_CASE("what a server does wrong is said in a line") {
    const prepared p;
    const auto said = [&](server_reply reply) {
      const http_server server([&](const server_request&) { return reply; });
      return p.error(coco, fetcher(mirror_of(server)));
    };
    CHECK(contains(said({.status = 404}),
                   "does not have /images.cocodataset.org/zips/train2017.zip (404)"));
    CHECK(contains(said({.status = 403}), "denies access (403)"));
    CHECK(contains(said({.status = 500}), "answered 500"));
    CHECK(contains(said({.body = "x", .length = false}), "does not say how large it is"));
    CHECK(contains(said({.raw = "nonsense"}), "can't be talked to"));
    CHECK(tree(p.data) == std::map<std::string, std::string>{{"coco", "/"}});
    fetch_options how;
    how.mirror = "http://127.0.0.1:1";
    how.retries = 0;
    CHECK(contains(p.error(coco, fetcher(how)), "no connection to 127.0.0.1"));
    CHECK(contains(p.error(coco, fetcher(how)), "files that are put there are used"));
  }
}
