// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// safetensors: round trips, conversions, several files, and every way a header can lie.
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "io/temporary.hpp"
#include "mlmamba/io/convert.hpp"
#include "mlmamba/io/safetensors.hpp"
#include "mlmamba/io/safetensors_set.hpp"
#include "mlmamba/io/safetensors_write.hpp"

using namespace mlmamba;
using mlmamba::test::message_of;

namespace {

std::string file_text(std::string header, std::string data = "", std::int64_t length = -1) {
  const auto n = static_cast<std::uint64_t>(length < 0 ? std::int64_t(header.size()) : length);
  std::string text;
  for (int i = 0; i < 8; ++i) text += static_cast<char>(static_cast<unsigned char>(n >> (8 * i)));
  return text + header + data;
}

std::string refusal(const std::string& text) {
  return message_of<io_error>(
      [&] { (void)safetensors_file::parse(test::bytes_of_text(text), "m.safetensors"); });
}

}  // namespace

TEST_SUITE("safetensors_test") {
  TEST_CASE("what is written is read back, aligned, in place") {
    test::temporary_folder folder;
    const std::vector<float> f{1.5f, -2, 3, 4, 5, 6};
    const std::vector<std::uint8_t> u{1, 2, 3};
    const std::vector<std::int64_t> i{-7};
    const std::vector<bf16> b{bf16(1.0f), bf16(-0.5f)};
    const std::vector<safetensors_entry> entries{
        entry_of<std::uint8_t>("u", {3}, u), entry_of<float>("f", {2, 3}, f),
        entry_of<std::int64_t>("scalar \xc3\xa9", {}, i), entry_of<bf16>("b", {2, 1}, b),
        entry_of<float>("empty", {0, 4}, {})};
    write_safetensors(folder / "a.safetensors", entries, {{"op", "x"}, {"k", "v"}});
    CHECK(folder.count() == 1);
    std::shared_ptr<const void> keep;
    const float* in_place = nullptr;
    {
      const auto file = safetensors_file::open(folder / "a.safetensors");
      CHECK(file.entries().size() == 5);
      CHECK(file.metadata() == std::map<std::string, std::string>{{"op", "x"}, {"k", "v"}});
      CHECK(file.at("f").shape == std::vector<std::int64_t>{2, 3});
      CHECK(file.at("scalar \xc3\xa9").count() == 1);
      CHECK(file.at("empty").count() == 0);
      CHECK(file.find("absent") == nullptr);
      CHECK_THROWS_AS((void)file.at("absent"), io_error);
      CHECK(read_values<std::int64_t>(file.at("scalar \xc3\xa9")) == i);
      CHECK(read_values<float>(file.at("b")) == std::vector<float>{1.0f, -0.5f});
      CHECK(values_in_place<double>(file.at("f")) == nullptr);
      for (const auto& entry : file.entries())
        CHECK(reinterpret_cast<std::uintptr_t>(entry.bytes.data()) % bytes_of(entry.type) == 0);
      in_place = values_in_place<float>(file.at("f"));
      keep = file.at("f").owner;
    }
    REQUIRE(in_place != nullptr);  // and still mapped, because keep holds it
    for (std::size_t k = 0; k < f.size(); ++k) CHECK(in_place[k] == f[k]);
  }

  TEST_CASE("the same arguments give the same bytes") {
    test::temporary_folder folder;
    const std::vector<float> f{1, 2};
    const std::vector<safetensors_entry> entries{entry_of<float>("z", {2}, f),
                                                 entry_of<float>("a", {2}, f)};
    write_safetensors(folder / "1", entries, {{"k", "v"}});
    write_safetensors(folder / "2", entries, {{"k", "v"}});
    CHECK(test::slurp(folder / "1") == test::slurp(folder / "2"));
  }

  TEST_CASE("the writer refuses what the reader would") {
    test::temporary_folder folder;
    const std::vector<float> f{1, 2};
    const auto write = [&](std::vector<safetensors_entry> entries,
                           std::map<std::string, std::string> metadata = {}) {
      write_safetensors(folder / "x", entries, metadata);
    };
    CHECK_THROWS_AS(write({entry_of<float>("a", {3}, f)}), io_error);
    CHECK_THROWS_AS(write({entry_of<float>("a", {-2}, f)}), io_error);
    CHECK_THROWS_AS(write({entry_of<float>("a", {2}, f), entry_of<float>("a", {2}, f)}), io_error);
    CHECK_THROWS_AS(write({entry_of<float>("__metadata__", {2}, f)}), io_error);
    CHECK_THROWS_AS(write({entry_of<float>("\xff", {2}, f)}), io_error);
    CHECK_THROWS_AS(write({}, {{"k", "\xff"}}), io_error);
    CHECK_THROWS_AS(write_safetensors(folder / "no/folder", {}), io_error);
    CHECK(folder.count() == 0);
    write({});
    CHECK(safetensors_file::open(folder / "x").entries().empty());
  }

  TEST_CASE("values are converted as documented") {
    const std::vector<double> d{1.0, 1e-3, -3e38, 65504.0};
    const auto e = entry_of<double>("d", {4}, d);
    const auto as_float = read_values<float>(e);
    for (std::size_t k = 0; k < 4; ++k) CHECK(as_float[k] == static_cast<float>(d[k]));
    CHECK(message_of<io_error>([&] { read_values<f16>(e); }) ==
          "\"d\"[2] is -3e+38; F16 holds at most 65504 (BF16 and F32 hold it)");
    const std::vector<double> h{65504.0, 65519.9, -INFINITY, 1e-9};
    const auto half = read_values<f16>(entry_of<double>("h", {4}, h));
    CHECK(float(half[0]) == 65504.0f);
    CHECK(float(half[1]) == 65504.0f);  // rounds to it
    CHECK(std::isinf(float(half[2])));  // as it was
    CHECK(float(half[3]) == 0.0f);
    CHECK_THROWS_AS(read_values<std::int32_t>(e), io_error);
    const std::vector<std::int64_t> i{-1, 300, 1};
    const auto n = entry_of<std::int64_t>("i", {3}, i);
    CHECK(read_values<std::int32_t>(n) == std::vector<std::int32_t>{-1, 300, 1});
    CHECK(read_values<float>(n) == std::vector<float>{-1, 300, 1});
    CHECK(message_of<io_error>([&] { read_values<std::uint64_t>(n); }) ==
          "\"i\"[0] is -1; it does not fit in U64");
    CHECK_THROWS_AS(read_values<std::uint8_t>(n), io_error);
    const std::vector<std::uint8_t> raw{0, 7};
    safetensors_entry flags = entry_of<std::uint8_t>("b", {2}, raw);
    flags.type = dtype::boolean;
    CHECK(read_values<std::uint8_t>(flags) == std::vector<std::uint8_t>{0, 1});
    bool b[2];
    read_values(flags, std::span<bool>(b));
    CHECK((!b[0] && b[1]));
    flags.type = dtype::f8_e4m3;
    CHECK_THROWS_AS(read_values<float>(flags), io_error);
    std::vector<float> three(3);
    CHECK_THROWS_AS(read_values(e, std::span<float>(three)), shape_error);
  }

  TEST_CASE("unaligned arrays are converted, not read in place") {
    const std::string data("\x01\0\0\x80\x3f", 5);  // one byte, then 1.0f
    const std::string text = file_text(
        R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"f":{"dtype":"F32","shape":[],"data_offsets":[1,5]}} )",
        data);
    const auto file = safetensors_file::parse(test::bytes_of_text(text), "t");
    CHECK(read_values<float>(file.at("f"))[0] == 1.0f);
  }

  TEST_CASE("every lie of a header is one clear refusal") {
    const auto one = [](std::string dtype, std::string shape, std::string offsets) {
      return R"({"w":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" +
             offsets + "}}";
    };
    const std::string eight(8, 'x');
    CHECK(refusal(file_text(one("F32", "[2]", "[0,8]"), eight)) == "nothing was thrown");
    struct lie {
      std::string text, says;
    };
    const std::vector<lie> lies{
        {"", "0 bytes"},
        {"1234567", "7 bytes"},
        {file_text("{}", "", 1'000'000'000), "at most 100000000"},
        {std::string(8, '\xff'), "at most"},
        {file_text("{}", "", 3), "truncated"},
        {file_text(""), "does not start with '{'"},
        {file_text(" {}"), "does not start with '{'"},
        {file_text("[]"), "does not start with '{'"},
        {file_text("{"), "not valid JSON"},
        {file_text("{}", "x"), "nothing may follow"},
        {file_text(one("F32", "[2]", "[0,8]"), std::string(7, 'x')), "truncated"},
        {file_text(one("F32", "[2]", "[0,8]"), std::string(9, 'x')), "nothing may follow"},
        {file_text(one("F32", "[3]", "[0,8]"), eight), "has 12"},
        {file_text(one("F64", "[2]", "[0,8]"), eight), "has 16"},
        {file_text(one("F32", "[2]", "[8,0]"), eight), "a range inside"},
        {file_text(one("F32", "[1]", "[4,8]"), eight), "begins at byte 4"},
        {file_text(one("F32", "[2]", "[0,8,8]"), eight), "2 are wanted"},
        {file_text(one("F32", "[2]", "[0]"), eight), "2 are wanted"},
        {file_text(one("F32", "[2]", "[-1,8]"), eight), "not negative"},
        {file_text(one("F32", "[2]", "[0,18446744073709551615]"), eight), "a range inside"},
        {file_text(one("F32", "[2]", "[0,18446744073709551616]"), eight), "an integer is wanted"},
        {file_text(one("F32", "[-2]", "[0,8]"), eight), "negative"},
        {file_text(one("F32", "[2.0]", "[0,8]"), eight), "an integer is wanted"},
        {file_text(one("F32", "2", "[0,8]"), eight), "an array is wanted"},
        {file_text(one("F32", "[4611686018427387904,4,2]", "[0,8]"), eight), "more than can"},
        {file_text(one("F32", "[9223372036854775807,9223372036854775807]", "[0,0]")), "more than"},
        {file_text(one("F32", "[0,9223372036854775807]", "[0,0]")), "more than"},
        {file_text(one("F33", "[2]", "[0,8]"), eight), "dtype \"F33\""},
        {file_text(R"({"w":{"shape":[2],"data_offsets":[0,8]}})", eight), "there is no \"dtype\""},
        {file_text(R"({"w":3})"), "where an object"},
        {file_text(R"({"w":null})"), "where an object"},
        {file_text(R"({"__metadata__":{"a":1}})"), "a string is wanted"},
        {file_text(R"({"__metadata__":[]})"), "an object of strings"},
        {file_text(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                   R"("b":{"dtype":"U8","shape":[6],"data_offsets":[2,8]}})",
                   eight),
         "without gap or overlap"},
        {file_text(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                   R"("b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
                   eight),
         "without gap or overlap"},
        {file_text(R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},)"
                   R"("a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})",
                   eight),
         "occurs twice"},
        {file_text("{\"a\":" + std::string(50, '[') + std::string(50, ']') + "}"), "nested deeper"},
    };
    for (const lie& l : lies) {
      CAPTURE(l.text);
      const std::string message = refusal(l.text);
      CHECK(message.starts_with("m.safetensors: "));
      CHECK_MESSAGE(message.find(l.says) != std::string::npos, message);
    }
  }

  TEST_CASE("every truncation of a good file is refused") {
    test::temporary_folder folder;
    const std::vector<float> f{1, 2, 3};
    const std::vector<safetensors_entry> entries{entry_of<float>("w", {3}, f)};
    write_safetensors(folder / "w", entries, {{"a", "b"}});
    const std::string text = test::slurp(folder / "w");
    for (std::size_t n = 0; n < text.size(); ++n) {
      CAPTURE(n);
      CHECK(refusal(text.substr(0, n)) != "nothing was thrown");
    }
    CHECK_THROWS_AS(safetensors_file::open(folder / "missing"), io_error);
    CHECK_THROWS_AS(safetensors_file::open(folder / ""), io_error);
  }

  TEST_CASE("several files with an index") {
    test::temporary_folder folder;
    const std::vector<float> f{1, 2}, g{3};
    write_safetensors(folder / "m-1.safetensors", std::vector{entry_of<float>("f", {2}, f)});
    write_safetensors(folder / "m-2.safetensors", std::vector{entry_of<float>("g", {1}, g)});
    const auto index = [&](std::string map) {
      write_file(folder / "model.safetensors.index.json", "{\"weight_map\":" + map + "}");
      return message_of<io_error>([&] { (void)safetensors_set::open(folder / ""); });
    };
    CHECK(index(R"({"f":"m-1.safetensors","g":"m-2.safetensors"})") == "nothing was thrown");
    const auto set = safetensors_set::open(folder / "");
    CHECK(set.entries().size() == 2);
    CHECK(read_values<float>(set.at("g")) == g);
    CHECK_THROWS_AS((void)set.at("h"), io_error);
    CHECK(index(R"({"f":"m-2.safetensors","g":"m-2.safetensors"})").find("there is no \"f\"") !=
          std::string::npos);
    CHECK(index(R"({"f":"m-1.safetensors","g":"m-3.safetensors"})").find("can't open") !=
          std::string::npos);
    CHECK(index(R"({"f":"../m-1.safetensors"})").find("without a folder") != std::string::npos);
    CHECK(index(R"({"f":""})").find("without a folder") != std::string::npos);
    CHECK(index(R"([])").find("an object of file names") != std::string::npos);
    write_safetensors(folder / "m-1.safetensors",
                      std::vector{entry_of<float>("f", {2}, f), entry_of<float>("g", {1}, g)});
    CHECK(index(R"({"f":"m-1.safetensors","g":"m-2.safetensors"})").find("hold 3") !=
          std::string::npos);
  }

  TEST_CASE("a folder with one file needs no index; with two it does") {
    test::temporary_folder folder;
    const std::vector<float> f{1, 2};
    CHECK_THROWS_AS(safetensors_set::open(folder / ""), io_error);
    write_safetensors(folder / "any.safetensors", std::vector{entry_of<float>("f", {2}, f)});
    CHECK(safetensors_set::open(folder / "").find("f") != nullptr);
    write_safetensors(folder / "b.safetensors", std::vector{entry_of<float>("f", {2}, f)});
    CHECK_THROWS_AS(safetensors_set::open(folder / ""), io_error);
    write_safetensors(folder / "model.safetensors", std::vector{entry_of<float>("m", {2}, f)});
    CHECK(safetensors_set::open(folder / "").find("m") != nullptr);
  }
}
