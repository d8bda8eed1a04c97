// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What stands where in a garment scene: names, the draw of a 3x3 grid, and how often classes meet.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "mlmamba/core/random.hpp"
#include "mlmamba/train/garment/idx.hpp"

namespace mlmamba::train::garment {

inline constexpr int cell_count = 9;  // 3 rows of 3; cell = 3 row + column
inline constexpr int empty = -1;

/// How a class is called: as an answer, after "one", after other numbers, and with its article.
struct class_words {
  const char* name;
  const char* one;
  const char* many;
  const char* a;
};

inline constexpr std::array<class_words, class_count> classes{{
    {"t-shirt", "t-shirt", "t-shirts", "a t-shirt"},
    {"trousers", "pair of trousers", "pairs of trousers", "a pair of trousers"},
    {"pullover", "pullover", "pullovers", "a pullover"},
    {"dress", "dress", "dresses", "a dress"},
    {"coat", "coat", "coats", "a coat"},
    {"sandal", "sandal", "sandals", "a sandal"},
    {"shirt", "shirt", "shirts", "a shirt"},
    {"sneaker", "sneaker", "sneakers", "a sneaker"},
    {"bag", "bag", "bags", "a bag"},
    {"ankle boot", "ankle boot", "ankle boots", "an ankle boot"},
}};

inline constexpr std::array<const char*, cell_count> places{
    "top left",     "top centre",  "top right",     "middle left", "centre",
    "middle right", "bottom left", "bottom centre", "bottom right"};

inline constexpr std::array<const char*, 10> number_words{"zero", "one", "two",   "three", "four",
                                                          "five", "six", "seven", "eight", "nine"};

inline constexpr const char* nothing = "nothing";

/// Integer draws from the library's counter-based stream: a seed means the same bytes on every
/// machine and compiler. Each (seed, split, scene, purpose) has a stream of its own.
class draws {
 public:
  draws(std::uint64_t seed, split which, std::uint64_t index, std::uint64_t purpose)
      : stream_{seed, index * 16 + purpose * 2 + static_cast<std::uint64_t>(which)} {}

  std::uint64_t bits() { return stream_.bits(); }

  int below(int n) { return static_cast<int>(stream_.below(static_cast<std::uint64_t>(n))); }
  int between(int low, int high) { return low + below(high - low + 1); }  ///< both ends included
  bool percent(int p) { return below(100) < p; }

  /// An index drawn in proportion to non-negative weights with a positive sum.
  template <std::size_t N>
  int weighted(const std::array<int, N>& weights) {
    int total = 0;
    for (int w : weights) total += w;
    int at = below(total);
    for (std::size_t i = 0; i < N; ++i)
      if ((at -= weights[i]) < 0) return static_cast<int>(i);
    return static_cast<int>(N) - 1;  // not reached
  }

  template <class Range>
  void shuffle(Range& r) {
    for (std::size_t i = r.size(); i > 1; --i)
      std::swap(r[i - 1], r[static_cast<std::size_t>(below(static_cast<int>(i)))]);
  }

 private:
  random_stream stream_;
};

enum purpose : std::uint64_t {
  for_layout,
  for_pixels,
  for_plan,
  for_questions,
  for_statistics,
  for_corpus
};

/// The class in each cell, or `empty`.
struct layout {
  std::array<int, cell_count> cell{empty, empty, empty, empty, empty, empty, empty, empty, empty};

  int at(int place) const { return cell[static_cast<std::size_t>(place)]; }
  int count(int kind) const { return static_cast<int>(std::count(cell.begin(), cell.end(), kind)); }
  int total() const { return cell_count - count(empty); }
  bool has(int kind) const { return count(kind) > 0; }
  int place_of(int kind) const {  ///< the first cell with it, or `empty`
    const auto found = std::find(cell.begin(), cell.end(), kind);
    return found == cell.end() ? empty : static_cast<int>(found - cell.begin());
  }
};

/// Draws a layout: 1 to 9 garments (equally likely) in random cells. Each scene has an occasion,
/// and three in four of its garments are what one wears then, so some classes meet often; three in
/// ten repeat a class that is already there, so that counts go up.
inline layout draw_layout(draws& random) {
  //                      t-shirt trousers pullover dress coat sandal shirt sneaker bag boot
  static constexpr std::array<std::array<int, class_count>, 5> occasions{{
      {4, 1, 0, 2, 0, 4, 0, 0, 2, 0},  // beach
      {0, 2, 4, 0, 4, 0, 0, 0, 0, 4},  // winter
      {4, 2, 1, 0, 0, 0, 0, 5, 1, 0},  // sport
      {0, 4, 1, 0, 2, 0, 5, 0, 2, 0},  // office
      {0, 0, 0, 5, 1, 3, 1, 0, 4, 2},  // evening
  }};
  layout out;
  const auto& usual = occasions[static_cast<std::size_t>(random.below(5))];
  const int n = random.between(1, cell_count);
  std::array<int, cell_count> order{0, 1, 2, 3, 4, 5, 6, 7, 8};
  random.shuffle(order);
  for (int i = 0; i < n; ++i) {
    int kind = 0;
    if (i > 0 && random.percent(30))
      kind = out.at(order[static_cast<std::size_t>(random.below(i))]);
    else
      kind = random.percent(75) ? random.weighted(usual) : random.below(class_count);
    out.cell[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])] = kind;
  }
  return out;
}

/// How often classes occur, and meet, in scenes: the counts over a fixed draw of 20,000 layouts.
/// They belong to the generator, so that a question depends on its own scene and nothing else.
struct meeting_counts {
  std::array<int, class_count> with{};                           // scenes that hold the class
  std::array<std::array<int, class_count>, class_count> both{};  // scenes that hold both

  meeting_counts() {
    for (std::uint64_t i = 0; i < 20000; ++i) {
      draws random(0, split::train, i, for_statistics);
      const layout l = draw_layout(random);
      for (std::size_t a = 0; a < class_count; ++a) {
        if (!l.has(static_cast<int>(a))) continue;
        ++with[a];
        for (std::size_t b = 0; b < class_count; ++b)
          if (b != a && l.has(static_cast<int>(b))) ++both[a][b];
      }
    }
  }

  /// How strongly the other classes of a scene suggest this one: sum over them of
  /// P(kind | other), in parts per 10,000.
  int suggested(const layout& l, int kind) const {
    int sum = 0;
    for (std::size_t o = 0; o < class_count; ++o)
      if (static_cast<int>(o) != kind && l.has(static_cast<int>(o)))
        sum += both[o][static_cast<std::size_t>(kind)] * 10000 / std::max(1, with[o]);
    return sum;
  }

  static const meeting_counts& get() {
    static const meeting_counts counts;
    return counts;
  }
};

}  // namespace mlmamba::train::garment
