// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Files of torch.save: every tensor as PyTorch has it, and nothing bad gets in or is run.
// Files with their contents beside: tests/golden/torch_cases.py.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "io/temporary.hpp"
#include "mlmamba/io/safetensors_write.hpp"
#include "mlmamba/io/torch_write.hpp"
#include "mlmamba/io/weight_files.hpp"

using namespace mlmamba;
using mlmamba::test::bytes_of_text;
using mlmamba::test::message_of;
using mlmamba::test::slurp;
using mlmamba::test::spill;
using mlmamba::test::temporary_folder;
using mlmamba::test::test_data;

namespace {

std::string refusal(const std::string& text) {
  return message_of<io_error>([&] { (void)torch_file::parse(bytes_of_text(text), "t.pt"); });
}
bool says(const std::string& text, std::string_view words) {
  INFO(text);
  return text.find(words) != std::string::npos && text.find('\n') == std::string::npos;
}

/// Names, types, shapes and bytes are equal; the order too if that is asked for.
void check_equal(const std::vector<safetensors_entry>& got,
                 const std::vector<safetensors_entry>& want, bool ordered = true) {
  REQUIRE(got.size() == want.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    const auto at = ordered ? got.begin() + std::ptrdiff_t(i)
                            : std::find_if(got.begin(), got.end(),
                                           [&](const auto& e) { return e.name == want[i].name; });
    INFO(want[i].name);
    REQUIRE(at != got.end());
    CHECK(at->name == want[i].name);
    CHECK(at->type == want[i].type);
    CHECK(at->shape == want[i].shape);
    CHECK(
        std::equal(at->bytes.begin(), at->bytes.end(), want[i].bytes.begin(), want[i].bytes.end()));
  }
}

/// A zip archive with these entries, in memory.
struct archive {
  std::string text;
  detail::zip_writer<archive> zip{*this};
  void append(std::span<const std::byte> b) {
    text.append(reinterpret_cast<const char*>(b.data()), b.size());
  }
  void add(std::string_view name, std::string_view data) { zip.add(name, bytes_of_text(data)); }
};
std::string with_pickle(std::string_view pickle, std::string_view storage = "0123456789abcdef") {
  archive a;
  a.add("a/data.pkl", pickle);
  a.add("a/data/0", storage);
  a.zip.finish();
  return a.text;
}
std::string number(std::int64_t n) {
  std::string s = "\x8a\x08";
  detail::put_number(s, static_cast<std::uint64_t>(n), 8);
  return s;
}
/// The pickle of {"w": a float tensor (sizes) with strides, offset, in storage 0 of n elements}.
std::string tensor_pickle(std::int64_t n, std::int64_t offset, std::vector<std::int64_t> sizes,
                          std::vector<std::int64_t> strides) {
  std::string p = "\x80\2}X";
  p += std::string("\1\0\0\0w", 5) + "ctorch._utils\n_rebuild_tensor_v2\n((";
  p += std::string("X\7\0\0\0storage", 12) + "ctorch\nFloatStorage\n";
  p += std::string(
           "X\1\0\0\0"
           "0X\3\0\0\0cpu",
           14) +
       number(n) + "tQ" + number(offset);
  for (const auto& list : {sizes, strides}) {
    p += '(';
    for (const auto v : list) p += number(v);
    p += 't';
  }
  return p +
         "\x89"
         "ccollections\nOrderedDict\n)RtRs.";
}

}  // namespace

TEST_SUITE("torch_file_test") {
  TEST_CASE("every dtype, stride and sharing, in PyTorch's order") {
    const auto file = torch_file::open(test_data("io/torch/kinds.pt"));
    const auto want = safetensors_file::open(test_data("io/torch/kinds.safetensors"));
    check_equal(file.entries(), want.entries(), false);
    REQUIRE(file.entries().size() == 30);
    CHECK(file.entries()[0].name == "model.values.float64");
    CHECK(file.entries()[15].name == "model.views.all");
    CHECK(file.entries()[29].name == "model.3.number");
    CHECK(file.dicts() == std::vector<std::string>{"model", "model.values", "model.views",
                                                   "model.module", "model.3"});
    // Rows of one tensor share its bytes, in the mapped file.
    const auto& all = file.entries()[15].bytes;
    CHECK(file.entries()[16].bytes.data() == all.data() + 24);
    CHECK(torch_file::open(test_data("io/torch/protocol4.pt")).entries().size() == 2);
  }

  TEST_CASE("what is written is read back, dicts and shared storages too") {
    temporary_folder folder;
    const auto file = torch_file::open(test_data("io/torch/kinds.pt"));
    write_torch_file(folder / "a.pt", file.entries(), file.dicts());
    const auto again = torch_file::open(folder / "a.pt");
    check_equal(again.entries(), file.entries());
    CHECK(again.dicts() == file.dicts());
    for (const auto& e : again.entries())
      if (!e.bytes.empty())
        CHECK(reinterpret_cast<std::uintptr_t>(e.bytes.data()) % bytes_of(e.type) == 0);
    write_torch_file(folder / "b.pt", again.entries(), again.dicts());
    CHECK(slurp(folder / "a.pt") == slurp(folder / "b.pt"));
    std::vector<safetensors_entry> tied(2, file.entries()[1]);
    tied[0].name = "embedding", tied[1].name = "head";
    write_torch_file(folder / "tied.pt", tied);
    const auto shared = torch_file::open(folder / "tied.pt");
    CHECK(shared.entries()[0].bytes.data() == shared.entries()[1].bytes.data());
    write_torch_file(folder / "none.pt", {});
    CHECK(torch_file::open(folder / "none.pt").entries().empty());
    tied[1].name = "embedding";
    CHECK_THROWS_AS(write_torch_file(folder / "twice.pt", tied), io_error);
    CHECK(folder.count() == 4);
  }

  TEST_CASE("checksums are those of zip, so that others can read what is written") {
    CHECK(crc32(bytes_of_text("123456789")) == 0xCBF43926u);
    CHECK(crc32c(bytes_of_text("123456789")) == 0xE3069283u);
    CHECK(crc32(bytes_of_text("6789"), crc32(bytes_of_text("12345"))) == 0xCBF43926u);
  }

  TEST_CASE("what is no tensor is refused by its name, and never run") {
    const auto refused = [](const char* name, const char* words) {
      const auto path = test_data(std::string("io/torch/") + name);
      return says(message_of<io_error>([&] { (void)torch_file::open(path); }), words);
    };
    CHECK(refused("command.pt", "asks for posix.system"));
    CHECK(refused("module.pt", "asks for torch.nn.modules.linear.Linear"));
    CHECK(refused("complex.pt", "asks for torch.ComplexFloatStorage"));
    CHECK(refused("sparse.pt", "asks for torch._utils._rebuild_sparse_tensor"));
    CHECK(refused("list.pt", "\"a\" is a list"));
    CHECK(refused("expanded.pt", "\"a\" is (1000, 3) from element 0 on; its storage has 3"));
    CHECK(refused("script.pt", "TorchScript"));
    CHECK(refused("old_format.pt", "before 1.6"));
    CHECK(refused("compressed.pt", "is compressed"));
    CHECK(says(refusal(with_pickle("cos\nsystem\n(X\4\0\0\0truetR.")), "asks for os.system"));
    CHECK(says(refusal(with_pickle("\x80\4\x8c\2os\x8c\6system\x93.")), "asks for os.system"));
    CHECK(says(refusal(with_pickle("cbuiltins\neval\n.")), "asks for builtins.eval"));
    CHECK(says(refusal(with_pickle("(ios\nsystem\n.")), "instruction INST"));
    CHECK(says(refusal(with_pickle("\x81.")), "instruction NEWOBJ"));
    CHECK(says(refusal(with_pickle("\xFE.")), "instruction 0xfe"));
    CHECK(says(refusal(with_pickle("ccollections\nOrderedDict\n.")), "no dict"));
    CHECK(says(refusal(with_pickle("cbad\x1B[31m\nname\n.")), "bad?[31m.name"));
  }

  TEST_CASE("pickles that are damaged, or hold more than they should") {
    for (const char* p : {"",          ".",    "}",      "(",      "u.",     "t.",
                          "}s.",       "}Ks.", "h\1.",   "q\1.",   "\x85.",  "X\xFF\xFF\xFF\xFFx.",
                          "\x8a\xFF.", "ca\n", "}K\1(.", "R.",     "}b.",    "Q.",
                          "N)R.",      "\x95", "]}a",    "(K\1u.", "}(K\1u."})
      CHECK(refusal(with_pickle(p)) != "nothing was thrown");
    CHECK(says(refusal(with_pickle(std::string("}q\0X\1\0\0\0ah\0s.", 13))), "nested deeper"));
    std::string doubling = std::string("\x80\2}q\0", 5);
    for (char i = 1; i < 30; ++i) {
      doubling += std::string("}q") + i + "(K\1h" + char(i - 1) + "K\2h" + char(i - 1) + "u";
    }
    CHECK(says(refusal(with_pickle(doubling + ".")), "not read"));
  }

  TEST_CASE("tensors that reach beyond their storage") {
    const auto answer = [](std::int64_t n, std::int64_t offset, std::vector<std::int64_t> sizes,
                           std::vector<std::int64_t> strides) {
      return refusal(with_pickle(tensor_pickle(n, offset, sizes, strides)));
    };
    constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
    CHECK(answer(4, 0, {2, 2}, {2, 1}) == "nothing was thrown");
    CHECK(answer(4, 0, {2, 2}, {1, 2}) == "nothing was thrown");
    CHECK(answer(4, 4, {0}, {1}) == "nothing was thrown");
    CHECK(answer(4, 3, {}, {}) == "nothing was thrown");
    CHECK(says(answer(5, 0, {2, 2}, {2, 1}), "a storage of 5 elements"));
    CHECK(says(answer(most, 0, {2}, {1}), "truncated"));
    CHECK(says(answer(-1, 0, {2}, {1}), "truncated"));
    CHECK(says(answer(4, 1, {2, 2}, {2, 1}), "ends at element 4"));
    CHECK(says(answer(4, most, {1}, {1}), "from element 9223372036854775807"));
    CHECK(says(answer(4, -1, {1}, {1}), "from element -1"));
    CHECK(says(answer(4, 0, {5}, {1}), "its storage has 4"));
    CHECK(says(answer(4, 0, {most, 2}, {1, 1}), "its storage has 4"));
    CHECK(says(answer(4, 0, {most, most}, {0, 0}), "its storage has 4"));
    CHECK(says(answer(4, 0, {2, 2}, {most, 1}), "stride of 9223372036854775807"));
    CHECK(says(answer(4, 0, {2}, {-1}), "negative"));
    CHECK(says(answer(4, 0, {-2}, {1}), "negative"));
    CHECK(says(answer(4, 0, {2, 2}, {1}), "2 sizes and 1 strides"));
    CHECK(says(answer(4, 0, std::vector<std::int64_t>(65, 1), {1}), "65 axes"));
    CHECK(says(answer(4, 4, {}, {}), "ends at element 4"));
  }

  TEST_CASE("archives that are cut, changed or lie about themselves") {
    const std::string good = slurp(test_data("io/torch/protocol4.pt"));
    for (std::size_t n = 0; n < good.size(); ++n)
      CHECK(refusal(good.substr(0, n)) != "nothing was thrown");
    // Any byte of the directory and the end record, set to anything: refused, or still harmless.
    const std::size_t directory = good.find("PK\1\2");
    int refused = 0;
    for (std::size_t at = directory; at < good.size(); ++at)
      for (const char v : {'\0', '\1', '\x7F', '\xFF'}) {
        std::string bad = good;
        bad[at] = v;
        refused += refusal(bad) != "nothing was thrown";
      }
    CHECK(refused > 500);
    const auto changed = [&](std::size_t at, std::string_view bytes) {
      std::string bad = good;
      bad.replace(at, bytes.size(), bytes);
      return refusal(bad);
    };
    const std::string_view many("\xFF\xFF\xFF\x7F", 4);
    CHECK(says(changed(directory + 24, many), "compressed"));  // its size
    CHECK(says(changed(directory + 20, many), "ends after"));  // its size in the file
    CHECK(says(changed(directory + 42, many), "where its entry should be"));
    const std::string plain = with_pickle("}.");  // without the zip64 records of PyTorch
    CHECK(refusal(plain) == "nothing was thrown");
    for (const std::size_t back : {10u, 6u}) {  // size of the directory, and where it begins
      std::string bad = plain;
      bad.replace(bad.size() - back, 4, many);
      CHECK(says(refusal(bad), "ends after"));
    }
    std::string count = plain;
    count.replace(count.size() - 12, 2, "\xFF\x7F");
    CHECK(says(refusal(count), "32767 entries"));
    CHECK(says(changed(30, "x"), "another name"));
    archive twice;
    twice.add("a/data.pkl", "}."), twice.add("a/data.pkl", "}.");
    twice.zip.finish();
    CHECK(says(refusal(twice.text), "two entries"));
    archive two;
    two.add("a/data.pkl", "}."), two.add("b/data.pkl", "}.");
    two.zip.finish();
    CHECK(says(refusal(two.text), "one is wanted"));
    archive big;
    big.add("a/data.pkl", "}."), big.add("a/byteorder", "big");
    big.zip.finish();
    CHECK(says(refusal(big.text), "byte order"));
    archive none;
    none.add("a/data", "}.");
    none.zip.finish();
    CHECK(says(refusal(none.text), "without NAME/data.pkl"));
    CHECK(says(refusal("PK\3\4"), "truncated"));
    CHECK(says(refusal(tensor_pickle(4, 0, {1}, {1})), "zip"));
    std::string missing = with_pickle(tensor_pickle(4, 0, {1}, {1}));
    for (std::size_t at = 0; (at = missing.find("a/data/0", at)) != std::string::npos; ++at)
      missing[at + 7] = '1';
    CHECK(says(refusal(missing), "there is no storage a/data/0"));
  }

  TEST_CASE("archives of 64-bit numbers") {
    // The end record of zip64 and its locator, around an ordinary directory.
    std::string a = with_pickle(tensor_pickle(4, 1, {2}, {1}));
    const std::size_t end = a.size() - 22, begin = a.find("PK\1\2");
    std::string tail;
    detail::put_number(tail, 0x06064b50, 4), detail::put_number(tail, 44, 8);
    detail::put_number(tail, 45, 2), detail::put_number(tail, 45, 2);
    detail::put_number(tail, 0, 8), detail::put_number(tail, 2, 8), detail::put_number(tail, 2, 8);
    detail::put_number(tail, end - begin, 8), detail::put_number(tail, begin, 8);
    detail::put_number(tail, 0x07064b50, 4), detail::put_number(tail, 0, 4);
    detail::put_number(tail, end, 8), detail::put_number(tail, 1, 4);
    std::string last = a.substr(end);
    last.replace(8, 12, std::string(12, '\xFF'));
    const std::string wide = a.substr(0, end) + tail + last;
    CHECK(refusal(wide) == "nothing was thrown");
    CHECK(torch_file::parse(bytes_of_text(wide), "t").entries()[0].shape ==
          std::vector<std::int64_t>{2});
    for (const std::size_t at : {end + 32, end + 40, end + 48, end + 56 + 8}) {
      std::string bad = wide;
      bad.replace(at, 8, std::string(8, '\xFF'));
      CHECK(refusal(bad) != "nothing was thrown");
    }
  }

  TEST_CASE("a folder's weights: the first of the usual names, or the only file") {
    temporary_folder folder;
    const auto found = [&] { return read_weights(folder / "").arrays.size(); };
    CHECK(says(message_of<io_error>([&] { found(); }), "0 files *.safetensors and 0 files"));
    const auto copy = [&](const char* from, const char* to) {
      spill(folder / to, slurp(test_data(std::string("io/torch/") + from)));
    };
    copy("protocol4.pt", "some.pth");
    CHECK(found() == 2);
    copy("protocol4.pt", "other.bin");
    CHECK(says(message_of<io_error>([&] { found(); }), "2 files *.pt, *.pth or *.bin"));
    copy("kinds.safetensors", "x.safetensors");
    CHECK(found() == 30);
    copy("protocol4.pt", "pytorch_model.bin");
    CHECK(found() == 2);
    // In two files with an index, as Hugging Face splits models.
    std::filesystem::remove(folder / "pytorch_model.bin");
    const auto all = torch_file::open(test_data("io/torch/protocol4.pt")).entries();
    write_torch_file(folder / "pytorch_model-1.bin", std::span(all).first(1));
    write_torch_file(folder / "pytorch_model-2.bin", std::span(all).last(1));
    const auto index = [&](const char* text) {
      spill(folder / "pytorch_model.bin.index.json", text);
    };
    index(R"({"weight_map": {"a": "pytorch_model-1.bin", "b.c": "pytorch_model-2.bin"}})");
    CHECK(found() == 2);
    index(R"({"weight_map": {"a": "pytorch_model-1.bin", "b.d": "pytorch_model-2.bin"}})");
    CHECK_THROWS_AS(found(), io_error);
    index(R"({"weight_map": {"a": "pytorch_model-1.bin", "b.c": "../pytorch_model-2.bin"}})");
    CHECK_THROWS_AS(found(), io_error);
    // A model inside a checkpoint.
    const auto inner = read_model_weights(test_data("io/torch/kinds.pt"));
    CHECK(inner[0].name == "values.float64");
    CHECK(inner.size() == 30);
  }
}
