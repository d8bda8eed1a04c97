// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// JSON: what is accepted, what is refused, and what the refusal says.
#include <cmath>
#include <string>

#include <doctest/doctest.h>

#include "io/temporary.hpp"
#include "mlmamba/io/json.hpp"
#include "mlmamba/io/write_file.hpp"

using namespace mlmamba;
using mlmamba::test::message_of;

TEST_SUITE("json_test") {
  TEST_CASE("values come back as the type asked for") {
    const json j = parse_json(R"({"i": 3, "neg": -2, "f": 1.5, "s": "x", "b": true,
                                  "v": [1, 2], "n": null, "inf": Infinity,
                                  "w": [-Infinity, NaN], "o": {"__float__": "Infinity"},
                                  "text": "Infinity, \"NaN"})",
                              "c");
    CHECK(json_get<int>(j, "i", "c") == 3);
    CHECK(json_get<double>(j, "i", "c") == 3.0);
    CHECK(json_get<std::int8_t>(j, "neg", "c") == -2);
    CHECK(json_get<float>(j, "f", "c") == 1.5f);
    CHECK(json_get<std::string>(j, "s", "c") == "x");
    CHECK(json_get<bool>(j, "b", "c"));
    CHECK(json_get<std::vector<int>>(j, "v", "c") == std::vector<int>{1, 2});
    CHECK(json_get_or<int>(j, "n", 7, "c") == 7);
    CHECK(json_get_or<int>(j, "absent", 8, "c") == 8);
    CHECK(json_get_or<int>(j, "i", 8, "c") == 3);
    CHECK(json_get<float>(j, "inf", "c") == INFINITY);
    CHECK(json_get<float>(j, "o", "c") == INFINITY);
    const auto w = json_get<std::vector<double>>(j, "w", "c");
    CHECK(w[0] == -INFINITY);
    CHECK(std::isnan(w[1]));
    CHECK(json_get<std::string>(j, "text", "c") == "Infinity, \"NaN");
    CHECK_FALSE(json_has(j, "n"));
  }

  TEST_CASE("a wrong type names file, key, value and wish") {
    const json j = parse_json(
        R"({"d_model": "abc", "big": 300, "neg": -1, "f": 2.5, "v": [1, "x"]})", "config.json");
    const auto message = [&](auto t, const char* key) {
      return message_of<io_error>([&] { (void)json_get<decltype(t)>(j, key, "config.json"); });
    };
    CHECK(message(0, "d_model") == R"(config.json: "d_model" is "abc"; an integer is wanted)");
    CHECK(message(std::int8_t{}, "big") ==
          R"(config.json: "big" is 300; a smaller integer is wanted)");
    CHECK(message(0u, "neg") ==
          R"(config.json: "neg" is -1; an integer that is not negative is wanted)");
    CHECK(message(0, "f") == R"(config.json: "f" is 2.5; an integer is wanted)");
    CHECK(message(0.0, "d_model") == R"(config.json: "d_model" is "abc"; a number is wanted)");
    CHECK(message(false, "f") == R"(config.json: "f" is 2.5; true or false is wanted)");
    CHECK(message(std::string{}, "f") == R"(config.json: "f" is 2.5; a string is wanted)");
    CHECK(message(std::vector<int>{}, "v") ==
          R"(config.json: "v[1]" is "x"; an integer is wanted)");
    CHECK(message(0, "absent") == R"(config.json: there is no "absent"; it is needed)");
    CHECK_THROWS_AS((void)json_get_or<int>(j, "d_model", 1, "c"), io_error);
    CHECK_THROWS_AS((void)json_get<int>(json(3), "a", "c"), io_error);
  }

  TEST_CASE("text that is not JSON is refused with one line") {
    for (const std::string& text :
         {std::string(), std::string("{"), std::string("{]"), std::string("nul"),
          std::string("{} x"), std::string("\"\xff\""), std::string("[1e999]"),
          std::string("\0", 1), std::string("{\"a\":1,\"a\":2}"),
          std::string("{\"x\":{\"b\":1,\"b\":1}}"), std::string(100000, '['), std::string("I"),
          std::string("-"), std::string("\"\\"), std::string("{-Infinity: 1}"),
          std::string("{NaN\n:1}")}) {
      CAPTURE(text.substr(0, 20));
      const std::string message = message_of<io_error>([&] { parse_json(text, "f.json"); });
      CHECK(message.starts_with("f.json: "));
      CHECK(message.size() < 300);
    }
  }

  TEST_CASE("the depth limit is exact") {
    const auto nested = [](int n) {
      return std::string(std::size_t(n), '[') + std::string(std::size_t(n), ']');
    };
    CHECK(parse_json(nested(64), "f").is_array());
    CHECK_THROWS_AS(parse_json(nested(65), "f"), io_error);
    CHECK(parse_json("[[[1,2],3],{\"k\":[4]}]", "f", 3).dump() == "[[[1,2],3],{\"k\":[4]}]");
  }

  TEST_CASE("files: missing, a folder, empty, good") {
    test::temporary_folder folder;
    CHECK_THROWS_AS(read_json(folder / "missing.json"), io_error);
    CHECK_THROWS_AS(read_json(folder / ""), io_error);
    test::spill(folder / "empty.json", "");
    CHECK_THROWS_AS(read_json(folder / "empty.json"), io_error);
    write_file(folder / "good.json", R"({"a": 1})");
    CHECK(read_json(folder / "good.json")["a"] == 1);
  }
}
