// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A second reading of a garment scene: every answer from the boxes and the words of the question.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <vector>

#include "mlmamba/train/garment.hpp"

namespace mlmamba::train::garment {

// Names of its own, the grid from boxes and photo labels, questions by words.
inline const std::vector<std::string> place_names{"top left",    "top centre",    "top right",
                                                  "middle left", "centre",        "middle right",
                                                  "bottom left", "bottom centre", "bottom right"};
inline const std::vector<std::vector<std::string>> class_names{
    {"t-shirt", "t-shirts"},   {"trousers", "pair of trousers", "pairs of trousers"},
    {"pullover", "pullovers"}, {"dress", "dresses"},
    {"coat", "coats"},         {"sandal", "sandals"},
    {"shirt", "shirts"},       {"sneaker", "sneakers"},
    {"bag", "bags"},           {"ankle boot", "ankle boots"}};
inline const std::vector<std::string> numbers{"zero", "one", "two",   "three", "four",
                                              "five", "six", "seven", "eight", "nine"};

inline bool is_word_character(char c) { return (c >= 'a' && c <= 'z') || c == '-'; }

inline bool word_at(const std::string& text, std::size_t at, const std::string& word) {
  return text.compare(at, word.size(), word) == 0 &&
         (at == 0 || !is_word_character(text[at - 1])) &&
         (at + word.size() == text.size() || !is_word_character(text[at + word.size()]));
}

// All places that a text names, in order; the longest name wins ("top centre" is not "centre").
inline std::vector<int> places_in(const std::string& text) {
  std::vector<int> out;
  for (std::size_t at = 0; at < text.size();) {
    int best = -1;
    for (int p = 0; p < 9; ++p)
      if (word_at(text, at, place_names[std::size_t(p)]) &&
          (best < 0 || place_names[std::size_t(p)].size() > place_names[std::size_t(best)].size()))
        best = p;
    if (best >= 0) out.push_back(best);
    at += best >= 0 ? place_names[std::size_t(best)].size() : 1;
  }
  return out;
}

inline std::vector<int> classes_in(const std::string& text) {
  std::set<int> out;
  for (std::size_t at = 0; at < text.size(); ++at)
    for (std::size_t c = 0; c < 10; ++c)
      for (const std::string& name : class_names[c])
        if (word_at(text, at, name)) out.insert(int(c));
  return {out.begin(), out.end()};
}

struct reading {
  std::array<int, 9> grid;
  reading(const scene& s, const source& photos) {
    grid.fill(-1);
    const int cell = s.size / 3 * 256;
    for (const object& o : s.objects) {
      const int column = (o.left + o.side / 2) / cell, row = (o.top + o.side / 2) / cell;
      REQUIRE(grid[std::size_t(row * 3 + column)] == -1);
      grid[std::size_t(row * 3 + column)] = photos.labels[o.photo];
    }
  }
  int at(int p) const { return grid[std::size_t(p)]; }
  int count(int kind) const { return int(std::count(grid.begin(), grid.end(), kind)); }
  std::string name(int kind) const {
    return kind < 0 ? "nothing" : class_names[std::size_t(kind)][0];
  }

  std::string answer(const question& q) const {
    const std::vector<int> kinds = classes_in(q.text), spots = places_in(q.text);
    switch (q.type) {
      case question_type::presence:
        return count(kinds.at(0)) > 0 ? "yes" : "no";
      case question_type::count:
        return numbers.at(std::size_t(kinds.empty() ? 9 - count(-1) : count(kinds[0])));
      case question_type::what_at:
        return name(at(spots.at(0)));
      case question_type::where: {
        CHECK(count(kinds.at(0)) == 1);
        return place_names[std::size_t(std::find(grid.begin(), grid.end(), kinds[0]) -
                                       grid.begin())];
      }
      case question_type::neighbour: {
        CHECK(count(kinds.at(0)) == 1);
        const int p = int(std::find(grid.begin(), grid.end(), kinds[0]) - grid.begin());
        const auto says = [&](const char* w) { return q.text.find(w) != std::string::npos; };
        CHECK(says("left of") + says("right of") + says("above") + says("below") == 1);
        if (says("left of")) return p % 3 == 0 ? "nothing" : name(at(p - 1));
        if (says("right of")) return p % 3 == 2 ? "nothing" : name(at(p + 1));
        if (says("above")) return p < 3 ? "nothing" : name(at(p - 3));
        return p > 5 ? "nothing" : name(at(p + 3));
      }
      case question_type::same:
        CHECK(spots.size() == 2);
        CHECK(at(spots.at(0)) >= 0);
        CHECK(at(spots.at(1)) >= 0);
        return at(spots[0]) == at(spots[1]) ? "same" : "different";
      case question_type::list: {
        std::string out;
        for (int p = 0; p < 9; ++p)
          out += place_names[std::size_t(p)] + ": " + name(at(p)) + (p < 8 ? "; " : ".");
        return out;
      }
      case question_type::caption:
        return check_caption(q.answer);
    }
    return "?";
  }

  // Reads a caption back: numbers that fall, every class once, nothing left out.
  std::string check_caption(std::string text) const {
    const std::string whole = text;
    REQUIRE(text.back() == '.');
    text.pop_back();
    if (const auto last = text.find(" and "); last != std::string::npos)
      text.replace(last, 5, ", ");
    CHECK(text.find(" and ") == std::string::npos);
    std::array<int, 10> seen{};
    int before = 9;
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = std::min(text.find(", ", begin), text.size());
      const std::string part = text.substr(begin, end - begin);
      const std::string number = part.substr(0, part.find(' ')),
                        noun = part.substr(number.size() + 1);
      const int n = int(std::find(numbers.begin(), numbers.end(), number) - numbers.begin());
      const int kind = classes_in(noun).at(0);
      const auto& forms = class_names[std::size_t(kind)];
      CHECK(noun == (n > 1 ? forms.back() : forms.size() == 3 ? forms[1] : forms[0]));
      CHECK(n <= before);
      CHECK(seen[std::size_t(kind)] == 0);
      before = n;
      seen[std::size_t(kind)] = n;
      begin = end + 2;
    }
    for (int c = 0; c < 10; ++c)
      if (seen[std::size_t(c)] != count(c)) return "a caption that counts " + name(c) + " right";
    return whole;
  }
};

}  // namespace mlmamba::train::garment
