// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Garment files: IDX that lies is refused, a written set reads back, the real photos load.
#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "mlmamba/io/image.hpp"
#include "mlmamba/io/json.hpp"
#include "mlmamba/train/garment.hpp"
#include "mlmamba/train/garment/write.hpp"
#include "train/garment_photos.hpp"

namespace {

namespace garment = mlmamba::train::garment;
using garment::made_up;
using garment::question_type;
namespace fs = std::filesystem;

struct folder {
  fs::path path;
  folder() {
    static int serial = 0;
    path = fs::temp_directory_path() /
           ("garment_test." + std::to_string(::getpid()) + "." + std::to_string(serial++));
    fs::create_directories(path);
  }
  ~folder() { fs::remove_all(path); }
  std::string put(const std::string& name, const std::string& bytes) const {
    std::ofstream(path / name, std::ios::binary) << bytes;
    return (path / name).string();
  }
  std::string get(const fs::path& name) const {
    std::ifstream file(path / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
};

TEST_SUITE("train/garment_files") {
  TEST_CASE("a written set reads back: JSON, pictures, any number of threads") {
    for (const auto which : {garment::split::train, garment::split::test}) {
      const garment::source photos = made_up(which);
      const std::string name = garment::name_of(which);
      const folder a, b;
      const garment::options want{.size = 48, .turns = 5};
      std::uint64_t last = 0;
      const auto sum = garment::write_scenes(photos, a.path, 150, 9, want, 1,
                                             [&](std::uint64_t done) { last = done; });
      garment::write_scenes(photos, b.path, 150, 9, want, 3, {});
      CHECK(last == 150);
      CHECK(2 * sum.yes == sum.questions[0]);
      const std::string text = a.get(name + ".json");
      CHECK(text == b.get(name + ".json"));
      const mlmamba::json records = mlmamba::parse_json(text, "set"),
                          recipe = mlmamba::parse_json(a.get(name + ".recipe.json"), "recipe");
      CHECK(recipe["scenes"] == 150);
      CHECK(recipe["questions"]["presence"] == sum.questions[0]);
      std::size_t at = 0;
      for (std::uint64_t i = 0; i < 150; ++i) {
        const garment::scene s = garment::make_scene(photos, 9, i, want);
        const std::string picture = garment::picture_path(which, i);
        REQUIRE(a.get(picture) == b.get(picture));
        CHECK(mlmamba::read_image(a.path / picture) == garment::to_image(s));
        const bool train = which == garment::split::train;
        for (std::size_t k = 0; k < s.questions.size(); ++k) {
          const auto& record = records.at(at + (train ? 0 : k));
          const auto& turns = record.at("conversations");
          const std::size_t turn = train ? 2 * k : 0;
          CHECK(record.at("image") == picture);
          CHECK(turns.at(turn).at("from") == "human");
          CHECK(turns.at(turn).at("value") == (turn == 0 ? "<image>\n" : "") + s.questions[k].text);
          CHECK(turns.at(turn + 1).at("from") == "gpt");
          CHECK(turns.at(turn + 1).at("value") == s.questions[k].answer);
          if (train) continue;
          CHECK(record.at("answer") == s.questions[k].answer);
          CHECK(record.at("type") ==
                garment::question_type_names[std::size_t(s.questions[k].type)]);
          CHECK(record.contains("negative") == (s.questions[k].type == question_type::presence));
        }
        at += train ? 1 : s.questions.size();
      }
      CHECK(at == records.size());
    }
  }

  TEST_CASE("a folder that can't be written leaves no set") {
    const folder a;
    a.put("train", "a file where a folder is wanted");
    CHECK_THROWS_AS(garment::write_scenes(made_up(garment::split::train), a.path, 2, 1, {}, 1, {}),
                    mlmamba::io_error);
    CHECK(!fs::exists(a.path / "train.json"));
  }

  TEST_CASE("IDX files that lie, end early or go on are refused") {
    using namespace std::string_literals;
    const folder f;
    const std::string sound = "\0\0\x08\x01\0\0\0\x03"s + "abc";
    CHECK(garment::read_idx(f.put("sound", sound), 1).bytes.size() == 3);
    const auto refused = [&](const std::string& bytes, std::size_t rank) {
      CHECK_THROWS_AS(garment::read_idx(f.put("bad", bytes), rank), mlmamba::io_error);
    };
    for (std::size_t n = 0; n < sound.size(); ++n) refused(sound.substr(0, n), 1);
    refused(sound + "d", 1);
    refused(sound, 3);                                                            // other rank
    refused("\0\0\x0d\x01\0\0\0\x03"s + "abc", 1);                                // floats
    refused("\0\0\x08\x03\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"s, 3);  // overflow
    refused("\0\0\x08\x01\x3f\xff\xff\xff"s + "abc", 1);                          // claims 1 GiB
    CHECK_THROWS_AS(garment::read_idx((f.path / "missing").string(), 1), mlmamba::io_error);
    CHECK_THROWS_AS(garment::read_idx(f.path.string(), 1), mlmamba::io_error);  // a folder

    const std::string packed_path = (f.path / "packed").string();
    const gzFile file = gzopen(packed_path.c_str(), "wb");
    REQUIRE(gzwrite(file, sound.data(), unsigned(sound.size())) == int(sound.size()));
    gzclose(file);
    CHECK(garment::read_idx(packed_path, 1).bytes[2] == 'c');
    const std::string packed = f.get("packed");
    for (std::size_t n = 0; n < packed.size(); ++n) refused(packed.substr(0, n), 1);
    for (std::size_t at = 10; at < packed.size(); ++at) {  // after the gzip header
      std::string broken = packed;
      broken[at] = char(broken[at] ^ 0x10);
      std::vector<std::uint8_t> read;
      try {
        read = garment::read_idx(f.put("bad", broken), 1).bytes;
      } catch (const mlmamba::io_error&) {
        continue;
      }
      CHECK(at == packed.size() - 9);  // the padding bits of the last deflate byte mean nothing
      CHECK(read == std::vector<std::uint8_t>{'a', 'b', 'c'});
    }
  }

  TEST_CASE("photos and labels that do not belong together are refused") {
    const auto images = [](std::size_t n, std::size_t side) {
      return garment::idx_file{{n, side, side}, std::vector<std::uint8_t>(n * side * side)};
    };
    const auto labels = [](std::size_t n, int last) {
      garment::idx_file out{{n}, std::vector<std::uint8_t>(n)};
      for (std::size_t i = 0; i < n; ++i) out.bytes[i] = std::uint8_t(i % 10);
      if (n) out.bytes[n - 1] = std::uint8_t(last);
      return out;
    };
    const auto make = [&](garment::idx_file a, garment::idx_file b) {
      garment::make_source(garment::split::train, std::move(a), std::move(b), "a test");
    };
    CHECK_NOTHROW(make(images(100, 28), labels(100, 9)));
    CHECK_THROWS_AS(make(images(100, 27), labels(100, 9)), mlmamba::io_error);
    CHECK_THROWS_AS(make(images(100, 28), labels(101, 9)), mlmamba::io_error);
    CHECK_THROWS_AS(make(images(100, 28), labels(100, 10)), mlmamba::io_error);
    CHECK_THROWS_AS(make(images(89, 28), labels(89, 8)), mlmamba::io_error);
    CHECK_THROWS_AS(make(images(0, 28), labels(0, 0)), mlmamba::io_error);
  }

  TEST_CASE("the real photos load, and a split has its own only") {
    if (!fs::exists(garment::default_folder)) {
      MESSAGE("skipped: Debian's dataset-fashion-mnist is not installed");
      return;
    }
    const garment::source test = garment::load_source(garment::split::test);
    const garment::source train = garment::load_source(garment::split::train);
    CHECK(test.size() == 10000);
    CHECK(train.size() == 60000);
    for (const auto& of : test.of_class) CHECK(of.size() == 1000);
    std::set<std::string_view> learned;
    const auto text = [](const garment::source& s, std::size_t i) {
      return std::string_view(reinterpret_cast<const char*>(s.photo(i)), garment::photo_pixels);
    };
    for (std::size_t i = 0; i < train.size(); ++i) learned.insert(text(train, i));
    std::size_t shared = 0;
    for (std::size_t i = 0; i < test.size(); ++i) shared += learned.count(text(test, i));
    MESSAGE("test photos that are also in the training split: ", shared);
    CHECK(shared < 10);
    for (std::uint64_t i = 0; i < 50; ++i)
      for (const auto& o : garment::make_scene(test, 1, i, {.turns = 0}).objects)
        CHECK(test.labels.at(o.photo) == o.kind);
  }
}

}  // namespace
