// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Conversations, sampling, batches, prefetching.
#include <doctest/doctest.h>

#include <map>
#include <set>

#include "io/temporary.hpp"
#include "mlmamba/train/garment_source.hpp"
#include "mlmamba/train/llava.hpp"
#include "mlmamba/train/prefetch.hpp"
#include "train/garment_photos.hpp"

using namespace mlmamba;
using namespace mlmamba::train;

namespace {
std::vector<std::int32_t> bytes(std::string_view text) {
  std::vector<std::int32_t> out;
  for (const char c : text) out.push_back(static_cast<unsigned char>(c));
  return out;
}
std::string text_of(const std::vector<std::int32_t>& ids) {
  std::string out;
  for (const std::int32_t i : ids) out += i == ignored ? '_' : static_cast<char>(i);
  return out;
}
example conversation() {
  return {
      {{"<image>\nWhat is this? ", true}, {" A cat.", false}, {"What colour?", true}, {"", false}},
      std::nullopt};
}
image flat(int width, int height, std::uint8_t value) {
  return {width, height,
          std::vector<std::uint8_t>(std::size_t(3 * width) * std::size_t(height), value)};
}
// Example i has i % 7 + 1 words and, unless i % 3 is 0, a picture.
data_source numbers(std::uint64_t n) {
  data_source s;
  s.name = "numbers";
  s.size = n;
  s.get = [](std::uint64_t i) {
    example e;
    std::string text;
    for (std::uint64_t k = 0; k <= i % 7; ++k) text += "w ";
    e.turns = {{text, true}, {std::to_string(i), false}};
    if (i % 3 != 0) e.picture = flat(4, 4, std::uint8_t(i));
    return e;
  };
  s.has_picture = [](std::uint64_t i) { return i % 3 != 0; };
  s.words = [](std::uint64_t i) { return i % 7 + 1; };
  return s;
}
bool same(const update_batch& a, const update_batch& b) {
  if (a.parts.size() != b.parts.size() || a.text_tokens != b.text_tokens) return false;
  const auto equal = [](const auto& x, const auto& y) {
    return x.shape() == y.shape() && std::memcmp(x.data(), y.data(), x.bytes()) == 0;
  };
  for (std::size_t i = 0; i < a.parts.size(); ++i) {
    const micro_batch &p = a.parts[i], &q = b.parts[i];
    if (!equal(p.ids, q.ids) || !equal(p.labels, q.labels)) return false;
    if (p.pictures.size() != q.pictures.size()) return false;
    for (std::size_t t = 0; t < p.pictures.size(); ++t)
      if (!equal(p.pictures[t], q.pictures[t])) return false;
  }
  return true;
}
}  // namespace

TEST_SUITE("data_test") {
  TEST_CASE("Zephyr: texts and labels as the original has them") {
    const encoded e = encode_conversation(conversation(), bytes, chat_format::zephyr, 2048);
    CHECK(text_of(e.ids) ==
          "<|user|>\nWhat is this?<|endoftext|>\n<|assistant|>\nA cat.<|endoftext|>"
          "\n<|user|>\nWhat colour?<|endoftext|>\n<|assistant|>\n <|endoftext|>");
    const std::string labels = text_of(e.labels);
    CHECK(labels.size() == e.ids.size());
    CHECK(labels.substr(0, 50) == std::string(50, '_'));
    CHECK(labels.substr(50, 19) == "A cat.<|endoftext|>");
    CHECK(labels.substr(69, 50) == std::string(50, '_'));
    CHECK(labels.substr(labels.size() - 14) == " <|endoftext|>");
  }
  TEST_CASE("other templates, captions, and cutting") {
    const example two{{{"Q?", true}, {"A", false}}, std::nullopt};
    CHECK(text_of(encode_conversation(two, bytes, chat_format::plain, 99).ids) ==
          "Q?\nA<|endoftext|>");
    CHECK(text_of(encode_conversation(two, bytes, chat_format::mamba, 99).ids) ==
          "In: Q?\nOut: A<|endoftext|>");
    const encoded c = encode_conversation(two, bytes, chat_format::plain, 99, labelling::caption);
    CHECK(text_of(c.ids) == "A<|endoftext|>");
    CHECK(c.labels == c.ids);
    const encoded cut = encode_conversation(two, bytes, chat_format::plain, 4);
    CHECK(text_of(cut.ids) == "Q?\nA");
    CHECK(text_of(cut.labels) == "___A");
  }
  TEST_CASE("turns that do not alternate are refused") {
    const auto encode = [](const example& e) {
      return encode_conversation(e, bytes, chat_format::plain, 99);
    };
    CHECK_THROWS_AS(encode({{}, std::nullopt}), error);
    CHECK_THROWS_AS(encode({{{"q", true}}, std::nullopt}), error);
    CHECK_THROWS_AS(encode({{{"q", false}, {"a", true}}, std::nullopt}), error);
  }
  TEST_CASE("a LLaVA file is read; what is wrong in it is named") {
    const test::temporary_folder folder;
    write_png(folder / "p.png", flat(5, 4, 77));
    const auto file = folder / "chat.json";
    const auto with = [&](const std::string& text) {
      test::spill(file, text);
      return read_llava(file, folder / ".");
    };
    const data_source s = with(
        R"([{"id": 1, "image": "p.png", "conversations": [{"from": "human", "value": "<image>\nIs it?"},
            {"from": "gpt", "value": "yes it is"}]},
            {"id": "b", "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}])");
    CHECK(s.size == 2);
    const auto named = [&](const char* answer) {
      return with((std::string(R"([{"conversations": [{"from": "human", "value": "Q"},
                                   {"from": "gpt", "value": ")") +
                   answer + "\"}]}]")
                      .c_str())
          .name;
    };
    CHECK(named("A") == named("A"));
    CHECK(named("A") != named("B"));  // an edited file of as many records is another source
    CHECK(s.has_picture(0));
    CHECK_FALSE(s.has_picture(1));
    CHECK(s.words(0) == 6);
    const example e = s.get(0);
    REQUIRE(e.picture);
    CHECK(*e.picture == flat(5, 4, 77));
    CHECK(e.turns[1].text == "yes it is");
    CHECK_FALSE(s.get(1).picture);

    CHECK_THROWS_AS(with("{}"), io_error);
    CHECK_THROWS_AS(with("[]"), io_error);
    CHECK_THROWS_AS(with(R"([{"image": "p.png"}])"), io_error);
    CHECK_THROWS_AS(with(R"([{"conversations": [{"from": "gpt", "value": "A"}]}])"), io_error);
    CHECK_THROWS_AS(with(R"([{"conversations": [{"from": "human", "value": "A"}]}])"), io_error);
    CHECK_THROWS_AS(with(R"([{"conversations": [{"from": "system", "value": "A"}]}])"), io_error);
    const auto image = [&](const std::string& path) {
      return with(R"([{"image": ")" + path +
                  R"(", "conversations": [{"from": "human", "value": "Q"},
                     {"from": "gpt", "value": "A"}]}])");
    };
    CHECK_THROWS_AS(image("../p.png"), io_error);
    CHECK_THROWS_AS(image("/p.png"), io_error);
    CHECK_THROWS_AS(image("none.png").get(0), io_error);
  }
  TEST_CASE("shuffled: every example once an epoch, epochs differ, seeds differ") {
    const auto epoch = [](sampler& s, index_t first) {
      std::vector<std::uint64_t> all;
      for (index_t u = first; u < first + s.epoch_batches(); ++u)
        for (const std::uint64_t i : s(u)) all.push_back(i);
      return all;
    };
    sampler s(numbers(22), 4, sampling::shuffled, 5), other(numbers(22), 4, sampling::shuffled, 6);
    CHECK(s.epoch_batches() == 6);
    const auto first = epoch(s, 0), second = epoch(s, 6);
    CHECK(first.size() == 24);
    CHECK(std::set<std::uint64_t>(first.begin(), first.end()).size() == 22);
    CHECK(std::set<std::uint64_t>(second.begin(), second.end()).size() == 22);
    CHECK(first[22] == first[0]);
    CHECK(first != second);
    CHECK(first != epoch(other, 0));
    sampler later(numbers(22), 4, sampling::shuffled, 5);
    CHECK(epoch(later, 6) == second);
    CHECK(epoch(later, 0) == first);
  }
  TEST_CASE("grouped: batches of one modality and of similar lengths") {
    sampler s(numbers(210), 10, sampling::grouped, 1, 2);
    CHECK(s.epoch_batches() == 21);
    std::map<std::uint64_t, int> seen;
    index_t spread = 0;
    for (index_t u = 0; u < 21; ++u) {
      const auto batch = s(u);
      std::uint64_t low = 99, high = 0;
      for (const std::uint64_t i : batch) {
        ++seen[i];
        CHECK((i % 3 != 0) == (batch[0] % 3 != 0));
        low = std::min(low, i % 7);
        high = std::max(high, i % 7);
      }
      spread += index_t(high - low);
    }
    CHECK(seen.size() == 210);
    CHECK(spread < 21 * 5);  // without grouping nearly every batch spans all 7 lengths: 21 * 6
  }
  TEST_CASE("in order: an endless source counts on; sizes must make sense") {
    data_source endless = numbers(0);
    sampler s(endless, 3, sampling::in_order, 1);
    CHECK(s(0) == std::vector<std::uint64_t>{0, 1, 2});
    CHECK(s(1000) == std::vector<std::uint64_t>{3000, 3001, 3002});
    CHECK_THROWS_AS(sampler(endless, 3, sampling::shuffled, 1), error);
    CHECK_THROWS_AS(sampler(numbers(5), 0, sampling::shuffled, 1), error);
  }
  TEST_CASE("a batch: pictures first, padding on the right, labels only on answers") {
    batch_builder build{.encode = bytes, .chat = chat_format::plain};
    build.towers = {image_transform{2, resize_strategy::naive, {0, 0, 0}, {1, 1, 1}},
                    image_transform{4, resize_strategy::naive, {0, 0, 0}, {1, 1, 1}}};
    build.micro_batch_size = 2;
    build.padding = 9;
    const std::vector<std::uint64_t> which{0, 1, 2, 3, 4};
    const update_batch b = build(numbers(10), which);
    REQUIRE(b.parts.size() == 3);  // 4 2 | 1 | 3 0
    CHECK(b.parts[0].has_pictures());
    CHECK(b.parts[1].batch() == 1);
    CHECK_FALSE(b.parts[2].has_pictures());
    CHECK(b.parts[0].pictures[0].shape() == shape<4>{{2, 3, 2, 2}});
    CHECK(b.parts[0].pictures[1].shape() == shape<4>{{2, 3, 4, 4}});
    CHECK(b.parts[0].pictures[1](1, 2, 3, 3) == doctest::Approx(2.0 / 255));
    const index_t eos = 13;                         // bytes of "<|endoftext|>"
    CHECK(b.parts[0].length() == 9 + 1 + 1 + eos);  // "w w w w w", line end, answer
    CHECK(b.parts[0].ids(1, 0) == 'w');
    CHECK(b.parts[0].ids(1, 5 + 1 + 1 + eos) == 9);
    CHECK(b.parts[0].labels(1, 5) == ignored);
    CHECK(b.parts[0].labels(1, 6) == '2');
    CHECK(b.parts[0].labels(1, 5 + 1 + 1 + eos) == ignored);
    CHECK(b.labelled() == 5 * (1 + eos));
    index_t tokens = 0;
    for (const index_t words : {1, 2, 3, 4, 5}) tokens += 2 * words - 1 + 1 + 1 + eos;
    CHECK(b.text_tokens == tokens);

    build.length_multiple = 16;
    CHECK(build(numbers(10), which).parts[0].length() == 32);
    build.towers.clear();
    CHECK(build(numbers(10), which).parts.size() == 3);
  }
  TEST_CASE("a model on a GPU has several threads make its batches, one on the processor one") {
    CHECK(usual_prefetch_threads(false) == 1);
    const int many = int(std::thread::hardware_concurrency()) / 2;
    CHECK(usual_prefetch_threads(true) == (many > 8 ? 8 : many < 1 ? 1 : many));
  }
  TEST_CASE("threads that prefetch never change a batch, and hand on what goes wrong") {
    batch_builder build{.encode = bytes, .chat = chat_format::plain};
    build.towers = {image_transform{2}};
    const sampler order(numbers(50), 6, sampling::grouped, 3);
    prefetcher none(numbers(50), order, build, 4, 0), one(numbers(50), order, build, 4, 1),
        three(numbers(50), order, build, 4, 3, 2);
    for (int u = 0; u < 20; ++u) {
      const update_batch a = none.next();
      CHECK(same(a, one.next()));
      CHECK(same(a, three.next()));
    }
    data_source bad = numbers(50);
    bad.get = [good = bad.get](std::uint64_t i) {
      if (i == 17) fail<io_error>("17 is broken");
      return good(i);
    };
    prefetcher breaks(bad, sampler(bad, 5, sampling::in_order, 0), build, 0, 2);
    for (int u = 0; u < 3; ++u) CHECK_NOTHROW(breaks.next());
    CHECK_THROWS_AS(breaks.next(), io_error);
    CHECK_NOTHROW(breaks.next());
  }
}
