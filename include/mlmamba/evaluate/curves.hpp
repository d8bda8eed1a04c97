// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Areas under curves, of two classes and of many, and F1.
#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <optional>
#include <set>
#include <span>
#include <vector>

namespace mlmamba::evaluate {

/// Area under the receiver operating characteristic: how often a positive example has the larger
/// score than a negative one, ties half. None without examples of both classes.
inline std::optional<double> auc_roc(const std::vector<bool>& positive,
                                     std::span<const double> score) {
  std::vector<std::size_t> order(score.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return score[a] < score[b]; });
  double negatives = 0, positives = 0, wins = 0;
  for (std::size_t i = 0; i < order.size();) {
    double p = 0, n = 0;  // at this score
    const double at = score[order[i]];
    for (; i < order.size() && score[order[i]] == at; ++i) (positive[order[i]] ? p : n) += 1;
    wins += p * (negatives + n / 2);
    positives += p, negatives += n;
  }
  if (positives == 0 || negatives == 0) return std::nullopt;
  return wins / (positives * negatives);
}

/// Average precision, the area under precision over recall as a sum of steps:
///
///   sum_k (R_k - R_(k-1)) P_k   over the distinct scores, falling
///
/// None without positive examples.
inline std::optional<double> average_precision(const std::vector<bool>& positive,
                                               std::span<const double> score) {
  std::vector<std::size_t> order(score.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return score[a] > score[b]; });
  const double all = double(std::count(positive.begin(), positive.end(), true));
  if (all == 0) return std::nullopt;
  double found = 0, area = 0;
  for (std::size_t i = 0; i < order.size();) {
    double p = 0;
    const double at = score[order[i]];
    for (; i < order.size() && score[order[i]] == at; ++i) p += positive[order[i]];
    found += p;
    area += p / all * (found / double(i));
  }
  return area;
}

/// Of many classes, one against one: the mean over pairs of classes of both directions' area among
/// the examples of the two. Classes without examples are left out; none with fewer than two left.
///
/// Source    Hand and Till 2001, doi:10.1023/A:1010920819831
inline std::optional<double> auc_roc(std::span<const int> truth,
                                     const std::vector<std::vector<double>>& score) {
  const std::set<int> classes(truth.begin(), truth.end());
  double sum = 0, pairs = 0;
  for (auto a = classes.begin(); a != classes.end(); ++a)
    for (auto b = std::next(a); b != classes.end(); ++b) {
      std::vector<bool> is_a, is_b;
      std::vector<double> score_a, score_b;
      for (std::size_t i = 0; i < truth.size(); ++i) {
        if (truth[i] != *a && truth[i] != *b) continue;
        is_a.push_back(truth[i] == *a), is_b.push_back(truth[i] == *b);
        score_a.push_back(score[i][std::size_t(*a)]), score_b.push_back(score[i][std::size_t(*b)]);
      }
      sum += (*auc_roc(is_a, score_a) + *auc_roc(is_b, score_b)) / 2;
      pairs += 1;
    }
  if (pairs == 0) return std::nullopt;
  return sum / pairs;
}

/// Of many classes: the mean of each class against the rest. Classes without examples are left out.
inline std::optional<double> average_precision(std::span<const int> truth,
                                               const std::vector<std::vector<double>>& score) {
  const std::set<int> classes(truth.begin(), truth.end());
  if (classes.empty()) return std::nullopt;
  double sum = 0;
  for (const int c : classes) {
    std::vector<bool> is_c;
    std::vector<double> score_c;
    for (std::size_t i = 0; i < truth.size(); ++i)
      is_c.push_back(truth[i] == c), score_c.push_back(score[i][std::size_t(c)]);
    sum += *average_precision(is_c, score_c);
  }
  return sum / double(classes.size());
}

/// 2 TP / (2 TP + FP + FN); 0 where that is 0 / 0.
inline double f1_score(const std::vector<bool>& truth, const std::vector<bool>& given) {
  double both = 0, either = 0;
  for (std::size_t i = 0; i < truth.size(); ++i)
    both += truth[i] && given[i], either += double(truth[i]) + double(given[i]);
  return either > 0 ? 2 * both / either : 0;
}

}  // namespace mlmamba::evaluate
