// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Which questions are asked about a garment scene: the plan of its turns, and their filling.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "mlmamba/train/garment/questions.hpp"

namespace mlmamba::train::garment {

using type_weights = std::array<int, question_type_count>;  // by question_type
inline constexpr type_weights usual_weights{6, 4, 6, 3, 3, 2, 1, 2};

/// Asks `turns` questions about a scene, of types drawn by `weights`.
///
/// The plan (types, their order, which of presence and same are to be answered yes) belongs to the
/// pair of scenes 2j and 2j+1; the second one's wanted answers are the first one's, turned over. So
/// over any even number of scenes exactly half of all presence answers are yes, in each negative
/// kind too, and no answer can be guessed from the others of its conversation.
///
/// A type that a scene can't serve (where: no class is alone) becomes another one of positive
/// weight; presence always can, so its number stays as planned. No question is repeated (presence:
/// while there are others), so there may be fewer than `turns`. Caption and list come at most once
/// each, and last three times in four, because they give the other answers away.
class asker {
 public:
  asker(const layout& scene, std::uint64_t seed, split which, std::uint64_t index)
      : scene_(scene),
        index_(index),
        plan_(seed, which, index / 2, for_plan),
        random_(seed, which, index, for_questions) {}

  std::vector<question> ask(int turns, const type_weights& weights) {
    std::vector<slot> slots = plan(turns, weights);
    std::vector<question> out;
    for (slot s : slots) {
      s.yes = s.yes != (index_ % 2 == 1);
      if (fill(s, out)) continue;
      for (question_type other : {question_type::what_at, question_type::count,
                                  question_type::neighbour, question_type::where})
        if (weights[static_cast<std::size_t>(other)] > 0 && fill({other, 0, false}, out)) break;
    }
    return out;
  }

 private:
  struct slot {
    question_type type;
    int negative;  // index of negative_kinds
    bool yes;      // the wanted answer: yes, or same
  };

  static bool is_long(question_type t) {
    return t == question_type::caption || t == question_type::list;
  }

  std::vector<slot> plan(int turns, type_weights weights) {
    std::vector<slot> out;
    for (int t = 0; t < turns; ++t) {
      if (std::none_of(weights.begin(), weights.end(), [](int w) { return w > 0; })) break;
      const auto type = static_cast<question_type>(plan_.weighted(weights));
      if (is_long(type)) weights[static_cast<std::size_t>(type)] = 0;
      out.push_back({type, plan_.below(3), plan_.percent(50)});
    }
    if (plan_.percent(75))
      std::stable_partition(out.begin(), out.end(), [](const slot& s) { return !is_long(s.type); });
    return out;
  }

  // Appends a question for the slot; false if the scene has none that was not asked yet.
  bool fill(const slot& s, std::vector<question>& out) {
    switch (s.type) {
      case question_type::presence:
        return presence(s, out);
      case question_type::count:
        return count(out);
      case question_type::what_at:
        return what_at(out);
      case question_type::where:
        return where(out);
      case question_type::neighbour:
        return neighbour(out);
      case question_type::same:
        return same(s, out);
      case question_type::caption:
        return add(out, s.type, "", wordings::caption[word(wordings::caption)], caption_of(scene_));
      case question_type::list:
        return add(out, s.type, "", wordings::list[word(wordings::list)], list_of(scene_));
    }
    return false;
  }

  template <class Array>
  std::size_t word(const Array& a) {
    return static_cast<std::size_t>(random_.below(static_cast<int>(a.size())));
  }
  template <class Array>
  int wording(const Array& a) {
    return static_cast<int>(word(a));
  }
  int one_of(const std::vector<int>& from) {
    return from[static_cast<std::size_t>(random_.below(static_cast<int>(from.size())))];
  }

  // What a question asks, whatever its wording: type and two arguments.
  static int key(question_type t, int a, int b = 0) {
    return (static_cast<int>(t) * 32 + a + 1) * 32 + b;
  }
  bool fresh(question_type t, int a, int b = 0) const { return asked_.count(key(t, a, b)) == 0; }
  void mark(question_type t, int a, int b = 0) { asked_.insert(key(t, a, b)); }

  static bool add(std::vector<question>& out, question_type type, const char* kind,
                  std::string text, std::string answer) {
    out.push_back({type, kind, std::move(text), std::move(answer)});
    return true;
  }

  bool presence(const slot& s, std::vector<question>& out) {
    std::vector<int> from, unasked;
    for (int c = 0; c < class_count; ++c)
      if (scene_.has(c) == s.yes) {
        from.push_back(c);
        if (fresh(question_type::presence, c)) unasked.push_back(c);
      }
    if (!unasked.empty()) from = unasked;  // else ask one again: the balance is worth more
    if (s.negative > 0) {
      const auto& counts = meeting_counts::get();
      const auto rank = [&](int c) {
        return s.negative == 1 ? counts.with[static_cast<std::size_t>(c)]
                               : counts.suggested(scene_, c);
      };
      std::stable_sort(from.begin(), from.end(), [&](int a, int b) { return rank(a) > rank(b); });
      // not resize: GCC 12.2 at -O3 then warns of a construction that can't happen (array-bounds)
      if (from.size() > 2) from.erase(from.begin() + 2, from.end());
    }
    const int c = one_of(from);
    mark(question_type::presence, c);
    return add(out, s.type, negative_kinds[static_cast<std::size_t>(s.negative)],
               presence_text(wording(wordings::presence), c), s.yes ? "yes" : "no");
  }

  // All garments once in four; a class: there, in proportion to its number, or absent once in six.
  bool count(std::vector<question>& out) {
    if (random_.percent(25) && fresh(question_type::count, empty)) {
      mark(question_type::count, empty);
      return add(out, question_type::count, "all", count_text(wording(wordings::count), empty),
                 number_words[static_cast<std::size_t>(scene_.total())]);
    }
    const bool absent = random_.below(6) == 0;
    std::vector<int> from;
    for (int c = 0; c < class_count; ++c)
      if (fresh(question_type::count, c) && scene_.has(c) != absent)
        from.insert(from.end(), static_cast<std::size_t>(std::max(1, scene_.count(c))), c);
    if (from.empty()) return false;
    const int c = one_of(from);
    mark(question_type::count, c);
    return add(out, question_type::count, "class", count_text(wording(wordings::count), c),
               number_words[static_cast<std::size_t>(scene_.count(c))]);
  }

  // A place that is taken three times in four, if there is one of each sort.
  bool what_at(std::vector<question>& out) {
    const bool taken = random_.percent(75);
    std::vector<int> wanted, other;
    for (int p = 0; p < cell_count; ++p)
      if (fresh(question_type::what_at, p))
        ((scene_.at(p) != empty) == taken ? wanted : other).push_back(p);
    if (wanted.empty()) wanted = other;
    if (wanted.empty()) return false;
    const int p = one_of(wanted);
    mark(question_type::what_at, p);
    return add(out, question_type::what_at, "", what_at_text(wording(wordings::what_at), p),
               detail::name_at(scene_.at(p)));
  }

  bool where(std::vector<question>& out) {
    std::vector<int> from;
    for (int c = 0; c < class_count; ++c)
      if (scene_.count(c) == 1 && fresh(question_type::where, c)) from.push_back(c);
    if (from.empty()) return false;
    const int c = one_of(from);
    mark(question_type::where, c);
    return add(out, question_type::where, "", where_text(wording(wordings::where), c),
               detail::place_name(scene_.place_of(c)));
  }

  // A neighbour that is there three times in four, else an empty cell or the border.
  bool neighbour(std::vector<question>& out) {
    const bool taken = random_.percent(75);
    std::vector<int> wanted;  // 4 class + side
    for (int c = 0; c < class_count; ++c)
      for (int side = 0; side < 4 && scene_.count(c) == 1; ++side) {
        const int p = next_to(scene_.place_of(c), side);
        const bool there = p != empty && scene_.at(p) != empty;
        if (there == taken && fresh(question_type::neighbour, c, side))
          wanted.push_back(4 * c + side);
      }
    if (wanted.empty()) return false;  // not the other sort: "nothing" would be half of all
    const int chosen = one_of(wanted), c = chosen / 4, side = chosen % 4;
    mark(question_type::neighbour, c, side);
    const int p = next_to(scene_.place_of(c), side);
    return add(out, question_type::neighbour, sides[static_cast<std::size_t>(side)],
               neighbour_text(wording(wordings::neighbour), c, side),
               p == empty ? nothing : detail::name_at(scene_.at(p)));
  }

  // Only where both answers were possible: one answer alone would lean on the number of garments.
  bool same(const slot& s, std::vector<question>& out) {
    std::vector<int> alike, unlike;  // 9 place + second place
    for (int p = 0; p < cell_count; ++p)
      for (int q = 0; q < cell_count; ++q)
        if (p != q && scene_.at(p) != empty && scene_.at(q) != empty)
          (scene_.at(p) == scene_.at(q) ? alike : unlike).push_back(9 * p + q);
    if (alike.empty() || unlike.empty()) return false;
    const auto& all = s.yes ? alike : unlike;
    std::vector<int> from;
    for (int pair : all)
      if (fresh(question_type::same, std::min(pair / 9, pair % 9), std::max(pair / 9, pair % 9)))
        from.push_back(pair);
    if (from.empty()) return false;
    const int chosen = one_of(from), p = chosen / 9, q = chosen % 9;
    mark(question_type::same, std::min(p, q), std::max(p, q));
    return add(out, question_type::same, "", same_text(wording(wordings::same), p, q),
               s.yes ? "same" : "different");
  }

  layout scene_;
  std::uint64_t index_;
  draws plan_, random_;
  std::set<int> asked_;
};

}  // namespace mlmamba::train::garment
