// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Pictures: equal to Pillow's pixels for every kind, and a clear refusal for everything else.
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "io/temporary.hpp"
#include "mlmamba/io/convert.hpp"
#include "mlmamba/io/image.hpp"
#include "mlmamba/io/safetensors.hpp"

using namespace mlmamba;
using mlmamba::test::bytes_of_text;
using mlmamba::test::message_of;

namespace {

std::string picture_text(std::string_view name) {
  return test::slurp(test::test_data("io/pictures") / name);
}
std::string refusal(const std::string& text, image_limits limits = {}) {
  return message_of<io_error>([&] { (void)decode_image(bytes_of_text(text), "p", limits); });
}
image striped(int width, int height) {
  image picture =
      detail::allocate_image(static_cast<std::uint64_t>(width), static_cast<std::uint64_t>(height));
  for (std::size_t k = 0; k < picture.rgb.size(); ++k)
    picture.rgb[k] = static_cast<std::uint8_t>(k * 7 + k / 61);
  return picture;
}
void put32(std::string& text, std::size_t at, std::uint32_t value) {
  for (std::size_t i = 0; i < 4; ++i) text[at + i] = static_cast<char>(value >> (24 - 8 * i));
}
/// The bytes of a PNG with another size in its header, checksum included.
std::string with_size(std::string png, std::uint32_t width, std::uint32_t height) {
  put32(png, 16, width);
  put32(png, 20, height);
  std::uint32_t crc = 0xFFFFFFFFu;
  for (std::size_t i = 12; i < 29; ++i) {
    crc ^= static_cast<std::uint8_t>(png[i]);
    for (int k = 0; k < 8; ++k) crc = (crc >> 1) ^ (0xEDB88320u & (0u - (crc & 1u)));
  }
  put32(png, 29, ~crc);
  return png;
}

}  // namespace

TEST_SUITE("image_test") {
  TEST_CASE("every kind of JPEG and PNG has Pillow's pixels") {
    const auto want = safetensors_file::open(test::test_data("io/pictures/expected.safetensors"));
    CHECK(want.entries().size() == 18);
    for (const auto& entry : want.entries()) {
      CAPTURE(entry.name);
      const image got = read_image(test::test_data("io/pictures") / entry.name);
      CHECK(entry.shape == std::vector<std::int64_t>{got.height, got.width, 3});
      CHECK(got.rgb == read_values<std::uint8_t>(entry));
    }
  }

  TEST_CASE("what is no picture is refused with its first bytes") {
    CHECK(refusal("") == "p: empty; a JPEG or PNG picture is wanted");
    CHECK(refusal("GIF89a..x") ==
          "p: begins with 47 49 46 38 39 61 2e 2e; a JPEG or PNG picture is wanted");
    CHECK(refusal("\xff\xd8") == "p: begins with ff d8; a JPEG or PNG picture is wanted");
    CHECK(refusal("\xff\xd8\xff").starts_with("p: JPEG can't be read ("));
    CHECK(refusal("\x89PNG\r\n\x1a\n").starts_with("p: PNG can't be read ("));
    CHECK_THROWS_AS(read_image(test::test_data("io/pictures/missing.png")), io_error);
    CHECK_THROWS_AS(read_image(test::test_data("io/pictures")), io_error);
  }

  TEST_CASE("every truncation is refused") {
    for (const char* name : {"rgb.png", "grey.png", "interlaced.png", "palette.png", "rgb16.png",
                             "420.jpg", "422_progressive.jpg", "grey.jpg", "cmyk.jpg"}) {
      const std::string text = picture_text(name);
      for (std::size_t n = 0; n < text.size(); ++n) {
        const std::string message = refusal(text.substr(0, n));
        if (message == "nothing was thrown") FAIL_CHECK(name, " cut to ", n, " bytes was accepted");
      }
    }
  }

  TEST_CASE("damage gives a picture or a refusal, never anything else") {
    std::uint32_t seed = 1;
    for (const char* name : {"rgb.png", "interlaced.png", "420.jpg", "422_progressive.jpg"}) {
      const std::string good = picture_text(name);
      for (int i = 0; i < 300; ++i) {
        std::string text = good;
        for (int k = 0; k < 3; ++k) {
          seed = seed * 1664525u + 1013904223u;
          text[(seed >> 8) % text.size()] = static_cast<char>(seed >> 3);
        }
        (void)refusal(text, {200, 10000});
      }
    }
  }

  TEST_CASE("sizes beyond the limits are refused before memory is taken") {
    const std::string png = picture_text("rgb.png");
    CHECK(refusal(with_size(png, 20001, 1)).find("20001 x 1 pixels; at most 20000") !=
          std::string::npos);
    CHECK(refusal(with_size(png, 20000, 20000)).find("at most") != std::string::npos);
    CHECK(refusal(with_size(png, 0x7fffffff, 0x7fffffff)).find("at most") != std::string::npos);
    CHECK(refusal(with_size(png, 16384, 16384)).find("the file is truncated") != std::string::npos);
    CHECK(refusal(with_size(png, 0, 3)).find("PNG can't be read") != std::string::npos);
    CHECK(refusal(png, {17, 17 * 11}) == "nothing was thrown");
    CHECK(refusal(png, {16, 1000}).find("at most 16 a side") != std::string::npos);
    CHECK(refusal(png, {17, 17 * 11 - 1}).find("186 in all") != std::string::npos);
    std::string jpeg = picture_text("420.jpg");  // height and width follow FF C0, length, precision
    const std::size_t frame = jpeg.find("\xff\xc0");
    jpeg.replace(frame + 5, 4, "\xea\x60\xea\x60");
    CHECK(refusal(jpeg).find("60000 x 60000 pixels; at most") != std::string::npos);
  }

  TEST_CASE("20,000 pixels a side work if thin the other way") {
    test::temporary_folder folder;
    for (const auto& [w, h] : {std::pair{20000, 1}, std::pair{1, 20000}, std::pair{1, 1}}) {
      const image picture = striped(w, h);
      write_png(folder / "thin.png", picture);
      CHECK(read_image(folder / "thin.png") == picture);
    }
  }

  TEST_CASE("write_png refuses what is no picture and leaves nothing behind") {
    test::temporary_folder folder;
    image picture = striped(3, 2);
    write_png(folder / "a.png", picture);
    CHECK(read_image(folder / "a.png") == picture);
    picture.rgb.pop_back();
    CHECK_THROWS_AS(write_png(folder / "b.png", picture), shape_error);
    CHECK_THROWS_AS(write_png(folder / "b.png", image{}), shape_error);
    CHECK_THROWS_AS(write_png(folder / "no/b.png", striped(1, 1)), io_error);
    CHECK(folder.count() == 1);
  }
}
