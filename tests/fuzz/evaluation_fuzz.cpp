// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fuzz target: any bytes as the files of a benchmark (the first byte says which, "\x1E" ends a
// file), as a model's answer, and as a file of results.
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "mlmamba/evaluate/read_boxes.hpp"
#include "mlmamba/evaluate/read_choices.hpp"
#include "mlmamba/evaluate/read_questions.hpp"
#include "mlmamba/evaluate/results_file.hpp"

namespace {

using namespace mlmamba;
using namespace mlmamba::evaluate;
namespace fs = std::filesystem;

struct format {
  void (*read)(const fs::path&, dataset&);
  std::vector<const char*> files;
};

const std::vector<format>& formats() {
  static const std::vector<format> all{
      {read_vqa_v2,
       {"v2_OpenEnded_mscoco_val2014_questions.json", "v2_mscoco_val2014_annotations.json"}},
      {read_gqa, {"testdev_balanced_questions.json"}},
      {read_vizwiz, {"val.json"}},
      {[](const fs::path& f, dataset& s) { read_text_vqa(f, true, s); },
       {"TextVQA_0.5.1_val.json", "textvqa_val_v051_ocr.jsonl"}},
      {[](const fs::path& f, dataset& s) { read_text_vqa(f, true, s); },
       {"TextVQA_0.5.1_val.json", "TextVQA_Rosetta_OCR_v0.2_val.json"}},
      {read_pope,
       {"coco_pope_adversarial.json", "coco_pope_popular.json", "coco_pope_random.json"}},
      {read_vsr, {"test.jsonl"}},
      {read_refcoco,
       {"refcoco/instances.json", "refcoco/refs(unc).json", "refcoco+/instances.json",
        "refcoco+/refs(unc).json", "refcocog/instances.json", "refcocog/refs(umd).json"}},
      {read_ocid_ref, {"val_expressions.json"}},
      {read_tally_qa, {"test.json"}},
      {read_ai2d, {"ai2d_test_ids.csv", "questions/1.png.json"}},
  };
  return all;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  static const fs::path folder =
      fs::temp_directory_path() / ("mlmamba_fuzz_" + std::to_string(::getpid()));
  static struct at_end {
    ~at_end() { fs::remove_all(folder); }
  } remove;
  fs::remove_all(folder);
  const format& f = formats()[data[0] % formats().size()];
  const std::string_view all(reinterpret_cast<const char*>(data) + 1, size - 1);
  std::string_view rest = all;
  for (const char* file : f.files) {
    const std::string_view text = rest.substr(0, rest.find('\x1E'));
    rest.remove_prefix(std::min(rest.size(), text.size() + 1));
    fs::create_directories((folder / file).parent_path());
    std::ofstream(folder / file, std::ios::binary) << text;
  }
  dataset set;
  try {
    f.read(folder, set);
    take_slim(set, 2);
  } catch (const error&) {
    set = {};
  }
  std::vector<answer> answers;
  for (std::size_t i = 0; i < set.questions.size(); ++i)
    answers.push_back({std::string(rest), std::vector<double>(set.choices.size(), 0.5)});
  (void)to_json(set, answers, score(set, answers), "fuzz")
      .dump(-1, ' ', false, json::error_handler_t::replace);
  (void)parse_box(all);
  (void)vqa_prediction(all, vizwiz_contractions());
  (void)text_vqa_answer(all);
  (void)gqa_prediction(all);
  try {
    fs::create_directories(folder);
    const json run{{"digest", digest_of(set)}};
    std::ofstream(folder / "results.jsonl", std::ios::binary) << json{{"run", run}}.dump() << '\n'
                                                              << all;
    results_file(folder / "results.jsonl", run, set).add("x", {"y", {}});
  } catch (const error&) {
  }
  return 0;
}
