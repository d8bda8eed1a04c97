// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Answers as VQAv2, VizWiz, TextVQA and GQA compare them, with every quirk of their scripts.
#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mlmamba/text/detail/python_text.hpp"

namespace mlmamba::evaluate {

/// Words without their apostrophes, and the words. Keys with a capital never match, because words
/// are in lower case by then; they are left out.
using contraction_table = std::map<std::string, std::string, std::less<>>;

namespace detail {

inline contraction_table make_contractions() {
  contraction_table out;
  // Found by the word without its apostrophe.
  for (const char* word :
       {"ain't",       "aren't",       "can't",      "could've",  "couldn't",   "didn't",
        "doesn't",     "don't",        "hadn't",     "hasn't",    "haven't",    "he'd",
        "he's",        "how'd",        "how'll",     "how's",     "isn't",      "it'd",
        "it'll",       "ma'am",        "mightn't",   "might've",  "mustn't",    "must've",
        "needn't",     "not've",       "o'clock",    "oughtn't",  "shan't",     "should've",
        "shouldn't",   "somebody'll",  "somebody's", "someone'd", "someone'll", "someone's",
        "something'd", "something'll", "that's",     "there'd",   "there're",   "there's",
        "they'd",      "they'll",      "they're",    "they've",   "'twas",      "wasn't",
        "we've",       "weren't",      "what'll",    "what're",   "what's",     "what've",
        "when's",      "where'd",      "where's",    "where've",  "who'd",      "who'll",
        "who's",       "who've",       "why'll",     "why're",    "why's",      "won't",
        "would've",    "wouldn't",     "y'all",      "you'd",     "you'll",     "you're",
        "you've"})
    out[mlmamba::detail::replaced(word, "'", "")] = word;
  // Found by the word without one of its two apostrophes.
  for (const std::string word :
       {"couldn't've", "hadn't've", "he'd've", "it'd've", "mightn't've", "she'd've", "shouldn't've",
        "somebody'd've", "someone'd've", "something'd've", "there'd've", "they'd've", "we'd've",
        "who'd've", "wouldn't've", "you'd've"}) {
    const std::size_t first = word.find('\''), last = word.rfind('\'');
    out[std::string(word).erase(first, 1)] = word;
    out[std::string(word).erase(last, 1)] = word;
  }
  out["let's"] = "let's", out["she's"] = "she's";
  out["yall'll"] = out["y'allll"] = "y'all'll";
  out["yall'd've"] = out["y'alld've"] = out["y'all'dve"] = "y'all'd've";
  out["ow's'at"] = out["'ows'at"] = out["'ow'sat"] = "'ow's'at";
  out["somebody'd"] = "somebodyd";
  return out;
}

}  // namespace detail

/// Of VQAv2 and TextVQA.
inline const contraction_table& contractions() {
  static const contraction_table table = detail::make_contractions();
  return table;
}

/// Of VizWiz: back-ticks where the others have apostrophes, but for a few. Back-ticks are
/// punctuation, so that such a word never equals an annotator's.
inline const contraction_table& vizwiz_contractions() {
  static const contraction_table table = [] {
    contraction_table out;
    for (const auto& [key, value] : contractions()) {
      const bool same_value = value == "ain't" || value == "aren't" || value == "can't" ||
                              value == "could've" || value == "couldn't" || value == "we've" ||
                              value == "where's" || value == "who've";
      const bool same_key = key == "couldn'tve" || key == "hadn'tve";
      out[same_key ? key : mlmamba::detail::replaced(key, "'", "`")] =
          same_value ? value : mlmamba::detail::replaced(value, "'", "`");
    }
    return out;
  }();
  return table;
}

/// The punctuation step: a mark is deleted if the text has it beside a blank, or has a comma
/// between digits anywhere; else it becomes a blank. Then periods that no digit follows go, 32 of
/// them at most: the original passes a flag where the count belongs.
inline std::string without_punctuation(std::string_view answer) {
  using namespace mlmamba::detail;
  const std::u32string text = characters(answer);
  bool number = false;
  for (std::size_t i = 1; i + 1 < text.size(); ++i)
    number = number || (text[i] == U',' && is_digit(text[i - 1]) && is_digit(text[i + 1]));
  std::u32string marked = text;
  for (const char32_t mark : std::u32string_view(U";/[]\"{}()=+\\_-><@`,?!")) {
    const bool beside = text.find(std::u32string{mark, U' '}) != text.npos ||
                        text.find(std::u32string{U' ', mark}) != text.npos;
    if (beside || number)
      std::erase(marked, mark);
    else
      std::replace(marked.begin(), marked.end(), mark, U' ');
  }
  std::u32string out;
  int deleted = 0;
  for (std::size_t i = 0; i < marked.size(); ++i) {
    const bool lone = marked[i] == U'.' && (i + 1 == marked.size() || !is_digit(marked[i + 1]));
    if (lone && deleted < 32)
      ++deleted;
    else
      out += marked[i];
  }
  return utf8_of(out);
}

/// The word step: lower case, numbers up to ten as digits, no articles, contractions as in `table`.
inline std::string normalised_words(std::string_view text, const contraction_table& table) {
  static const std::map<std::string, std::string, std::less<>> digits{
      {"none", "0"}, {"zero", "0"}, {"one", "1"},   {"two", "2"},   {"three", "3"}, {"four", "4"},
      {"five", "5"}, {"six", "6"},  {"seven", "7"}, {"eight", "8"}, {"nine", "9"},  {"ten", "10"}};
  std::string out;
  for (std::string word : mlmamba::detail::split_words(mlmamba::detail::lower_case(text))) {
    if (const auto digit = digits.find(word); digit != digits.end()) word = digit->second;
    if (word == "a" || word == "an" || word == "the") continue;
    if (const auto full = table.find(word); full != table.end()) word = full->second;
    out.append(out.empty() ? "" : " ").append(word);
  }
  return out;
}

namespace detail {
inline std::string one_line(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c == '\n' || c == '\t') c = ' ';
  return std::string(mlmamba::detail::strip(out));
}
}  // namespace detail

/// A prediction for VQAv2 (with contractions()) or VizWiz (with vizwiz_contractions()). Annotators'
/// answers get the punctuation step alone (VQAv2), or nothing (VizWiz).
inline std::string vqa_prediction(std::string_view text, const contraction_table& table) {
  return normalised_words(without_punctuation(detail::one_line(text)), table);
}

/// Both a prediction and an annotator's answer for TextVQA.
inline std::string text_vqa_answer(std::string_view text) {
  using mlmamba::detail::replaced;
  const std::string lower = mlmamba::detail::lower_case(text);
  return vqa_prediction(replaced(replaced(replaced(lower, ",", ""), "?", ""), "'s", " 's"),
                        contractions());
}

/// A prediction for GQA: lower case, ASCII punctuation deleted.
inline std::string gqa_prediction(std::string_view text) {
  std::string out = mlmamba::detail::lower_case(text);
  std::erase_if(out, [](char c) {
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
           (c >= '{' && c <= '~');
  });
  return out;
}

/// Soft accuracy: the mean over annotators of min(1, m / 3), m how many of the others gave this
/// answer.
///
/// Source    Antol et al. 2015, arXiv:1505.00468
inline double soft_accuracy(std::string_view answer, std::span<const std::string> annotators) {
  double sum = 0;
  for (std::size_t i = 0; i < annotators.size(); ++i) {
    int same = 0;
    for (std::size_t j = 0; j < annotators.size(); ++j) same += j != i && annotators[j] == answer;
    sum += std::min(1.0, same / 3.0);
  }
  return annotators.empty() ? 0 : sum / double(annotators.size());
}

}  // namespace mlmamba::evaluate
