// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The data sets by their names.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/evaluate/read_boxes.hpp"
#include "mlmamba/evaluate/read_choices.hpp"
#include "mlmamba/evaluate/read_questions.hpp"
#include "mlmamba/train/vqa_set.hpp"

namespace mlmamba::evaluate {

/// The project's own set: test.json and its pictures, as garment_data writes them; or, from a
/// folder without test.json, the first `scenes` scenes that it would write of the photos there.
inline void read_garment(const std::filesystem::path& folder, dataset& set,
                         std::uint64_t scenes = 1000) {
  set.judged = metric::garment;
  const bool written = std::filesystem::exists(folder / "test.json");
  auto asked = std::make_shared<train::vqa_set>(
      written ? train::read_questions(folder / "test.json", folder)
              : train::garment_questions(
                    train::garment::load_source(train::garment::split::test, folder.string()), 1,
                    scenes));
  for (std::uint64_t i = 0; i < asked->scenes; ++i) {
    const train::vqa_scene scene = asked->get(i);
    if (!scene.picture)
      fail<io_error>(folder.string(), ": scene ", i, " has no picture; one is wanted");
    for (std::size_t k = 0; k < scene.questions.size(); ++k) {
      const train::vqa_question& from = scene.questions[k];
      question q;
      q.id = std::to_string(i) + "-" + std::to_string(k);
      q.picture = std::to_string(i);
      q.message = from.text;
      q.answers = {from.truth};
      q.group = from.type;
      q.kind = from.kind;
      set.questions.push_back(std::move(q));
    }
  }
  set.picture = [asked](const std::string& number) {
    return *asked->get(std::stoull(number)).picture;
  };
}

/// A data set, and how it is read.
struct dataset_entry {
  const char* name;
  std::size_t slim = 0;  ///< how many of each group; 0: all
  void (*read)(const std::filesystem::path& folder, dataset& set);
};

/// Without "-full" too. Sizes of the subsets as in the original; POPE's three parts are 3000, 3000
/// and 2910 questions, so that no total is checked.
inline const std::vector<dataset_entry>& dataset_entries() {
  using path = std::filesystem::path;
  static constexpr auto text = [](const path& f, dataset& s) { read_text_vqa(f, false, s); };
  static constexpr auto text_ocr = [](const path& f, dataset& s) { read_text_vqa(f, true, s); };
  static const std::vector<dataset_entry> all{
      {"vqa-v2-full", 0, read_vqa_v2},
      {"vqa-v2-subsampled", 16384, read_vqa_v2},
      {"vqa-v2-slim", 1024, read_vqa_v2},
      {"gqa-full", 0, read_gqa},
      {"gqa-slim", 1024, read_gqa},
      {"vizwiz-full", 0, read_vizwiz},
      {"vizwiz-slim", 1024, read_vizwiz},
      {"text-vqa-full", 0, text},
      {"text-vqa-ocr-full", 0, text_ocr},
      {"text-vqa-slim", 1024, text},
      {"text-vqa-ocr-slim", 1024, text_ocr},
      {"pope-full", 0, read_pope},
      {"pope-slim", 1024, read_pope},
      {"vsr-full", 0, read_vsr},
      {"refcoco-full", 0, read_refcoco},
      {"refcoco-slim", 1024, read_refcoco},
      {"ocid-ref-full", 0, read_ocid_ref},
      {"ocid-ref-slim", 1024, read_ocid_ref},
      {"tally-qa-full", 0, read_tally_qa},
      {"tally-qa-subsampled", 8192, read_tally_qa},
      {"tally-qa-slim", 1024, read_tally_qa},
      {"ai2d-full", 0, read_ai2d},
      {"ai2d-slim", 1024, read_ai2d},
      {"garment", 0, [](const path& f, dataset& s) { read_garment(f, s); }},
  };
  return all;
}

inline const dataset_entry& find_dataset(std::string_view name) {
  std::string known;
  for (const dataset_entry& e : dataset_entries()) {
    if (name == e.name || std::string(name) + "-full" == e.name) return e;
    known += std::string(known.empty() ? "" : ", ") + e.name;
  }
  fail<error>("evaluate: data set \"", name, "\"; one of ", known, " is wanted");
}

/// Reads a data set from a folder with its official files.
///
/// Errors    error for an unknown name; io_error naming file and record
inline dataset read_dataset(std::string_view name, const std::filesystem::path& folder) {
  const dataset_entry& entry = find_dataset(name);
  dataset set;
  set.id = entry.name;
  entry.read(folder, set);
  std::set<std::string_view> ids;
  for (const question& q : set.questions)
    if (!ids.insert(q.id).second)
      fail<io_error>(folder.string(), ": question ", q.id, " occurs twice; once is wanted");
  if (entry.slim > 0) take_slim(set, entry.slim);
  if (!set.picture)
    set.picture = [folder](const std::string& below) { return read_image(folder / below); };
  return set;
}

}  // namespace mlmamba::evaluate
