// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Scores of a model's answers to a data set.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mlmamba/evaluate/curves.hpp"
#include "mlmamba/evaluate/dataset.hpp"
#include "mlmamba/evaluate/vqa_answer.hpp"
#include "mlmamba/train/vqa_score.hpp"

namespace mlmamba::evaluate {

/// What a model has said: a text, or how probable it finds each choice.
struct answer {
  std::string text;
  std::vector<double> probabilities;
};

/// A line of the report. Shares in [0, 1]; none where it can't be told (an area under a curve with
/// examples of one class only).
struct measure {
  std::string name;
  std::size_t questions = 0;
  std::optional<double> value;
};

struct report {
  std::vector<measure> measures;  ///< the one that papers give is the first
  std::vector<double> score;      ///< of each question, in [0, 1]
};

namespace detail {

/// The choice with the largest probability, the first of equal ones.
inline int best_choice(const answer& a) {
  return int(std::max_element(a.probabilities.begin(), a.probabilities.end()) -
             a.probabilities.begin());
}

inline double score_of(metric judged, const question& q, const answer& a) {
  switch (judged) {
    case metric::vqa: {
      std::vector<std::string> truth;
      for (const std::string& t : q.answers) truth.push_back(without_punctuation(t));
      return soft_accuracy(vqa_prediction(a.text, contractions()), truth);
    }
    case metric::vizwiz:
      return soft_accuracy(vqa_prediction(a.text, vizwiz_contractions()), q.answers);
    case metric::text_vqa: {
      std::vector<std::string> truth;
      for (const std::string& t : q.answers) truth.push_back(text_vqa_answer(t));
      return soft_accuracy(text_vqa_answer(a.text), truth);
    }
    case metric::gqa:
      return gqa_prediction(a.text) == q.answers.at(0);
    case metric::choice:
      return best_choice(a) == q.right;
    case metric::overlap: {
      const auto b = parse_box(a.text);
      return b ? intersection_over_union(*b, q.where) : 0;
    }
    case metric::garment:
      return train::is_right({q.group, q.kind, q.answers.at(0), a.text});
  }
  return 0;
}

/// Means of the scores of all and of parts, in order of first sight or of `order`.
class parts {
 public:
  explicit parts(std::vector<std::string> order = {}) : order_(std::move(order)) {}
  void add(const std::string& name, double score) {
    if (name.empty()) return;
    if (std::find(order_.begin(), order_.end(), name) == order_.end()) order_.push_back(name);
    sum_[name].first += 1;
    sum_[name].second += score;
  }
  void to(std::vector<measure>& out, const std::string& before) {
    for (const std::string& name : order_) out.push_back({before + name, count(name), mean(name)});
  }
  std::size_t count(const std::string& name) { return sum_[name].first; }
  std::optional<double> mean(const std::string& name) {
    const auto& [n, sum] = sum_[name];
    if (n == 0) return std::nullopt;
    return sum / double(n);
  }
  const std::vector<std::string>& names() const { return order_; }

 private:
  std::vector<std::string> order_;
  std::map<std::string, std::pair<std::size_t, double>> sum_;
};

/// Accuracy, areas under both curves: of all (""), and of each group.
inline void add_curves(const dataset& set, std::span<const answer> answers,
                       const std::string& group, std::vector<measure>& out) {
  std::vector<int> truth;
  std::vector<std::vector<double>> all;
  std::vector<bool> positive;  // the first of two choices: Yes, True
  std::vector<double> first;
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const question& q = set.questions[i];
    if (!group.empty() && q.group != group) continue;
    truth.push_back(q.right);
    all.push_back(answers[i].probabilities);
    positive.push_back(q.right == 0);
    first.push_back(answers[i].probabilities[0]);
  }
  const bool two = set.choices.size() == 2;
  const std::string after = group.empty() ? "" : " " + group;
  out.push_back(
      {"AUC-ROC" + after, truth.size(), two ? auc_roc(positive, first) : auc_roc(truth, all)});
  out.push_back({"AUC-PR" + after, truth.size(),
                 two ? average_precision(positive, first) : average_precision(truth, all)});
}

}  // namespace detail

/// The report of answers to the first answers.size() questions.
///
/// vqa, text_vqa   soft accuracy, by answer type and question type
/// vizwiz          the same of answerable and unanswerable questions; how well "unanswerable" is
///                 said: average precision and F1
/// gqa             exact match; of open and binary questions, by structural and semantic type
/// choice          accuracy, areas under the curves; one against one, and the mean over classes,
///                 where there are more than two choices. Of data sets named "pope" the first line
///                 is the mean of the groups' accuracies
/// box             share of boxes whose intersection is at least half of the union ("ocid-ref": a
///                 quarter), by group; a text that is no box is wrong
/// garment         exact match by type; train::score_answers says more
inline report score(const dataset& set, std::span<const answer> answers) {
  report out;
  const double enough = set.id.starts_with("ocid-ref") ? 0.25 : 0.5;
  detail::parts all, groups(set.groups), kinds, forms;
  std::size_t invalid = 0;
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const question& q = set.questions[i];
    const double s = detail::score_of(set.judged, q, answers[i]);
    out.score.push_back(s);
    const double counted = set.judged == metric::overlap ? double(s >= enough) : s;
    all.add("accuracy", counted);
    groups.add(q.group, counted);
    const bool of_group = set.judged == metric::garment && !q.kind.empty();  // kinds of its own
    kinds.add(of_group ? q.group + ": " + q.kind : q.kind, counted);
    if (set.judged == metric::gqa) forms.add(q.group == "query" ? "open" : "binary", counted);
    invalid += set.judged == metric::overlap && !parse_box(answers[i].text);
  }
  if (answers.empty()) return out;
  const std::size_t n = answers.size();
  double mean = *all.mean("accuracy");
  if (set.id.starts_with("pope")) {
    double sum = 0, there = 0;
    for (const std::string& g : groups.names())
      if (const auto m = groups.mean(g)) sum += *m, there += 1;
    mean = sum / there;
  }
  out.measures.push_back({"accuracy", n, mean});
  if (set.judged == metric::choice) detail::add_curves(set, answers, "", out.measures);
  if (set.judged == metric::overlap)
    out.measures.push_back({"no box in the answer", n, double(invalid) / double(n)});
  forms.to(out.measures, "accuracy ");
  for (const std::string& g : groups.names()) {
    out.measures.push_back({"accuracy " + g, groups.count(g), groups.mean(g)});
    if (set.judged == metric::choice) detail::add_curves(set, answers, g, out.measures);
  }
  kinds.to(out.measures, set.judged == metric::vqa ? "accuracy of " : "accuracy ");
  if (set.judged == metric::vizwiz) {
    std::vector<bool> truth, given;
    std::vector<double> as_number;
    for (std::size_t i = 0; i < n; ++i) {
      truth.push_back(set.questions[i].group == "unanswerable");
      given.push_back(vqa_prediction(answers[i].text, vizwiz_contractions()) == "unanswerable");
      as_number.push_back(given.back());
    }
    out.measures.push_back({"unanswerable AP", n, average_precision(truth, as_number)});
    out.measures.push_back({"unanswerable F1", n, f1_score(truth, given)});
  }
  return out;
}

/// The report as an aligned table, in percent, with a line end after each row.
inline std::string to_table(const report& r) {
  std::string out;
  std::size_t width = 8;
  for (const measure& m : r.measures) width = std::max(width, m.name.size());
  const auto row = [&](const std::string& name, const std::string& n, const std::string& value) {
    out += name + std::string(width - name.size() + 2, ' ');
    out += std::string(9 - std::min<std::size_t>(9, n.size()), ' ') + n;
    out += std::string(10 - std::min<std::size_t>(10, value.size()), ' ') + value + "\n";
  };
  row("measure", "questions", "percent");
  for (const measure& m : r.measures) {
    char value[32] = "-";
    if (m.value) std::snprintf(value, sizeof value, "%.2f", 100 * *m.value);
    row(m.name, std::to_string(m.questions), value);
  }
  return out;
}

/// What metrics.json holds: {dataset, n_examples, model, summary, examples}. Shares in [0, 1].
inline nlohmann::ordered_json to_json(const dataset& set, std::span<const answer> answers,
                                      const report& r, const std::string& model) {
  using object = nlohmann::ordered_json;
  object out;
  out["dataset"] = set.id;
  out["n_examples"] = answers.size();
  out["model"] = model;
  out["summary"] = object::object();
  for (const measure& m : r.measures)
    out["summary"][m.name] = m.value ? object(*m.value) : object();
  out["examples"] = object::array();
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const question& q = set.questions[i];
    object e;
    e["id"] = q.id;
    e["picture"] = q.picture;
    e["message"] = q.message;
    if (set.choices.empty())
      e["answer"] = answers[i].text;
    else
      e["probabilities"] = answers[i].probabilities;
    if (set.judged == metric::overlap)
      e["truth"] = q.where;
    else
      e["truth"] = q.answers;
    e["score"] = r.score[i];
    out["examples"].push_back(std::move(e));
  }
  return out;
}

}  // namespace mlmamba::evaluate
