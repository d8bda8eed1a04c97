// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Scores of answers to questions about pictures: accuracy by type with intervals, and POPE's.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

namespace mlmamba::train {

/// An answer and the truth. `kind` splits a type further (presence: how the class was chosen); may
/// be empty. A control (no picture, pictures shuffled) is the same list with other answers.
struct answered {
  std::string type, kind, truth, given;
};

/// What is compared: outer space, upper case and final periods don't count, inner space is one
/// blank, and a digit is its word ("2" is "two").
inline std::string normalised_answer(std::string_view text) {
  static constexpr const char* digits[] = {"zero", "one", "two",   "three", "four",
                                           "five", "six", "seven", "eight", "nine"};
  std::string out;
  for (const char c : text) {
    const bool space = c == ' ' || (c >= '\t' && c <= '\r');
    if (space && (out.empty() || out.back() == ' ')) continue;
    out += space ? ' ' : c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  while (!out.empty() && (out.back() == ' ' || out.back() == '.')) out.pop_back();
  if (out.size() == 1 && out[0] >= '0' && out[0] <= '9') out = digits[out[0] - '0'];
  return out;
}

inline bool is_right(const answered& a) {
  return normalised_answer(a.given) == normalised_answer(a.truth);
}

/// A share with its 95 % interval after Wilson 1927: sound for few cases, and at 0 and 1.
///
///   middle = (p + z^2 / 2n) / (1 + z^2 / n),  z = 1.96
///   half   = z sqrt(p (1 - p) / n + z^2 / 4n^2) / (1 + z^2 / n)
struct share {
  std::size_t right = 0, total = 0;

  double value() const { return total ? double(right) / double(total) : 0; }
  double low() const { return total ? std::max(0.0, middle() - half()) : 0; }
  double high() const { return total ? std::min(1.0, middle() + half()) : 1; }

 private:
  static constexpr double z = 1.959963984540054;
  double n() const { return double(total); }
  double middle() const { return (value() + z * z / (2 * n())) / (1 + z * z / n()); }
  double half() const {
    const double p = value();
    return z * std::sqrt(p * (1 - p) / n() + z * z / (4 * n() * n())) / (1 + z * z / n());
  }
};

/// POPE's measures of yes/no answers; yes is the positive class. The first word of an answer
/// counts; one that is neither is `other`: wrong, and no yes. A ratio over nothing is 0.
struct yes_no_score {
  std::size_t yes_yes = 0, yes_no = 0, no_yes = 0, no_no = 0;  // truth_given
  std::size_t yes_other = 0, no_other = 0;

  std::size_t total() const { return yes_yes + yes_no + no_yes + no_no + yes_other + no_other; }
  double accuracy() const { return ratio(yes_yes + no_no, total()); }
  double precision() const { return ratio(yes_yes, yes_yes + no_yes); }
  double recall() const { return ratio(yes_yes, yes_yes + yes_no + yes_other); }
  double f1() const {
    const double p = precision(), r = recall();
    return p + r > 0 ? 2 * p * r / (p + r) : 0;
  }
  double yes_ratio() const { return ratio(yes_yes + no_yes, total()); }

  void add(const answered& a) {
    const auto word = [](std::string_view text) {
      const std::string all = normalised_answer(text);
      return all.substr(0, all.find_first_of(" ,.;:!"));
    };
    const bool truth = word(a.truth) == "yes";
    const std::string given = word(a.given);
    std::size_t& cell = given == "yes"  ? (truth ? yes_yes : no_yes)
                        : given == "no" ? (truth ? yes_no : no_no)
                                        : (truth ? yes_other : no_other);
    ++cell;
  }

 private:
  static double ratio(std::size_t a, std::size_t b) { return b ? double(a) / double(b) : 0; }
};

/// How much of a long answer is right: F1 over its parts (split at comma, semicolon and "and"), as
/// multisets. "two bags and one coat." against "two bags and one shirt." is 0.5.
inline double part_f1(std::string_view given, std::string_view truth) {
  const auto parts = [](std::string_view text) {
    std::map<std::string, std::size_t> out;
    std::string rest = normalised_answer(text);
    for (std::size_t at; (at = rest.find(" and ")) != std::string::npos;) rest.replace(at, 5, ",");
    for (std::size_t begin = 0; begin <= rest.size();) {
      const std::size_t end = std::min(rest.find_first_of(",;", begin), rest.size());
      const std::string part = normalised_answer(std::string_view(rest).substr(begin, end - begin));
      if (!part.empty()) ++out[part];
      begin = end + 1;
    }
    return out;
  };
  const auto a = parts(given), b = parts(truth);
  std::size_t in_a = 0, in_b = 0, common = 0;
  for (const auto& [part, n] : a) {
    in_a += n;
    const auto found = b.find(part);
    if (found != b.end()) common += std::min(n, found->second);
  }
  for (const auto& [part, n] : b) in_b += n;
  return in_a + in_b ? 2.0 * double(common) / double(in_a + in_b) : 1;
}

/// The types whose answer is a text, not a word: they are right only as a whole, so their parts are
/// scored too, and the total is given with and without them.
inline bool is_long_answer(std::string_view type) { return type == "caption" || type == "list"; }

struct vqa_report {
  struct row {
    std::string type, kind;  // kind empty: the whole type
    share exact;
    double parts = 0;  // mean part_f1 of a long type
  };
  std::vector<row> rows;  // types in order of first sight, their kinds after each
  share all, all_short;
  yes_no_score presence;
  std::vector<std::pair<std::string, yes_no_score>> presence_by_kind;
};

inline vqa_report score_answers(std::span<const answered> answers) {
  vqa_report out;
  std::vector<std::string> types;
  std::map<std::string, std::map<std::string, vqa_report::row>> rows;  // type, kind
  std::map<std::string, yes_no_score> by_kind;
  for (const answered& a : answers) {
    const bool right = is_right(a);
    if (!rows.count(a.type)) types.push_back(a.type);
    const auto count = [&](share& s) { ++s.total, s.right += right; };
    count(rows[a.type][""].exact);
    if (!a.kind.empty()) count(rows[a.type][a.kind].exact);
    count(out.all);
    if (is_long_answer(a.type))
      rows[a.type][""].parts += part_f1(a.given, a.truth);
    else
      count(out.all_short);
    if (a.type == "presence") {
      out.presence.add(a);
      if (!a.kind.empty()) by_kind[a.kind].add(a);
    }
  }
  for (const std::string& type : types)
    for (auto& [kind, r] : rows[type]) {
      r.type = type;
      r.kind = kind;
      r.parts /= double(std::max<std::size_t>(1, r.exact.total));
      out.rows.push_back(r);
    }
  out.presence_by_kind.assign(by_kind.begin(), by_kind.end());
  return out;
}

/// The report as an aligned table, in percent, with a line end after each row.
inline std::string to_table(const vqa_report& r) {
  std::string out;
  char line[160];
  const auto row = [&](const std::string& name, const share& s, const char* extra) {
    std::snprintf(line, sizeof line, "%-24s %8zu %8.1f   [%5.1f, %5.1f]%s\n", name.c_str(), s.total,
                  100 * s.value(), 100 * s.low(), 100 * s.high(), extra);
    out += line;
  };
  std::snprintf(line, sizeof line, "%-24s %8s %8s   %-14s\n", "question", "number", "right %",
                "95 % interval");
  out += line;
  for (const auto& x : r.rows) {
    char parts[32] = "";
    if (is_long_answer(x.type) && x.kind.empty())
      std::snprintf(parts, sizeof parts, "   parts %5.1f", 100 * x.parts);
    row(x.kind.empty() ? x.type : "  " + x.kind, x.exact, parts);
  }
  row("all short answers", r.all_short, "");
  row("all", r.all, "");
  if (r.presence.total() == 0) return out;
  std::snprintf(line, sizeof line, "\n%-24s %8s %8s %9s %8s %8s %8s %8s\n", "presence (POPE)",
                "number", "accuracy", "precision", "recall", "F1", "yes %", "neither");
  out += line;
  const auto pope = [&](const std::string& name, const yes_no_score& s) {
    std::snprintf(line, sizeof line, "%-24s %8zu %8.1f %9.1f %8.1f %8.1f %8.1f %8zu\n",
                  name.c_str(), s.total(), 100 * s.accuracy(), 100 * s.precision(),
                  100 * s.recall(), 100 * s.f1(), 100 * s.yes_ratio(), s.yes_other + s.no_other);
    out += line;
  };
  for (const auto& [kind, s] : r.presence_by_kind) pope("  " + kind, s);
  pope("all", r.presence);
  return out;
}

/// The same as JSON; shares as numbers in [0, 1].
inline nlohmann::ordered_json to_json(const vqa_report& r) {
  using object = nlohmann::ordered_json;
  const auto of_share = [](const share& s) {
    object o;
    o["number"] = s.total;
    o["right"] = s.right;
    o["accuracy"] = s.value();
    o["low"] = s.low();
    o["high"] = s.high();
    return o;
  };
  const auto of_pope = [](const yes_no_score& s) {
    object o;
    o["number"] = s.total();
    o["accuracy"] = s.accuracy();
    o["precision"] = s.precision();
    o["recall"] = s.recall();
    o["f1"] = s.f1();
    o["yes_ratio"] = s.yes_ratio();
    o["neither"] = s.yes_other + s.no_other;
    return o;
  };
  object out;
  out["all"] = of_share(r.all);
  out["all_short"] = of_share(r.all_short);
  out["types"] = object::object();
  for (const auto& x : r.rows) {
    object o = of_share(x.exact);
    if (x.kind.empty()) {
      if (is_long_answer(x.type)) o["parts"] = x.parts;
      out["types"][x.type] = o;
    } else {
      out["types"][x.type]["kinds"][x.kind] = o;
    }
  }
  if (r.presence.total() > 0) {
    out["pope"]["all"] = of_pope(r.presence);
    for (const auto& [kind, s] : r.presence_by_kind) out["pope"][kind] = of_pope(s);
  }
  return out;
}

}  // namespace mlmamba::train
