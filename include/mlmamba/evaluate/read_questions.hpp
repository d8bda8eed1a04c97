// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Data sets with free answers: VQAv2, GQA, VizWiz, TextVQA.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/evaluate/dataset.hpp"

namespace mlmamba::evaluate {

namespace detail {
/// Ten answers are usual, others are taken too; their score is a mean over them.
inline std::vector<std::string> annotators(const json& record, std::string_view who) {
  std::vector<std::string> out;
  const json& list = json_at(record, "answers", who);
  if (!list.is_array() || list.empty())
    fail<io_error>(who, ": \"answers\" is ", mlmamba::detail::json_excerpt(list),
                   "; a list of at least one answer is wanted");
  for (const json& a : list)
    out.push_back(a.is_string() ? a.get<std::string>() : json_get<std::string>(a, "answer", who));
  return out;
}
}  // namespace detail

/// VQAv2, validation: v2_OpenEnded_mscoco_val2014_questions.json,
/// v2_mscoco_val2014_annotations.json, val2014/COCO_val2014_*.jpg. In the order of the annotations.
inline void read_vqa_v2(const std::filesystem::path& folder, dataset& set) {
  set.judged = metric::vqa;
  std::map<std::string, std::string> text;
  {
    const auto file = folder / "v2_OpenEnded_mscoco_val2014_questions.json";
    const json all = read_json(file);
    detail::for_each_record(
        json_at(all, "questions", file.string()), file, [&](const json& q, const std::string& who) {
          text[detail::id_of(q, "question_id", who)] = json_get<std::string>(q, "question", who);
        });
  }
  const auto file = folder / "v2_mscoco_val2014_annotations.json";
  const json all = read_json(file);
  detail::for_each_record(
      json_at(all, "annotations", file.string()), file, [&](const json& a, const std::string& who) {
        question q;
        q.id = detail::id_of(a, "question_id", who);
        const auto found = text.find(q.id);
        if (found == text.end())
          fail<io_error>(who, ": question ", q.id,
                         " is not in the file of questions; it is needed");
        q.message = prompts::short_answer(found->second);
        q.picture = "val2014/" +
                    detail::coco_name("val2014", json_get<std::int64_t>(a, "image_id", who), who);
        q.group = json_get<std::string>(a, "answer_type", who);
        q.kind = json_get<std::string>(a, "question_type", who);
        q.answers = detail::annotators(a, who);
        set.questions.push_back(std::move(q));
      });
}

/// GQA: testdev_balanced_questions.json, images/*.jpg.
inline void read_gqa(const std::filesystem::path& folder, dataset& set) {
  set.judged = metric::gqa;
  detail::for_each_member(
      folder / "testdev_balanced_questions.json",
      [&](const std::string& id, const json& r, const std::string& who) {
        question q;
        q.id = id;
        q.message = prompts::short_answer(json_get<std::string>(r, "question", who));
        q.picture = detail::picture_below("images", detail::id_of(r, "imageId", who) + ".jpg", who);
        q.answers = {json_get<std::string>(r, "answer", who)};
        const json& types = json_at(r, "types", who);
        q.group = json_get<std::string>(types, "structural", who);
        q.kind = json_get<std::string>(types, "semantic", who);
        set.questions.push_back(std::move(q));
      });
}

/// VizWiz, validation: val.json, val/*.jpg. A picture has one question, and names it.
inline void read_vizwiz(const std::filesystem::path& folder, dataset& set) {
  set.judged = metric::vizwiz;
  const auto file = folder / "val.json";
  detail::for_each_record(read_json(file), file, [&](const json& r, const std::string& who) {
    question q;
    q.id = json_get<std::string>(r, "image", who);
    q.picture = detail::picture_below("val", q.id, who);
    q.message = prompts::vizwiz(json_get<std::string>(r, "question", who));
    q.answers = detail::annotators(r, who);
    const int answerable = json_get<int>(r, "answerable", who);
    if (answerable != 0 && answerable != 1)
      fail<io_error>(who, ": \"answerable\" is ", answerable, "; 0 or 1 is wanted");
    q.group = answerable ? "answerable" : "unanswerable";
    set.questions.push_back(std::move(q));
  });
}

namespace detail {

/// The message for each question of `list`, with the words that OCR has found. From
/// textvqa_val_v051_ocr.jsonl (LLaVA's llava_textvqa_val_v051_ocr.jsonl is the same with the last
/// line of the prompt already there), whose lines have the order of the questions and a text
/// "Q\nReference OCR token: T"; or else from TextVQA_Rosetta_OCR_v0.2_val.json, the words joined by
/// ", ".
inline std::vector<std::string> messages_with_ocr(const std::filesystem::path& folder,
                                                  const json& list) {
  std::vector<std::string> out;
  auto file = folder / "textvqa_val_v051_ocr.jsonl";
  if (!std::filesystem::exists(file)) file = folder / "llava_textvqa_val_v051_ocr.jsonl";
  if (std::filesystem::exists(file)) {
    for_each_line(file, [&](const json& r, const std::string& who) {
      const auto text = json_get<std::string>(r, "text", who);
      constexpr std::string_view mark = "\nReference OCR token:";
      const std::size_t at = text.find(mark);
      if (at == text.npos)
        fail<io_error>(who, ": \"text\" has no line \"Reference OCR token:\"; one is wanted");
      const std::size_t begin = at + mark.size();
      const auto tokens = std::string_view(text).substr(begin, text.find('\n', begin) - begin);
      if (json_has(r, "image") && out.size() < list.size()) {
        const auto image = json_get<std::string>(r, "image", who);
        const auto want = json_get<std::string>(list[out.size()], "image_id", who) + ".jpg";
        if (image != want)
          fail<io_error>(who, ": image ", image, " where the questions have ", want,
                         "; the order of TextVQA_0.5.1_val.json is wanted");
      }
      out.push_back(
          prompts::with_tokens(text.substr(0, at), std::string(mlmamba::detail::strip(tokens))));
    });
    if (out.size() != list.size())
      fail<io_error>(file.string(), ": ", out.size(), " lines for ", list.size(),
                     " questions; one for each is wanted");
    return out;
  }
  file = folder / "TextVQA_Rosetta_OCR_v0.2_val.json";
  const json all = read_json(file);
  std::map<std::string, std::string> tokens;
  for_each_record(json_at(all, "data", file.string()), file,
                  [&](const json& r, const std::string& who) {
                    std::string& words = tokens[json_get<std::string>(r, "image_id", who)];
                    words.clear();
                    for (const auto& w : json_get<std::vector<std::string>>(r, "ocr_tokens", who))
                      words += (words.empty() ? "" : ", ") + w;
                  });
  for_each_record(
      list, folder / "TextVQA_0.5.1_val.json", [&](const json& r, const std::string& who) {
        const auto found = tokens.find(json_get<std::string>(r, "image_id", who));
        if (found == tokens.end())
          fail<io_error>(who, ": its image is not in ", file.string(), "; its words are wanted");
        out.push_back(
            prompts::with_tokens(json_get<std::string>(r, "question", who), found->second));
      });
  return out;
}

}  // namespace detail

/// TextVQA, validation: TextVQA_0.5.1_val.json, train_images/*.jpg; with OCR also what
/// messages_with_ocr reads.
inline void read_text_vqa(const std::filesystem::path& folder, bool with_ocr, dataset& set) {
  set.judged = metric::text_vqa;
  const auto file = folder / "TextVQA_0.5.1_val.json";
  const json all = read_json(file);
  const json& list = json_at(all, "data", file.string());
  std::vector<std::string> messages;
  if (with_ocr && list.is_array()) messages = detail::messages_with_ocr(folder, list);
  detail::for_each_record(list, file, [&](const json& r, const std::string& who) {
    question q;
    q.id = detail::id_of(r, "question_id", who);
    q.picture = detail::picture_below("train_images",
                                      json_get<std::string>(r, "image_id", who) + ".jpg", who);
    q.message = with_ocr ? messages[set.questions.size()]
                         : prompts::short_answer(json_get<std::string>(r, "question", who));
    q.answers = detail::annotators(r, who);
    set.questions.push_back(std::move(q));
  });
}

}  // namespace mlmamba::evaluate
