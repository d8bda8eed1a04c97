// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Resampling and the transforms of vision towers: equal bit for bit to Pillow and torchvision.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <cstdio>
#include <filesystem>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "io/temporary.hpp"
#include "mlmamba/io/convert.hpp"
#include "mlmamba/io/image.hpp"
#include "mlmamba/io/image_transform.hpp"
#include "mlmamba/io/json.hpp"
#include "mlmamba/io/resize.hpp"
#include "mlmamba/io/safetensors.hpp"

using namespace mlmamba;

namespace {

image picture_of(const safetensors_entry& entry) {
  REQUIRE(entry.shape.size() == 3);
  REQUIRE(entry.shape[2] == 3);
  image picture;
  picture.height = static_cast<int>(entry.shape[0]);
  picture.width = static_cast<int>(entry.shape[1]);
  picture.rgb = read_values<std::uint8_t>(entry);
  return picture;
}
image noise(int width, int height) {
  image picture =
      detail::allocate_image(static_cast<std::uint64_t>(width), static_cast<std::uint64_t>(height));
  std::uint32_t seed = 9;
  for (auto& u : picture.rgb)
    u = static_cast<std::uint8_t>((seed = seed * 1664525u + 1013904223u) >> 24);
  return picture;
}

/// CRC-32 of the bytes of numbers, as zlib has it.
template <class T>
std::string crc_of(const std::vector<T>& values) {
  static const auto table = [] {
    std::array<std::uint32_t, 256> t{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      t[i] = i;
      for (int k = 0; k < 8; ++k) t[i] = t[i] >> 1 ^ (t[i] & 1 ? 0xEDB88320u : 0);
    }
    return t;
  }();
  std::uint32_t crc = 0xFFFFFFFFu;
  for (const std::byte b : std::as_bytes(std::span(values)))
    crc = crc >> 8 ^ table[(crc ^ std::to_integer<std::uint32_t>(b)) & 0xFF];
  char text[9];
  std::snprintf(text, sizeof text, "%08x", ~crc);
  return text;
}

}  // namespace

TEST_SUITE("resize_test") {
  TEST_CASE("both orders of the passes equal the Pillow that has them") {
    for (const auto& one : {std::pair{"columns_first", resample_order::columns_first},
                            std::pair{"tall_rows_first", resample_order::tall_rows_first}}) {
      // (clang 14 lets CAPTURE have no structured binding)
      const char* const name = one.first;
      const resample_order order = one.second;
      const auto file = safetensors_file::open(
          test::test_data("io/pictures/resize_" + std::string(name) + ".safetensors"));
      int others = 0;
      for (int i = 0; i < 6; ++i) {
        CAPTURE(name);
        CAPTURE(i);
        const image in = picture_of(file.at("in." + std::to_string(i)));
        const image want = picture_of(file.at("out." + std::to_string(i)));
        CHECK(resize_bicubic(in, want.width, want.height, order) == want);
        const auto other = order == resample_order::columns_first ? resample_order::tall_rows_first
                                                                  : resample_order::columns_first;
        others += resize_bicubic(in, want.width, want.height, other) != want;
      }
      CHECK(others == 2);  // the order can be told apart
    }
  }

  TEST_CASE("towers and strategies equal torchvision on Pillow 13") {
    int found = 0;
    for (const auto& at : std::filesystem::directory_iterator(test::test_data("golden"))) {
      const std::string name = at.path().filename().string();
      if (!name.starts_with("image_transform") || at.path().extension() != ".safetensors") continue;
      CAPTURE(name);
      ++found;
      const auto file = safetensors_file::open(at.path());
      const auto& options = file.metadata();
      const int size = std::stoi(options.at("size"));
      auto transform = image_transform::of_tower(options.at("tower"), size,
                                                 resize_strategy_of(options.at("strategy")));
      transform.order = resample_order::tall_rows_first;
      const image in = picture_of(file.at("in.image"));
      CHECK(transform.pixels(in) == picture_of(file.at("out.image")));
      const auto want = read_values<float>(file.at("out.pixels"));
      const auto got = transform(in);
      REQUIRE(got.size() == want.size());
      // The fixtures were normalised in double. Here: three roundings of at most 2^-24 each, of
      // u / 255 <= 1, of the difference <= 1, of the quotient <= 1 / std.
      const double least = *std::min_element(transform.std.begin(), transform.std.end());
      const double most = 4 * 0x1p-24 / least;
      bool close = true;
      for (std::size_t k = 0; k < got.size(); ++k)
        close = close && std::abs(double{got[k]} - double{want[k]}) <= most;
      CHECK(close);
    }
    CHECK(found >= 12);
  }

  TEST_CASE("whole pictures through every tower and strategy equal torchvision and timm") {
    const json golden = read_json(test::test_data("io/pictures/transforms.json"));
    int pictures = 0, squares = 0;
    for (const json& p : golden.at("pictures")) {
      const auto name = p.at("file").get<std::string>();
      image in;
      if (name.empty()) {
        in = noise(p.at("width").get<int>(), p.at("height").get<int>());
      } else {
        const auto file = test::shared_data("images/" + name);
        if (!std::filesystem::exists(file)) {
          MESSAGE("skipped: no ", file.string(), " (set MLMAMBA_SHARED_DATA)");
          continue;
        }
        in = read_image(file);
        CHECK(in.width == p.at("width").get<int>());
      }
      CAPTURE(name);
      CAPTURE(in.width);
      CHECK(crc_of(in.rgb) == p.at("crc").get<std::string>());
      ++pictures;
      for (const auto& square : p.at("squares").items()) {
        const std::string what = square.key();
        const json& want = square.value();
        std::istringstream words(what);
        std::string tower, strategy;
        int size = 0;
        words >> tower >> size >> strategy;
        auto t = image_transform::of_tower(tower == "clip-b" ? "clip" : tower, size,
                                           resize_strategy_of(strategy));
        if (tower == "clip-b") t.shorter_edge = 248;  // not mended in the original
        CAPTURE(what);
        CHECK(crc_of(t.pixels(in).rgb) == want.at(0).get<std::string>());
        CHECK(crc_of(t(in)) == want.at(1).get<std::string>());
        ++squares;
      }
    }
    CHECK(pictures >= 13);
    CHECK(squares == 21 * pictures);
  }

  TEST_CASE("normalisation is the float arithmetic of torch on a CPU") {
    const auto t = image_transform::of_tower("dinov2", 1);
    const image dot{1, 1, {254, 94, 7}};
    const auto got = t(dot);
    for (std::size_t c = 0; c < 3; ++c) {
      const float x = static_cast<float>(dot.rgb[c]) / 255.0f;
      CHECK(got[c] == (x - static_cast<float>(t.mean[c])) / static_cast<float>(t.std[c]));
    }
  }

  TEST_CASE("the same size is the same picture, and one pixel fills any size") {
    const image in = noise(9, 5);
    CHECK(resize_bicubic(in, 9, 5) == in);
    const image dot = noise(1, 1);
    const image wide = resize_bicubic(dot, 7, 3);
    for (int k = 0; k < 21; ++k)
      for (std::size_t c = 0; c < 3; ++c) CHECK(wide.rgb[3 * std::size_t(k) + c] == dot.rgb[c]);
  }

  TEST_CASE("a window is a part of the whole") {
    const image in = noise(40, 90);
    for (auto order : {resample_order::columns_first, resample_order::tall_rows_first}) {
      for (const auto& [w, h] : {std::pair{30, 21}, std::pair{40, 50}, std::pair{70, 90}}) {
        const image whole = resize_bicubic(in, w, h, order);
        const image_window window{3, 5, 20, 11};
        const image part = resize_bicubic(in, w, h, window, {}, order);
        for (int y = 0; y < window.height; ++y)
          CHECK(std::memcmp(part.row(y), whole.row(y + window.y) + 3 * window.x,
                            part.row_bytes()) == 0);
      }
    }
  }

  TEST_CASE("padding equals a padded picture") {
    const image in = noise(10, 37);
    image_padding padding{4, 6, 3, 0, {9, 8, 7}};
    image padded = detail::allocate_image(20, 40);
    for (std::size_t k = 0; k < padded.rgb.size(); ++k) padded.rgb[k] = padding.colour[k % 3];
    for (int y = 0; y < in.height; ++y)
      std::memcpy(padded.row(y + padding.top) + 3 * padding.left, in.row(y), in.row_bytes());
    for (auto order : {resample_order::columns_first, resample_order::tall_rows_first})
      for (const auto& [w, h] : {std::pair{13, 9}, std::pair{20, 16}, std::pair{50, 40}})
        CHECK(resize_bicubic(in, w, h, {0, 0, w, h}, padding, order) ==
              resize_bicubic(padded, w, h, order));
  }

  TEST_CASE("strips of 20,000 pixels pass every strategy in little memory") {
    for (auto strategy :
         {resize_strategy::naive, resize_strategy::crop, resize_strategy::letterbox}) {
      for (const image& in : {noise(20000, 1), noise(1, 20000)}) {
        const auto t = image_transform::of_tower("dinov2", 56, strategy);
        CHECK(t(in).size() == 3 * 56 * 56);
      }
    }
  }

  TEST_CASE("a larger shorter edge leaves a margin to crop") {
    image_transform t{8, resize_strategy::crop};
    t.shorter_edge = 10;
    const image in = noise(30, 20);
    const image whole = resize_bicubic(in, 15, 10), part = t.pixels(in);
    // 15 - 8 = 7: a half of 3.5 rounds to the even 4; 10 - 8 = 2: 1.
    for (int y = 0; y < 8; ++y) CHECK(std::memcmp(part.row(y), whole.row(y + 1) + 3 * 4, 24) == 0);
  }

  TEST_CASE("nonsense is refused") {
    const image in = noise(4, 4);
    CHECK_THROWS_AS(resize_bicubic(in, 0, 4), shape_error);
    CHECK_THROWS_AS(resize_bicubic(image{}, 4, 4), shape_error);
    CHECK_THROWS_AS(resize_bicubic(in, 4, 4, {1, 0, 4, 4}), shape_error);
    CHECK_THROWS_AS(resize_bicubic(in, 4, 4, {0, 0, 4, 4}, {-1, 0, 0, 0}), shape_error);
    CHECK_THROWS_AS((image_transform{0}.pixels(in)), shape_error);
    CHECK_THROWS_AS((image_transform{8, resize_strategy::crop, {}, {1, 1, 1}, 7}.pixels(in)),
                    shape_error);
    CHECK_THROWS_AS((image_transform{8, resize_strategy::crop, {}, {0, 1, 1}}.pixels(in)),
                    shape_error);
    CHECK_THROWS_AS(image_transform{8}.pixels(image{}), shape_error);
    std::vector<float> few(5);
    CHECK_THROWS_AS(image_transform{8}.write(in, few), shape_error);
    CHECK_THROWS_AS(image_transform::of_tower("vgg", 8), error);
    CHECK_THROWS_AS(resize_strategy_of("corner-pad"), error);
    image broken = in;
    broken.rgb.pop_back();
    CHECK_THROWS_AS(resize_bicubic(broken, 2, 2), shape_error);
  }
}
