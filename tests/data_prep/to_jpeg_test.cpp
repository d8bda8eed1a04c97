// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Pictures of any kind become JPEG files; stopped anywhere and continued.
#include "mlmamba/data_prep/to_jpeg.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <string>

#include "io/temporary.hpp"
#include "mlmamba/io/image.hpp"

using namespace mlmamba;
using namespace mlmamba::data_prep;
using namespace mlmamba::test;
namespace fs = std::filesystem;

TEST_SUITE("to_jpeg_test") {
  TEST_CASE("pictures become JPEG files with Pillow's pixels; first frames of GIFs") {
    const temporary_folder folder;
    const fs::path from = test_data("data_prep/pictures"), to = folder / "images";
    fs::create_directories(to);
    std::size_t gifs = 0;
    for (const auto& e : fs::directory_iterator(from))
      if (e.path().extension() == ".gif") {
        fs::copy(e.path(), to / e.path().filename());
        ++gifs;
      }
    REQUIRE(gifs == 8);
#if defined(MLMAMBA_GIF)
    const conversion done = convert_to_jpeg(to);
    CHECK(done.failed.empty());
    CHECK(done.converted == gifs);
    for (const auto& e : fs::directory_iterator(from)) {
      const fs::path name = e.path().stem();
      if (e.path().extension() == ".png") {
        const mapped_file gif(from / (name.string() + ".gif"));
        CHECK_MESSAGE(decode_gif(gif.bytes(), name.string()) == read_image(e.path()),
                      name.string());
      }
      if (e.path().extension() == ".jpg")
        CHECK_MESSAGE(read_image(to / e.path().filename()) == read_image(e.path()), name.string());
    }
#else
    const conversion done = convert_to_jpeg(to);
    CHECK(done.converted == 0);
    CHECK(done.failed.size() == gifs);
    CHECK(contains(done.failed.at(0), "libgif-dev"));
#endif
  }

  TEST_CASE("a conversion leaves JPEG files alone, names what is none, goes on after a kill") {
    const temporary_folder folder;
    const fs::path to = folder / "images";
    fs::create_directories(to);
    const std::string png = slurp(test_data("data_prep/pictures/grey.png"));
    spill(to / "a.png", png);
    spill(to / "b.jpg", "not touched");
    spill(to / "b.png", png);
    spill(to / "c.JPEG", "not touched");
    spill(to / "d.gif", png);                                               // a suffix that lies
    spill(to / "d.png", slurp(test_data("data_prep/pictures/local.png")));  // the second of a name
    spill(to / "e.png", png.substr(0, 100));
    spill(to / "f.txt", "text");
    fs::create_directories(folder / ".images.converting");
    spill(folder / ".images.converting/a.jpg", "half");
    for (int run = 0; run < 2; ++run) {
      const conversion done = convert_to_jpeg(to);
      CHECK(done.converted == (run == 0 ? 2 : 0));
      REQUIRE(done.failed.size() == 2);
      CHECK(contains(done.failed[0] + done.failed[1], "e.png: PNG can't be read"));
      CHECK(contains(done.failed[0] + done.failed[1],
                     "f.txt: a .jpg, .jpeg, .png or .gif is wanted"));
      CHECK(read_image(to / "a.jpg").width == 24);
      CHECK(read_image(to / "d.jpg").height == 31);
      CHECK(slurp(to / "b.jpg") == "not touched");
      CHECK(!fs::exists(to / "e.jpg"));
      CHECK(!fs::exists(folder / ".images.converting"));
    }
  }
}
