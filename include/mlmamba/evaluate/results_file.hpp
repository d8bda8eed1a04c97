// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Answers as they come, a JSON object on each line: what a killed run has answered is kept.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "mlmamba/core/random.hpp"
#include "mlmamba/evaluate/dataset.hpp"
#include "mlmamba/evaluate/scores.hpp"
#include "mlmamba/io/write_file.hpp"

namespace mlmamba::evaluate {

/// A number for the questions of a data set, so that edited ones are another run.
inline std::string digest_of(const dataset& set) {
  std::string all;
  for (const question& q : set.questions) {
    const json record{q.id, q.picture, q.message, q.group, q.kind, q.answers, q.right, q.where};
    all += record.dump(-1, ' ', false, json::error_handler_t::replace) + '\n';
  }
  char text[24];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash(all)));
  return text;
}

/// The file of a run: a line {"run": ...} that says which, then {"id", "text" | "probabilities"} in
/// any order, each written at once.
class results_file {
 public:
  /// Goes on with the file if it is there. Lines that are not whole (the last, after a kill) are
  /// dropped, their questions are asked again.
  ///
  /// Errors    io_error if it is of another run, or can't be written
  results_file(std::filesystem::path path, const json& run, const dataset& set)
      : path_(std::move(path)) {
    std::string kept = json{{"run", run}}.dump() + "\n";
    if (std::ifstream before(path_, std::ios::binary); before) {
      bool first = true;
      for (std::string line; std::getline(before, line) && !before.eof(); first = false) {
        const json j = json::parse(line, nullptr, false);
        if (first) {
          if (!j.is_object() || !j.contains("run") || j.at("run") != run)
            fail<io_error>(path_.string(), ": of ", mlmamba::detail::json_excerpt(j),
                           "; the same run or another --results is wanted");
          continue;
        }
        answer a;
        if (!read(j, set, a)) continue;
        answers_[j.at("id").get<std::string>()] = std::move(a);
        kept += line + '\n';
      }
    }
    write_file(path_, kept);
    out_.open(path_, std::ios::binary | std::ios::app);
  }
  results_file(const results_file&) = delete;
  results_file& operator=(const results_file&) = delete;
  /// Without an answer, say of a model that could not be loaded as asked, the file goes: it would
  /// stand in the way of the run that was meant.
  ~results_file() {
    if (!answers_.empty()) return;
    out_.close();
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }

  /// What is answered already; null: not yet.
  const answer* find(const std::string& id) const {
    const auto at = answers_.find(id);
    return at == answers_.end() ? nullptr : &at->second;
  }
  void add(const std::string& id, answer a) {
    json line{{"id", id}};
    if (a.probabilities.empty())
      line["text"] = a.text;
    else
      line["probabilities"] = a.probabilities;
    out_ << line.dump(-1, ' ', false, json::error_handler_t::replace) + '\n' << std::flush;
    if (!out_) fail<io_error>(path_.string(), ": can't write to it; is the disk full?");
    answers_[id] = std::move(a);
  }

 private:
  static bool read(const json& line, const dataset& set, answer& a) {
    if (!line.is_object() || !line.contains("id") || !line.at("id").is_string()) return false;
    if (set.choices.empty()) {
      if (!line.contains("text") || !line.at("text").is_string()) return false;
      a.text = line.at("text").get<std::string>();
      return true;
    }
    if (!line.contains("probabilities") || !line.at("probabilities").is_array()) return false;
    for (const json& p : line.at("probabilities")) {
      if (!p.is_number()) return false;
      a.probabilities.push_back(p.get<double>());
    }
    return a.probabilities.size() == set.choices.size();
  }

  std::filesystem::path path_;
  std::map<std::string, answer> answers_;
  std::ofstream out_;
};

}  // namespace mlmamba::evaluate
