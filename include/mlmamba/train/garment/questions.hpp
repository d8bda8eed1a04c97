// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Questions about a garment scene, in several wordings each, with the one right answer.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/core/error.hpp"
#include "mlmamba/train/garment/layout.hpp"

namespace mlmamba::train::garment {

enum class question_type : std::uint8_t {
  presence,   ///< is there an X: yes or no, equally often
  count,      ///< how many X, or how many garments: zero to nine
  what_at,    ///< what is at a place: a class or nothing
  where,      ///< where is the only X: a place
  neighbour,  ///< what is directly left of, right of, above, below the only X: a class or nothing
  same,       ///< do two places hold the same kind: same or different, equally often wanted
  caption,    ///< one sentence that counts what is there
  list,       ///< every place and what it holds
};
inline constexpr int question_type_count = 8;
inline constexpr std::array<const char*, question_type_count> question_type_names{
    "presence", "count", "what_at", "where", "neighbour", "same", "caption", "list"};

/// How the class of a presence question is chosen, for yes and no alike, so that the class tells as
/// little as possible: any; among the most frequent ones; among those that the scene's other
/// classes suggest most (POPE's random, popular and adversarial sets).
inline constexpr std::array<const char*, 3> negative_kinds{"random", "popular", "adversarial"};

inline constexpr std::array<const char*, 4> sides{"left of", "right of", "above", "below"};

struct question {
  question_type type;
  const char* kind;  ///< presence: a negative kind; count: class, all; neighbour: a side; else ""
  std::string text;
  std::string answer;
};

/// The wordings. {a} is "a bag", {the} "the bag", {many} "bags", {at} "at the top left", {place}
/// "the top left", {at2} and {place2} a second place, {side} "left of".
struct wordings {
  static constexpr std::array<const char*, 5> presence{
      "Is there {a} in the picture?", "Can you see {a}?", "Does the picture show {a}?",
      "Do you see {a} anywhere?", "Is {a} shown here?"};
  static constexpr std::array<const char*, 5> count{
      "How many {many} are there?", "How many {many} can you see?",
      "How many {many} does the picture show?", "Count the {many}.",
      "What is the number of {many}?"};
  static constexpr std::array<const char*, 5> what_at{
      "What is {at}?", "What do you see {at}?", "Which garment, if any, is {at}?",
      "What does the picture show {at}?", "Name what is {at}."};
  static constexpr std::array<const char*, 5> where{
      "Where is {the}?", "Where can you see {the}?", "In which place is {the}?",
      "Where in the picture is {the}?", "Say where {the} is."};
  static constexpr std::array<const char*, 5> neighbour{
      "What is directly {side} {the}?", "What is just {side} {the}?",
      "What do you see directly {side} {the}?", "Which garment, if any, is directly {side} {the}?",
      "Name what is just {side} {the}."};
  static constexpr std::array<const char*, 4> same{
      "Are the garments {at} and {at2} of the same kind or different?",
      "Same or different: {place} and {place2}?",
      "Compare {place} with {place2}: same kind or different?",
      "Is the garment {at} of the same kind as the one {at2}, or different?"};
  static constexpr std::array<const char*, 4> caption{
      "Describe the picture.", "Give a short caption.", "What is in the picture?",
      "Say in one sentence what you see."};
  static constexpr std::array<const char*, 4> list{
      "List every place.", "Go through all nine places.", "Name what is at every place.",
      "List what each place holds."};
};

namespace detail {

// Replaces each {name} by its text; an unknown name is a mistake in the wordings.
inline std::string fill_in(std::string_view text,
                           std::initializer_list<std::pair<std::string_view, std::string>> words) {
  std::string out;
  while (!text.empty()) {
    const std::size_t open = text.find('{');
    out += text.substr(0, open);
    if (open == std::string_view::npos) break;
    const std::size_t close = text.find('}', open);
    const std::string_view name = text.substr(open + 1, close - open - 1);
    const std::string* value = nullptr;
    for (const auto& w : words)
      if (w.first == name) value = &w.second;
    if (!value) fail<error>("garment: no value for {", name, "}; each name of a wording wants one");
    out += *value;
    text.remove_prefix(close + 1);
  }
  return out;
}

inline const class_words& words_of(int kind) { return classes[static_cast<std::size_t>(kind)]; }
inline std::string name_at(int kind) { return kind == empty ? nothing : words_of(kind).name; }
inline std::string place_name(int place) { return places[static_cast<std::size_t>(place)]; }
inline std::string the_place(int place) { return "the " + place_name(place); }
inline std::string at_place(int place) { return (place == 4 ? "in " : "at ") + the_place(place); }

}  // namespace detail

/// One text of each kind; `wording` counts from 0.
inline std::string presence_text(int wording, int kind) {
  return detail::fill_in(wordings::presence[static_cast<std::size_t>(wording)],
                         {{"a", detail::words_of(kind).a}});
}
/// kind = empty asks for all garments.
inline std::string count_text(int wording, int kind) {
  return detail::fill_in(wordings::count[static_cast<std::size_t>(wording)],
                         {{"many", kind == empty ? "garments" : detail::words_of(kind).many}});
}
inline std::string what_at_text(int wording, int place) {
  return detail::fill_in(wordings::what_at[static_cast<std::size_t>(wording)],
                         {{"at", detail::at_place(place)}});
}
inline std::string where_text(int wording, int kind) {
  return detail::fill_in(wordings::where[static_cast<std::size_t>(wording)],
                         {{"the", std::string("the ") + detail::words_of(kind).one}});
}
inline std::string neighbour_text(int wording, int kind, int side) {
  return detail::fill_in(wordings::neighbour[static_cast<std::size_t>(wording)],
                         {{"side", sides[static_cast<std::size_t>(side)]},
                          {"the", std::string("the ") + detail::words_of(kind).one}});
}
inline std::string same_text(int wording, int place, int place2) {
  return detail::fill_in(wordings::same[static_cast<std::size_t>(wording)],
                         {{"at", detail::at_place(place)},
                          {"at2", detail::at_place(place2)},
                          {"place", detail::the_place(place)},
                          {"place2", detail::the_place(place2)}});
}

/// "two bags, one coat and one shirt." The most frequent first; equal ones in the order of classes.
inline std::string caption_of(const layout& l) {
  std::vector<std::string> parts;
  for (int n = cell_count; n > 0; --n)
    for (int kind = 0; kind < class_count; ++kind)
      if (l.count(kind) == n)
        parts.push_back(std::string(number_words[static_cast<std::size_t>(n)]) + ' ' +
                        (n == 1 ? detail::words_of(kind).one : detail::words_of(kind).many));
  std::string out;
  for (std::size_t i = 0; i < parts.size(); ++i)
    out += (i == 0 ? "" : i + 1 == parts.size() ? " and " : ", ") + parts[i];
  return out + '.';
}

/// "top left: bag; top centre: nothing; ... ; bottom right: coat."
inline std::string list_of(const layout& l) {
  std::string out;
  for (int p = 0; p < cell_count; ++p)
    out += (p ? "; " : "") + detail::place_name(p) + ": " + detail::name_at(l.at(p));
  return out + '.';
}

/// The cell next to `place` on a side (an index of `sides`), or `empty` beyond the border.
inline int next_to(int place, int side) {
  const int column = place % 3 + (side == 1) - (side == 0);
  const int row = place / 3 + (side == 3) - (side == 2);
  return column < 0 || column > 2 || row < 0 || row > 2 ? empty : 3 * row + column;
}

}  // namespace mlmamba::train::garment
