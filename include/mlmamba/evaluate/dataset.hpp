// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Questions of a benchmark: what is asked about which picture, and what is right.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/evaluate/box.hpp"
#include "mlmamba/evaluate/python_random.hpp"
#include "mlmamba/io/image.hpp"
#include "mlmamba/io/json.hpp"
#include "mlmamba/train/llava.hpp"

namespace mlmamba::evaluate {

/// How answers are judged; see scores.hpp.
enum class metric : std::uint8_t { vqa, vizwiz, text_vqa, gqa, choice, overlap, garment };

struct question {
  std::string id;
  std::string picture;               ///< its path below the data set's folder
  std::string message;               ///< what the human says
  std::string group, kind;           ///< of which part of the set, for scores of parts; may be ""
  std::vector<std::string> answers;  ///< of the annotators, or the one that is right
  int right = -1;                    ///< number of the right one of the set's choices
  box where{};                       ///< the right box
};

struct dataset {
  std::string id;
  metric judged = metric::vqa;
  std::vector<std::string> choices;  ///< asked for their probabilities; none: for text
  std::vector<std::string> groups;   ///< in order of the report
  std::vector<question> questions;
  std::function<image(const std::string&)> picture;
};

/// The messages of the original's evaluation.
namespace prompts {
inline std::string short_answer(const std::string& question) {
  return question + "\nAnswer the question using a single word or phrase.";
}
inline std::string vizwiz(const std::string& question) {
  return short_answer(
      question + "\nWhen the provided information is insufficient, respond with 'Unanswerable'.");
}
inline std::string true_or_false(const std::string& caption) {
  return "Based on the image, is this statement \"True\" or \"False\"? " + caption +
         "\nRespond with \"True\" or \"False\" directly.";
}
inline std::string where_is(const std::string& sentence) {
  return "Please provide the bounding box coordinate of the region this sentence describes: \"" +
         sentence + "\"";
}
inline std::string letter_of(const std::string& question, const std::vector<std::string>& choices) {
  std::string out = question;
  for (std::size_t i = 0; i < choices.size(); ++i)
    out += std::string("\n") + char('A' + i) + ". " + choices[i];
  return out + "\nAnswer with the option's letter from the given choices directly.";
}
/// What OCR has found comes before the question: read last, the question is fresh in the state
/// (58 % against 43 % of TextVQA for a Mamba model of this kind, arXiv:2403.14520).
inline std::string with_tokens(const std::string& question, const std::string& tokens) {
  return short_answer("Reference OCR token: " + tokens + "\n" + question);
}
}  // namespace prompts

namespace detail {

inline std::string record_name(const std::filesystem::path& file, std::size_t i) {
  return file.string() + ": record " + std::to_string(i);
}

/// Calls read(record, who) for each record of a list.
template <class Read>
void for_each_record(const json& list, const std::filesystem::path& file, Read&& read) {
  if (!list.is_array() || list.empty())
    fail<io_error>(file.string(), ": ", mlmamba::detail::json_excerpt(list),
                   "; a list of at least one record is wanted");
  for (std::size_t i = 0; i < list.size(); ++i) read(list[i], record_name(file, i));
}

/// The same of JSON lines; empty lines don't count.
template <class Read>
void for_each_line(const std::filesystem::path& file, Read&& read) {
  const mapped_file mapped(file);
  std::string_view rest = mapped.text();
  std::size_t n = 0;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    const std::string who = record_name(file, n++);
    read(parse_json(line, who), who);
  }
  if (n == 0) fail<io_error>(file.string(), ": empty; a JSON object on each line is wanted");
}

/// The keys of the outermost object in the order of the file, which JSON itself does not know and
/// Python keeps.
inline std::vector<std::string> keys_in_order(std::string_view text) {
  struct collector : nlohmann::json_sax<json> {
    std::vector<std::string> keys;
    int depth = 0;
    bool null() override { return true; }
    bool boolean(bool) override { return true; }
    bool number_integer(std::int64_t) override { return true; }
    bool number_unsigned(std::uint64_t) override { return true; }
    bool number_float(double, const std::string&) override { return true; }
    bool string(std::string&) override { return true; }
    bool binary(json::binary_t&) override { return true; }
    bool start_object(std::size_t) override { return ++depth, true; }
    bool start_array(std::size_t) override { return ++depth, true; }
    bool end_object() override { return --depth, true; }
    bool end_array() override { return --depth, true; }
    bool key(std::string& name) override {
      if (depth == 1) keys.push_back(name);
      return true;
    }
    bool parse_error(std::size_t, const std::string&, const json::exception&) override {
      return false;  // the caller has parsed it already
    }
  } all;
  json::sax_parse(mlmamba::detail::json_quote_infinity(text), &all);
  return all.keys;
}

/// Calls read(key, record, who) for each member of an object, in the order of the file.
template <class Read>
void for_each_member(const std::filesystem::path& file, Read&& read) {
  const mapped_file mapped(file);
  const json all = parse_json(mapped.text(), file.string());
  if (!all.is_object() || all.empty())
    fail<io_error>(file.string(), ": ", mlmamba::detail::json_excerpt(all),
                   "; an object of at least one record is wanted");
  for (const std::string& key : keys_in_order(mapped.text()))
    read(key, all.at(key), file.string() + ": record \"" + key + "\"");
}

/// An id, which some files write as a number and others as a string.
inline std::string id_of(const json& record, std::string_view key, std::string_view who) {
  const json& id = json_at(record, key, who);
  if (id.is_string()) return id.get<std::string>();
  return std::to_string(json_to<std::int64_t>(id, who, key));
}

/// A path below `folder` of the data set. Errors: io_error if the name leaves it.
inline std::string picture_below(const std::string& folder, const std::string& name,
                                 std::string_view who) {
  return folder + "/" + train::checked_picture(json{{"image", name}}, std::string(who));
}

/// "COCO_val2014_000000000042.jpg".
inline std::string coco_name(const std::string& split, std::int64_t id, std::string_view who) {
  if (id < 0 || id > 999'999'999'999)
    fail<io_error>(who, ": image_id is ", id, "; 0 to 999999999999 is wanted");
  const std::string digits = std::to_string(id);
  return "COCO_" + split + "_" + std::string(12 - digits.size(), '0') + digits + ".jpg";
}

}  // namespace detail

/// Leaves the subset that the original evaluates as "slim": the questions are shuffled by Python's
/// random.Random(21), and the first `each` of every group stay (of all, without groups). They keep
/// the order of the file, so that questions about one picture stay together; scores don't depend
/// on it.
inline void take_slim(dataset& set, std::size_t each) {
  std::vector<std::size_t> order(set.questions.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  python_random(21).shuffle(order);
  std::map<std::string, std::size_t> taken;
  std::set<std::size_t> kept;
  for (const std::size_t i : order)
    if (taken[set.groups.empty() ? "" : set.questions[i].group]++ < each) kept.insert(i);
  std::vector<question> some;
  for (const std::size_t i : kept) some.push_back(std::move(set.questions[i]));
  set.questions = std::move(some);
}

}  // namespace mlmamba::evaluate
