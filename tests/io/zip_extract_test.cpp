// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Extraction of zip archives: honest ones, hostile ones, and going on after a kill.
#include "mlmamba/io/zip_extract.hpp"

#include <doctest/doctest.h>

#include <sys/stat.h>

#include "io/temporary.hpp"
#include "io/zip_maker.hpp"

using namespace mlmamba;
using namespace mlmamba::test;
namespace fs = std::filesystem;

namespace {

std::string noise(std::size_t n, unsigned seed = 1) {
  std::string out;
  for (std::size_t i = 0; i < n; ++i) out += char((seed = seed * 1664525u + 1013904223u) >> 24);
  return out;
}

struct extraction {
  temporary_folder folder;
  fs::path archive = folder / "a.zip", to = folder / "out";
  extraction() = default;
  explicit extraction(const std::string& bytes) { spill(archive, bytes); }
  std::string error(const zip_extract_options& how = {}) const {
    return message_of<io_error>([&] { extract_zip(archive, to, how); });
  }
};

/// The message is one of a refusal, and nothing was written.
void refused(const std::vector<zip_member>& members, const std::string& words) {
  const extraction e(make_zip(members));
  const std::string message = e.error();
  CHECK_MESSAGE(message.find(words) != std::string::npos, message);
  CHECK(!fs::exists(e.to));
  CHECK(e.folder.count() == 1);
}

}  // namespace

TEST_SUITE("zip_extract_test") {
  TEST_CASE("stored and deflated files, folders, empty files, names in UTF-8, zip64") {
    for (const bool wide : {false, true}) {
      const std::string random = noise(700'000), long_text(900'000, 'x');
      const std::string mixed = long_text.substr(0, 20'000) + noise(20'000);
      const extraction e(make_zip({{.name = "top/", .deflate = false, .mode = 0040755},
                                   {.name = "top/empty/", .deflate = false},
                                   {.name = "top/stored", .contents = random, .deflate = false},
                                   {.name = "top/a/b/deflated", .contents = mixed},
                                   {.name = "top/noise", .contents = random},
                                   {.name = "top/nothing", .deflate = false},
                                   {.name = "top/Straße 1.jpg", .contents = "s", .mode = 0100600},
                                   {.name = "__MACOSX/._top", .contents = "mac"},
                                   {.name = "top/.DS_Store", .contents = "mac"}},
                                  wide));
      REQUIRE(e.error() == "nothing was thrown");
      CHECK(slurp(e.to / "top/stored") == random);
      CHECK(slurp(e.to / "top/a/b/deflated") == mixed);
      CHECK(slurp(e.to / "top/noise") == random);
      CHECK(slurp(e.to / "top/Straße 1.jpg") == "s");
      CHECK(fs::file_size(e.to / "top/nothing") == 0);
      CHECK(fs::is_empty(e.to / "top/empty"));
      CHECK(!fs::exists(e.to / "__MACOSX"));
      CHECK(!fs::exists(e.to / "top/.DS_Store"));
    }
  }

  TEST_CASE("names that lead out of the folder are refused, before anything is written") {
    for (const char* name :
         {"../x", "a/../../x", "/etc/x", "a//b", "./x", "..", "a\\..\\x", "a/\nb", "-/../x"})
      refused({{.name = "first", .contents = "1"}, {.name = name, .contents = "2"}},
              "lead out of the folder");
    refused({{.name = std::string(300, 'n'), .contents = "1"}}, "lead out of the folder");
    refused({{.name = std::string("a\0b", 3), .contents = "1"}}, "lead out of the folder");
  }

  TEST_CASE("links, devices, encryption, other methods, files that are folders are refused") {
    refused({{.name = "l", .contents = "/etc/passwd", .deflate = false, .mode = 0120777}},
            "symbolic link");
    refused({{.name = "d", .contents = "", .deflate = false, .mode = 0060644}}, "neither a file");
    refused({{.name = "e", .contents = "secret", .flags = 1}}, "encrypted");
    refused({{.name = "m", .contents = "packed", .method = 12}}, "method 12");
    refused({{.name = "a", .contents = "1"}, {.name = "a/b", .contents = "2"}}, "is a file");
    refused({{.name = "a", .contents = "1"}, {.name = "a/", .deflate = false}}, "is a file too");
    refused({{.name = "a", .contents = "1"}, {.name = "a", .contents = "2"}}, "two entries named");
    refused({{.name = "a/", .contents = "1", .deflate = false}}, "a folder of 1 bytes");
    refused({{.name = "a/", .deflate = false}}, "without files");
  }

  TEST_CASE("archives that swell are refused: by size, by sum, by sharing") {
    refused({{.name = "a", .contents = "1", .size = 4'000'000'000u}}, "says that its");
    refused({{.name = "a", .contents = "12", .deflate = false, .size = 3}}, "says that its");
    refused({{.name = "a", .contents = std::string(1'000'000, '0')}}, "at most 100 times");
    // the second entry's data lie inside the first's: its local header is part of them
    const std::string inner = make_zip({{.name = "b", .contents = "12345", .deflate = false}});
    refused({{.name = "a", .contents = inner, .deflate = false},
             {.name = "b", .contents = "12345", .deflate = false, .begin = 31}},
            "share bytes");
  }

  TEST_CASE("contents that are not what the directory says end with an error") {
    const auto message = [](const zip_member& m) { return extraction(make_zip({m})).error(); };
    const std::string text = noise(5000);
    CHECK(message({.name = "a", .contents = text, .sum = 7}).find("CRC-32") != std::string::npos);
    CHECK(message({.name = "a", .contents = text, .size = 4999}).find("more than the 4999") !=
          std::string::npos);
    CHECK(message({.name = "a", .contents = text, .size = 5001}).find("it says 5001") !=
          std::string::npos);
    CHECK(message({.name = "a", .contents = text, .deflate = false, .method = 8})
              .find("can't be inflated") != std::string::npos);
    std::string cut = make_zip({{.name = "a", .contents = text}});
    for (std::size_t n : {std::size_t{0}, std::size_t{3}, cut.size() / 2, cut.size() - 1}) {
      const extraction e(cut.substr(0, n));
      CHECK(e.error() != "nothing was thrown");
      CHECK(!fs::exists(e.to));
    }
  }

  TEST_CASE("a second call goes on: whole files stay, half and wrong ones are made anew") {
    const extraction e(make_zip({{.name = "d/whole", .contents = noise(4000, 2)},
                                 {.name = "d/half", .contents = noise(4000, 3)},
                                 {.name = "d/wrong", .contents = noise(4000, 4)},
                                 {.name = "d/missing", .contents = noise(4000, 5)},
                                 {.name = "d/elsewhere", .contents = noise(4000, 6)}}));
    fs::create_directories(e.to / "d");
    fs::create_directories(e.folder / "also/d");
    spill(e.to / "d/whole", noise(4000, 2));
    spill(e.to / "d/half", noise(4000, 3).substr(0, 1234));
    spill(e.to / "d/wrong", std::string(4000, '\0'));  // as a power cut leaves it
    spill(e.folder / "also/d/elsewhere", noise(4000, 6));
    struct stat before {
    }, after{};
    REQUIRE(::stat((e.to / "d/whole").c_str(), &before) == 0);
    REQUIRE(e.error({.also = e.folder / "also"}) == "nothing was thrown");
    REQUIRE(::stat((e.to / "d/whole").c_str(), &after) == 0);
    CHECK(before.st_ino == after.st_ino);
    CHECK(before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);
    CHECK(slurp(e.to / "d/half") == noise(4000, 3));
    CHECK(slurp(e.to / "d/wrong") == noise(4000, 4));
    CHECK(slurp(e.to / "d/missing") == noise(4000, 5));
    CHECK(!fs::exists(e.to / "d/elsewhere"));
  }

  TEST_CASE("a link that lies where a file goes is not written through") {
    const extraction e(make_zip({{.name = "f", .contents = "new"}}));
    fs::create_directories(e.to);
    spill(e.folder / "victim", "old");
    fs::create_symlink(e.folder / "victim", e.to / "f");
    CHECK(e.error().find("can't write") != std::string::npos);
    CHECK(slurp(e.folder / "victim") == "old");
  }

  TEST_CASE("too little room is said before the first byte") {
    // an honest stored entry of 8 TiB, which costs nothing as long as nobody reads it
    const std::uint64_t size = std::uint64_t{8} << 40;
    extraction e;
    std::string head, tail;
    using detail::put_number;
    const auto entry = [&](std::string& to, bool directory) {
      put_number(to, directory ? 0x02014b50 : 0x04034b50, 4);
      if (directory) put_number(to, 45, 2);
      put_number(to, 45, 2), put_number(to, 0, 2 + 2 + 4 + 4), put_number(to, 0xFFFFFFFF, 4);
      put_number(to, 0xFFFFFFFF, 4), put_number(to, 1, 2), put_number(to, 20, 2);
      if (directory) put_number(to, 0, 2 + 2), put_number(to, 0, 2 + 4 + 4);
      to += "f";
      put_number(to, 1, 2), put_number(to, 16, 2), put_number(to, size, 8), put_number(to, size, 8);
    };
    entry(head, false);
    entry(tail, true);
    const std::uint64_t at = head.size() + size, n = tail.size();
    put_number(tail, 0x06064b50, 4), put_number(tail, 44, 8), put_number(tail, 45, 2);
    put_number(tail, 45, 2), put_number(tail, 0, 8), put_number(tail, 1, 8), put_number(tail, 1, 8);
    put_number(tail, n, 8), put_number(tail, at, 8);
    put_number(tail, 0x07064b50, 4), put_number(tail, 0, 4), put_number(tail, at + n, 8);
    put_number(tail, 1, 4);
    put_number(tail, 0x06054b50, 4), put_number(tail, 0, 4), put_number(tail, 0xFFFF, 2);
    put_number(tail, 0xFFFF, 2), put_number(tail, 0xFFFFFFFF, 4), put_number(tail, 0xFFFFFFFF, 4);
    put_number(tail, 0, 2);
    std::ofstream file(e.archive, std::ios::binary);
    file.write(head.data(), std::streamsize(head.size()));
    file.seekp(std::streamoff(at));
    file.write(tail.data(), std::streamsize(tail.size()));
    file.close();
    if (!file) {
      MESSAGE("skipped: no sparse file of 8 TiB here");
      return;
    }
    const std::string message = e.error();
    CHECK_MESSAGE(message.find("1 files of 8796.1 GB are to be extracted") != std::string::npos,
                  message);
    CHECK(message.find("the disk has room for") != std::string::npos);
    CHECK(fs::is_empty(e.to));
  }
}
