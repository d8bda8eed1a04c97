// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The official formats: what is asked, what is right, what is refused. The records of data/ are
// made up.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <string>

#include "mlmamba/evaluate/datasets.hpp"
#include "mlmamba/evaluate/results_file.hpp"

using namespace mlmamba;
using namespace mlmamba::evaluate;
namespace fs = std::filesystem;

namespace {
const fs::path data = MLMAMBA_TEST_DATA "/evaluate/data";
const std::string suffix = "\nAnswer the question using a single word or phrase.";

/// A copy of a tiny data set, gone at the end.
struct copied {
  fs::path folder;
  explicit copied(const std::string& name) {
    static int n = 0;
    folder = fs::temp_directory_path() /
             ("mlmamba_evaluate_" + std::to_string(::getpid()) + "_" + std::to_string(n++));
    fs::copy(data / name, folder, fs::copy_options::recursive);
  }
  ~copied() { fs::remove_all(folder); }
  /// Replaces the first `from` in a file.
  void change(const std::string& file, const std::string& from, const std::string& to) const {
    std::stringstream all;
    all << std::ifstream(folder / file).rdbuf();
    std::string text = all.str();
    const auto at = text.find(from);
    REQUIRE(at != text.npos);
    std::ofstream(folder / file) << text.replace(at, from.size(), to);
  }
};
/// Reading the changed set fails with these words.
void refused(const std::string& name, const std::string& set, const std::string& file,
             const std::string& from, const std::string& to, const char* words) {
  const copied c(set);
  c.change(file, from, to);
  INFO(name << ": " << from << " -> " << to);
  CHECK_THROWS_WITH_AS(read_dataset(name, c.folder), doctest::Contains(words), io_error);
}
}  // namespace

TEST_SUITE("evaluate_read_test") {
  TEST_CASE("VQAv2") {
    const dataset s = read_dataset("vqa-v2", data / "vqa-v2");
    CHECK(s.id == "vqa-v2-full");
    REQUIRE(s.questions.size() == 5);
    CHECK(s.questions[0].id == "1000");
    CHECK(s.questions[0].message == "Is there a bag in the picture?" + suffix);
    CHECK(s.questions[0].picture == "val2014/COCO_val2014_000000000001.jpg");
    CHECK(s.questions[0].group == "yes/no");
    CHECK(s.questions[0].kind == "is there a");
    CHECK(s.questions[0].answers.size() == 10);
    CHECK(s.questions[4].answers[0] == "bottom right");
    CHECK(s.questions[4].answers[9] == "other");
    const std::string a = "v2_mscoco_val2014_annotations.json",
                      q = "v2_OpenEnded_mscoco_val2014_questions.json";
    refused("vqa-v2", "vqa-v2", a, "\"question_id\": 1001", "\"question_id\": 7",
            "record 1: question 7");
    refused("vqa-v2", "vqa-v2", a, "\"question_id\": 1001", "\"question_id\": 1000",
            "1000 occurs twice");
    refused("vqa-v2", "vqa-v2", a, "\"image_id\": 2", "\"image_id\": -2",
            "record 2: image_id is -2");
    refused("vqa-v2", "vqa-v2", a, "\"answers\"", "\"ansers\"",
            "record 0: there is no \"answers\"");
    refused("vqa-v2", "vqa-v2", q, "\"question\": \"Where", "\"question\": 5, \"x\": \"Where",
            "record 0: \"question\" is 5");
    refused("vqa-v2", "vqa-v2", q, "\"questions\": [", "\"questions\": [[]], \"x\": [", "record 0");
  }
  TEST_CASE("GQA keeps the order of the file") {
    const dataset s = read_dataset("gqa-full", data / "gqa");
    REQUIRE(s.questions.size() == 3);
    CHECK(s.questions[0].id == "201640614");
    CHECK(s.questions[1].id == "201640613");
    CHECK(s.questions[2].id == "20512");
    CHECK(s.questions[1].picture == "images/n1.jpg");
    CHECK(s.questions[1].message == "Is it a bag?" + suffix);
    CHECK(s.questions[1].answers == std::vector<std::string>{"no"});
    CHECK(s.questions[1].group == "verify");
    CHECK(s.questions[1].kind == "attr");
    const std::string f = "testdev_balanced_questions.json";
    const copied c("gqa");
    c.change(f, "\"semanticStr\": \"\"", "\"semanticStr\": NaN");  // as Python writes it
    CHECK(read_dataset("gqa", c.folder).questions.size() == 3);
    refused("gqa", "gqa", f, "\"n2\"", "\"../n2\"", "record \"20512\"");
    refused("gqa", "gqa", f, "\"20512\"", "\"201640613\"", "occurs twice");
    refused("gqa", "gqa", f, "\"types\"", "\"type\"", "\"types\"");
    refused("gqa", "gqa", f, "{", "[{", "not valid JSON");
  }
  TEST_CASE("VizWiz") {
    const dataset s = read_dataset("vizwiz", data / "vizwiz");
    REQUIRE(s.questions.size() == 2);
    CHECK(s.questions[0].message ==
          "What is this? Thanks.\nWhen the provided information is insufficient, respond with "
          "'Unanswerable'." +
              suffix);
    CHECK(s.questions[0].picture == "val/VizWiz_val_00000000.jpg");
    CHECK(s.questions[0].group == "answerable");
    CHECK(s.questions[1].group == "unanswerable");
    refused("vizwiz", "vizwiz", "val.json", "\"answerable\": 0", "\"answerable\": 2",
            "record 1: \"answerable\" is 2");
    refused("vizwiz", "vizwiz", "val.json", "VizWiz_val_00000001", "/etc/x", "record 1");
  }
  TEST_CASE("TextVQA: OCR comes first, or is not given") {
    const dataset pure = read_dataset("text-vqa", data / "text-vqa");
    REQUIRE(pure.questions.size() == 3);
    CHECK(pure.questions[0].message == "what is the brand?" + suffix);
    CHECK(pure.questions[0].picture == "train_images/0054c9.jpg");
    CHECK(pure.questions[0].answers[9] == "dakota");
    const dataset ocr = read_dataset("text-vqa-ocr", data / "text-vqa");
    CHECK(ocr.id == "text-vqa-ocr-full");
    CHECK(ocr.questions[0].message ==
          "Reference OCR token: N, TRUE4U, DAKOTA\nwhat is the brand?" + suffix);
    CHECK(ocr.questions[2].message == "Reference OCR token: \nwhat does the sign say?" + suffix);
    const dataset rosetta = read_dataset("text-vqa-ocr-full", data / "text-vqa-rosetta");
    CHECK(rosetta.questions[1].message ==
          "Reference OCR token: N, DAKOTA\nwhat is the year?" + suffix);
    CHECK(rosetta.questions[2].message ==
          "Reference OCR token: STOP\nwhat does the sign say?" + suffix);
    const std::string l = "llava_textvqa_val_v051_ocr.jsonl",
                      r = "TextVQA_Rosetta_OCR_v0.2_val.json";
    refused("text-vqa-ocr", "text-vqa", l, "0073ab.jpg", "0054c9.jpg",
            "record 2: image 0054c9.jpg");
    refused("text-vqa-ocr", "text-vqa", l, "Reference OCR token: 1", "OCR: 1",
            "record 1: \"text\"");
    refused("text-vqa-ocr", "text-vqa", l, "{\"question_id\": \"0073ab\"",
            "{\"text\": \"q\\nReference OCR token: \"}\n{\"question_id\": \"0073ab\"",
            "4 lines for 3 questions");
    refused("text-vqa-ocr", "text-vqa-rosetta", r, "0073ab", "0073ac", "record 2: its image");
    refused("text-vqa-ocr", "text-vqa-rosetta", "TextVQA_0.5.1_val.json", "\"data\": [",
            "\"data\": {}, \"x\": [", "a list of at least one record");
  }
  TEST_CASE("POPE") {
    const dataset s = read_dataset("pope", data / "pope");
    REQUIRE(s.questions.size() == 6);
    CHECK(s.choices == std::vector<std::string>{"Yes", "No"});
    CHECK(s.questions[1].id == "adversarial-2");
    CHECK(s.questions[1].right == 1);
    CHECK(s.questions[5].id == "random-2");
    CHECK(s.questions[5].right == 0);
    CHECK(s.questions[5].message == "Is there a coat in the image?" + suffix);
    CHECK(s.questions[5].picture == "val2014/COCO_val2014_000000000001.jpg");
    refused("pope", "pope", "coco_pope_random.json", "\"yes\"", "\"Yes\"",
            "record 0: label \"Yes\"");
    refused("pope", "pope", "coco_pope_popular.json", "\"question_id\": 2", "\"question_id\": 1",
            "popular-1 occurs twice");
    refused("pope", "pope", "coco_pope_popular.json", "}\n{", "}\n\n{{",
            "record 1: not valid JSON");
    const copied c("pope");
    std::ofstream(c.folder / "coco_pope_random.json") << "\n \n";
    CHECK_THROWS_WITH_AS(read_dataset("pope", c.folder), doctest::Contains("empty"), io_error);
  }
  TEST_CASE("VSR") {
    const dataset s = read_dataset("vsr", data / "vsr");
    REQUIRE(s.questions.size() == 2);
    CHECK(s.questions[0].right == 0);
    CHECK(s.questions[1].right == 1);
    CHECK(s.questions[1].id == "1");
    CHECK(s.questions[0].message ==
          "Based on the image, is this statement \"True\" or \"False\"? The bag is below the "
          "sandal.\nRespond with \"True\" or \"False\" directly.");
    refused("vsr", "vsr", "test.jsonl", "\"label\": 0", "\"label\": \"0\"", "record 1: \"label\"");
    refused("vsr", "vsr", "test.jsonl", "\"label\": 0", "\"label\": 2", "record 1: \"label\" is 2");
  }
  TEST_CASE("RefCOCO, RefCOCO+, RefCOCOg: the validation parts") {
    const dataset s = read_dataset("refcoco", data / "refcoco");
    REQUIRE(s.questions.size() == 6);
    CHECK(s.questions[1].id == "RefCOCO-5-1");
    CHECK(s.questions[2].id == "RefCOCO+-105-100");
    CHECK(s.questions[5].group == "RefCOCOg");
    CHECK(s.questions[0].message ==
          "Please provide the bounding box coordinate of the region this sentence describes: "
          "\"left bag\"");
    CHECK(s.questions[0].picture == "train2014/COCO_train2014_000000000001.jpg");
    // 10.5 / 640, 20 / 480, 310.75 / 640, 120 / 480
    CHECK(s.questions[0].where == evaluate::box{0.02, 0.04, 0.49, 0.25});
    const std::string i = "refcoco+/instances.json", r = "refcocog/refs(umd).json";
    refused("refcoco", "refcoco", i, "300.25", "700.25", "one inside a picture of 640 x 480");
    refused("refcoco", "refcoco", i, "20,", "", "\"bbox\" has 3 numbers");
    refused("refcoco", "refcoco", r, "\"ann_id\": 11", "\"ann_id\": 13",
            "record 0: its image or annotation");
    refused("refcoco", "refcoco", r, "\"sentences\": [", "\"sentences\": 4, \"x\": [",
            "\"sentences\" is 4");
    refused("refcoco", "refcoco", r, "\"split\": \"testA\"", "\"split\": 4", "record 1: \"split\"");
  }
  TEST_CASE("OCID-Ref: clutter by the number of the picture") {
    const dataset s = read_dataset("ocid-ref", data / "ocid-ref");
    REQUIRE(s.questions.size() == 3);
    CHECK(s.questions[0].id == "92");
    CHECK(s.questions[0].group == "minimum");
    CHECK(s.questions[1].group == "medium");
    CHECK(s.questions[2].group == "maximum");
    CHECK(s.questions[0].where == evaluate::box{0.1, 0.1, 0.5, 0.5});
    CHECK(s.questions[0].picture == "OCID-dataset/ARID20/table/top/seq01/rgb/a.png");
    const std::string f = "val_expressions.json";
    refused("ocid-ref", "ocid-ref", f, "\"take_id\": 17", "\"take_id\": 21",
            "record \"100\": \"take_id\" is 21");
    refused("ocid-ref", "ocid-ref", f, "[1, 2, 3, 4]", "[1, 2, 3",
            "record \"100\": not valid JSON");
    refused("ocid-ref", "ocid-ref", f, "[1, 2, 3, 4]", "[1, 2, 1, 4]", "record \"100\": box");
  }
  TEST_CASE("TallyQA: counts as letters") {
    const dataset s = read_dataset("tally-qa", data / "tally-qa");
    REQUIRE(s.questions.size() == 3);
    CHECK(s.choices.size() == 16);
    CHECK(s.choices[15] == "P");
    CHECK(s.questions[0].right == 4);
    CHECK(s.questions[1].group == "complex");
    CHECK(s.questions[2].picture == "VG_100K/2.jpg");
    CHECK(s.questions[0].message.starts_with("How many garments are there?\nA. 0\nB. 1\nC. 2\n"));
    CHECK(s.questions[0].message.ends_with(
        "\nP. 15\nAnswer with the option's letter from the given choices directly."));
    refused("tally-qa", "tally-qa", "test.json", "\"answer\": 15", "\"answer\": 16",
            "record 2: \"answer\" is 16");
    refused("tally-qa", "tally-qa", "test.json", "VG_100K/2", "VG_100K/../../2", "record 2");
    refused("tally-qa", "tally-qa", "test.json", "\"issimple\": false", "\"issimple\": 0",
            "record 1: \"issimple\"");
  }
  TEST_CASE("AI2D: pictures in the order of their numbers") {
    const dataset s = read_dataset("ai2d", data / "ai2d");
    REQUIRE(s.questions.size() == 3);
    CHECK(s.questions[0].id == "2.png-1");
    CHECK(s.questions[0].message ==
          "a is?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer with the option's letter from the given choices "
          "directly.");
    CHECK(s.questions[0].group == "test");
    CHECK(s.questions[0].right == 3);
    CHECK(s.questions[2].group == "val");
    CHECK(s.questions[2].picture == "images/10.png");
    refused("ai2d", "ai2d", "questions/10.png.json", "\"correctAnswer\": 2", "\"correctAnswer\": 4",
            "10.png.json: \"What is on top?\": \"correctAnswer\" is 4");
    refused("ai2d", "ai2d", "questions/10.png.json", "\"bag\",", "", "3 answers; 4 are wanted");
    refused("ai2d", "ai2d", "ai2d_test_ids.csv", "5", "five", "\"five\" where the number");
    const copied c("ai2d");
    fs::remove_all(c.folder / "questions");
    CHECK_THROWS_WITH_AS(read_dataset("ai2d", c.folder), doctest::Contains("can't list"), io_error);
  }
  TEST_CASE("names") {
    CHECK_THROWS_WITH_AS(read_dataset("nocaps-full", data), doctest::Contains("vqa-v2-full, "),
                         error);
    CHECK_THROWS_WITH_AS(read_dataset("vqa", data), doctest::Contains("is wanted"), error);
    for (const dataset_entry& e : dataset_entries()) {
      INFO(e.name);
      CHECK_THROWS_AS(read_dataset(e.name, data / "no-such"), std::exception);
    }
  }
  TEST_CASE("slim: the first of each group of Python's shuffle, in the order of the file") {
    dataset s;
    s.questions.resize(10);
    for (int i = 0; i < 10; ++i) s.questions[std::size_t(i)].id = std::to_string(i);
    const auto ids = [](const dataset& d) {
      std::string all;
      for (const question& q : d.questions) all += q.id;
      return all;
    };
    // random.Random(21).shuffle of 0 to 9 is 7 0 4 1 3 9 5 8 6 2
    dataset some = s;
    take_slim(some, 4);
    CHECK(ids(some) == "0147");
    dataset grouped = s;
    grouped.groups = {"odd", "even"};
    for (int i = 0; i < 10; ++i) grouped.questions[std::size_t(i)].group = i % 2 ? "odd" : "even";
    take_slim(grouped, 2);
    CHECK(ids(grouped) == "0147");
    take_slim(s, 100);
    CHECK(s.questions.size() == 10);
  }
  TEST_CASE("a file of results: goes on, drops what is torn, refuses another run") {
    const copied c("vsr");
    dataset s = read_dataset("vsr", c.folder);
    const auto path = c.folder / "results.jsonl";
    const json run{{"dataset", s.id}, {"digest", digest_of(s)}};
    {
      results_file r(path, run, s);
      CHECK(r.find("0") == nullptr);
      r.add("0", {"", {0.25, 0.75}});
      r.add("1", {"", {0.1, 0.9}});
    }
    std::string text;
    {
      std::stringstream all;
      all << std::ifstream(path).rdbuf();
      text = all.str();
    }
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {  // killed at any moment
      std::ofstream(path, std::ios::trunc) << text.substr(0, cut);
      const std::size_t whole =
          std::size_t(std::count(text.begin(), text.begin() + std::ptrdiff_t(cut), '\n'));
      results_file r(path, run, s);
      CHECK((r.find("0") != nullptr) == (whole >= 2));
      CHECK((r.find("1") != nullptr) == (whole >= 3));
      if (whole >= 2) CHECK(r.find("0")->probabilities == std::vector<double>{0.25, 0.75});
    }
    std::ofstream(path) << text
                        << "{\"id\": \"x\", \"probabilities\": [1]}\n{\"id\": 3}\n5\nnonsense\n";
    {
      results_file r(path, run, s);
      CHECK(r.find("x") == nullptr);
      CHECK(r.find("1") != nullptr);
    }
    s.questions[0].message += "?";
    const json other{{"dataset", s.id}, {"digest", digest_of(s)}};
    CHECK(other != run);
    CHECK_THROWS_WITH_AS(results_file(path, other, s), doctest::Contains("another --results"),
                         io_error);
    CHECK(fs::exists(path));
    std::ofstream(path) << text.substr(0, text.find('\n') + 1);
    results_file(path, run, s);  // ends without an answer
    CHECK(!fs::exists(path));
  }
}
