// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Data sets with given answers, judged by their probabilities: POPE, VSR, TallyQA, AI2D.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "mlmamba/evaluate/dataset.hpp"

namespace mlmamba::evaluate {

namespace detail {
inline std::vector<std::string> letters(int count) {
  std::vector<std::string> out;
  for (int i = 0; i < count; ++i) out.emplace_back(1, char('A' + i));
  return out;
}
}  // namespace detail

/// POPE on COCO: coco_pope_{adversarial,popular,random}.json (JSON lines), val2014/*.jpg. Ids are
/// "adversarial-1"; the original's are salted hashes, which nobody can make again.
inline void read_pope(const std::filesystem::path& folder, dataset& set) {
  set.judged = metric::choice;
  set.choices = {"Yes", "No"};
  set.groups = {"adversarial", "popular", "random"};
  for (const std::string& group : set.groups)
    detail::for_each_line(
        folder / ("coco_pope_" + group + ".json"), [&](const json& r, const std::string& who) {
          question q;
          q.id = group + "-" + detail::id_of(r, "question_id", who);
          q.group = group;
          q.picture = detail::picture_below("val2014", json_get<std::string>(r, "image", who), who);
          q.message = prompts::short_answer(json_get<std::string>(r, "text", who));
          const auto label = json_get<std::string>(r, "label", who);
          if (label != "yes" && label != "no")
            fail<io_error>(who, ": label \"", label, "\"; yes or no is wanted");
          q.right = label == "no";
          q.answers = {set.choices[std::size_t(q.right)]};
          set.questions.push_back(std::move(q));
        });
}

/// VSR, zero-shot test: test.jsonl, images/*.jpg. Records have no id: it is their number.
inline void read_vsr(const std::filesystem::path& folder, dataset& set) {
  set.judged = metric::choice;
  set.choices = {"True", "False"};
  detail::for_each_line(folder / "test.jsonl", [&](const json& r, const std::string& who) {
    question q;
    q.id = std::to_string(set.questions.size());
    q.picture = detail::picture_below("images", json_get<std::string>(r, "image", who), who);
    q.message = prompts::true_or_false(json_get<std::string>(r, "caption", who));
    const int label = json_get<int>(r, "label", who);
    if (label != 0 && label != 1)
      fail<io_error>(who, ": \"label\" is ", label, "; 0 or 1 is wanted");
    q.right = label == 0;
    q.answers = {set.choices[std::size_t(q.right)]};
    set.questions.push_back(std::move(q));
  });
}

/// TallyQA: test.json, pictures at the paths it gives (VG_100K/*.jpg, VG_100K_2/*.jpg). Counts of 0
/// to 15 as choices A to P.
inline void read_tally_qa(const std::filesystem::path& folder, dataset& set) {
  set.judged = metric::choice;
  set.choices = detail::letters(16);
  set.groups = {"simple", "complex"};
  std::vector<std::string> counts;
  for (int i = 0; i < 16; ++i) counts.push_back(std::to_string(i));
  const auto file = folder / "test.json";
  detail::for_each_record(read_json(file), file, [&](const json& r, const std::string& who) {
    question q;
    q.id = detail::id_of(r, "question_id", who);
    q.picture = train::checked_picture(r, who);
    q.group = json_get<bool>(r, "issimple", who) ? "simple" : "complex";
    q.message = prompts::letter_of(json_get<std::string>(r, "question", who), counts);
    q.right = json_get<int>(r, "answer", who);
    if (q.right < 0 || q.right > 15)
      fail<io_error>(who, ": \"answer\" is ", q.right, "; 0 to 15 is wanted");
    q.answers = {counts[std::size_t(q.right)]};
    set.questions.push_back(std::move(q));
  });
}

/// AI2D: questions/*.json, images/*, ai2d_test_ids.csv (a picture's number on each line; the others
/// are "val"). In the order of the pictures' numbers, then of the questions' texts; the original
/// takes them as the file system lists them, so its subsets can't be made again.
inline void read_ai2d(const std::filesystem::path& folder, dataset& set) {
  namespace fs = std::filesystem;
  set.judged = metric::choice;
  set.choices = detail::letters(4);
  set.groups = {"val", "test"};
  const auto number_of = [](std::string_view text, const fs::path& where) {
    long long n = -1;
    const auto end = std::from_chars(text.data(), text.data() + text.size(), n);
    if (end.ec != std::errc() || n < 0)
      fail<io_error>(where.string(), ": \"", text.substr(0, 40),
                     "\" where the number of a picture is wanted");
    return n;
  };
  std::set<long long> tests;
  {
    const auto file = folder / "ai2d_test_ids.csv";
    const mapped_file mapped(file);
    for (std::string_view rest = mapped.text(); !rest.empty();) {
      const std::string_view line = rest.substr(0, rest.find('\n'));
      rest.remove_prefix(std::min(rest.size(), line.size() + 1));
      if (line.find_first_not_of(" \t\r") != line.npos) tests.insert(number_of(line, file));
    }
  }
  std::vector<std::pair<long long, fs::path>> files;
  std::error_code code;
  fs::directory_iterator all(folder / "questions", code);
  if (code)
    fail<io_error>((folder / "questions").string(), ": can't list it (", code.message(), ")");
  for (const auto& entry : all)
    if (entry.path().extension() == ".json")
      files.emplace_back(number_of(entry.path().filename().string(), entry.path()), entry.path());
  std::sort(files.begin(), files.end());
  for (const auto& [number, file] : files) {
    const json record = read_json(file);
    const json& questions = json_at(record, "questions", file.string());
    if (!questions.is_object())
      fail<io_error>(file.string(), ": \"questions\" is ", mlmamba::detail::json_excerpt(questions),
                     "; an object is wanted");
    for (const auto& [text, r] : questions.items()) {
      const std::string who = file.string() + ": \"" + text.substr(0, 40) + "\"";
      question q;
      q.id = json_get<std::string>(r, "questionId", who);
      q.picture = detail::picture_below(
          "images", json_get<std::string>(record, "imageName", file.string()), who);
      q.group = tests.count(number) ? "test" : "val";
      const auto choices = json_get<std::vector<std::string>>(r, "answerTexts", who);
      if (choices.size() != 4) fail<io_error>(who, ": ", choices.size(), " answers; 4 are wanted");
      q.message = prompts::letter_of(text, choices);
      q.right = json_get<int>(r, "correctAnswer", who);
      if (q.right < 0 || q.right > 3)
        fail<io_error>(who, ": \"correctAnswer\" is ", q.right, "; 0 to 3 is wanted");
      q.answers = {choices[std::size_t(q.right)]};
      set.questions.push_back(std::move(q));
    }
  }
  if (set.questions.empty())
    fail<io_error>((folder / "questions").string(), ": no questions; at least one is wanted");
}

}  // namespace mlmamba::evaluate
