// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Orders of examples against recorded ones of PyTorch (golden/sampler.json), and their properties.
#include "mlmamba/train/torch_sampler.hpp"

#include <doctest/doctest.h>

#include <cstdio>
#include <map>
#include <set>

#include "io/temporary.hpp"
#include "mlmamba/io/json.hpp"
#include "mlmamba/train/sampler.hpp"

using namespace mlmamba;
using namespace mlmamba::train;

namespace {
using numbers = std::vector<std::uint32_t>;

/// The recorded cases of one kind.
json golden(const char* kind) {
  const json all = read_json(test::test_data("golden/sampler.json"));
  const json& cases = json_at(all, kind, "sampler.json");
  REQUIRE(cases.size() >= 6);
  return cases;
}
template <class T>
T get(const json& j, const char* key) {
  return json_get<T>(j, key, "sampler.json");
}

void check_same(const numbers& y, const json& want) {
  CHECK(y.size() == get<std::size_t>(want, "count"));
  const auto first = get<std::vector<std::uint32_t>>(want, "first");
  CHECK(numbers(y.begin(), y.begin() + std::ptrdiff_t(std::min(y.size(), first.size()))) == first);
  std::string bytes;
  for (const std::uint32_t n : y)
    for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(n >> shift & 0xFF);
  char digest[24];
  std::snprintf(digest, sizeof digest, "%016llx", static_cast<unsigned long long>(hash(bytes)));
  CHECK(std::string(digest) == get<std::string>(want, "hash"));
}
rank_layout layout_of(const json& c) {
  return {get<index_t>(c, "batch"), get<index_t>(c, "ranks"), get<std::uint64_t>(c, "seed")};
}
std::vector<example_size> sizes_of(std::uint32_t n, std::uint32_t pictures_of_8) {
  std::vector<example_size> out;
  for (std::uint32_t i = 0; i < n; ++i)
    out.push_back(
        {(i * 2654435761u >> 16) % 97 + 1, ((i * 40503u & 0xFFFF) >> 8) % 8 < pictures_of_8});
  return out;
}
data_source source_of(const std::vector<example_size>& sizes) {
  data_source s;
  s.size = sizes.size();
  s.has_picture = [sizes](std::uint64_t i) { return sizes[i].picture; };
  s.words = [sizes](std::uint64_t i) { return sizes[i].words; };
  return s;
}
}  // namespace

TEST_SUITE("torch_sampler_test") {
  TEST_CASE("permutations are torch.randperm's") {
    const json cases = golden("permutations");
    for (const json& c : cases) {
      const auto seed = get<std::uint64_t>(c, "seed");
      const auto n = get<std::size_t>(c, "n");
      CAPTURE(seed);
      CAPTURE(n);
      torch_generator g(seed);
      check_same(g.permutation(n), c.at("y"));
      check_same(g.permutation(20), c.at("next"));
    }
    CHECK_THROWS_AS(torch_generator(0).permutation(std::size_t{1} << 28), error);
  }
  TEST_CASE("the distributed order is DistributedSampler's, in whole batches") {
    const json cases = golden("distributed");
    for (const json& c : cases) {
      const auto n = get<std::size_t>(c, "n");
      CAPTURE(n);
      numbers y = distributed_order(n, layout_of(c));
      CHECK(std::set<std::uint32_t>(y.begin(), y.end()).size() == n);
      const auto whole = get<std::size_t>(c.at("whole"), "count");
      CHECK(y.size() - whole < get<std::size_t>(c, "batch") + 1);
      y.resize(whole);
      check_same(y, c.at("whole"));
    }
    CHECK(distributed_order(3, {8, 2, 7}).size() == 8);  // wraps around more than once
    CHECK_THROWS_AS(distributed_order(0, {}), error);
    CHECK_THROWS_AS(distributed_order(9, {.batch = 9, .ranks = 2}), error);
  }
  TEST_CASE("the split-modality order is the original's") {
    const json cases = golden("split_modality");
    for (const json& c : cases) {
      const auto n = get<std::uint32_t>(c, "n");
      CAPTURE(n);
      const auto sizes = sizes_of(n, get<std::uint32_t>(c, "pictures_of_8"));
      const rank_layout o = layout_of(c);
      const numbers y = split_modality_order(sizes, o);
      check_same(y, c.at("y"));
      CHECK(std::set<std::uint32_t>(y.begin(), y.end()).size() == n);
      const std::size_t batch = std::size_t(o.batch);
      for (std::size_t at = 0; at < y.size(); at += batch)
        for (std::size_t i = 1; i < batch; ++i)
          if (sizes[y[at + i]].picture != sizes[y[at]].picture) FAIL("a mixed batch");
      std::uint32_t longest = 0, first = 0;
      for (std::size_t i = 0; i < y.size(); ++i) {
        const std::uint32_t length = sizes[y[i]].words + (sizes[y[i]].picture ? 576 : 0);
        longest = std::max(longest, length);
        if (i < batch) first = std::max(first, length);
      }
      CHECK(first == longest);
    }
  }
  TEST_CASE("what has no split-modality order is refused") {
    CHECK_THROWS_AS(split_modality_order(sizes_of(50, 0), {8, 2, 7}), error);  // no picture
    CHECK_THROWS_AS(split_modality_order(sizes_of(50, 8), {128, 2, 7}), error);
    CHECK_THROWS_AS(split_modality_order(sizes_of(50, 8), {10, 4, 7}), error);
  }
  TEST_CASE("the sampler has both orders, and a seed for each epoch") {
    const auto sizes = sizes_of(200, 5);
    const auto epoch = [](sampler& s, index_t first) {
      numbers all;
      for (index_t u = first; u < first + s.epoch_batches(); ++u)
        for (const std::uint64_t i : s(u)) all.push_back(std::uint32_t(i));
      return all;
    };
    sampler split(source_of(sizes), 16, sampling::split_modality, 7, 8, 4);
    CHECK(epoch(split, 0) == split_modality_order(sizes, {16, 4, 7}));
    CHECK(epoch(split, split.epoch_batches()) == split_modality_order(sizes, {16, 4, 8}));
    sampler all(source_of(sizes), 16, sampling::distributed, 7, 8, 4);
    CHECK(epoch(all, 0) == distributed_order(200, {16, 4, 7}));
    CHECK(epoch(all, all.epoch_batches() * 2) == distributed_order(200, {16, 4, 9}));
    CHECK(sampling_of("split-modality") == sampling::split_modality);
    CHECK(sampling_of("distributed") == sampling::distributed);
    CHECK_THROWS_AS(sampler(source_of(sizes), 16, sampling::distributed, 7, 8, 5), error);
  }
}
