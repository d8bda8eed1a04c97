// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Pictures with questions whose answers are known: from a LLaVA-style file, or garment scenes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "mlmamba/io/image.hpp"
#include "mlmamba/train/garment.hpp"
#include "mlmamba/train/llava.hpp"

namespace mlmamba::train {

struct vqa_question {
  std::string type, kind, text, truth;
};

/// One picture (or none) and what is asked about it, each question by itself.
struct vqa_scene {
  std::optional<image> picture;
  std::vector<vqa_question> questions;
};

struct vqa_set {
  std::string name;
  std::uint64_t scenes = 0;
  std::function<vqa_scene(std::uint64_t)> get;
  std::function<picture_file(std::uint64_t)> picture{};  ///< as of data_source
};
inline void check_pictures(const vqa_set& s) { check_pictures(s.picture, s.scenes); }

/// The first `scenes` garment scenes of these photos.
inline vqa_set garment_questions(garment::source photos, std::uint64_t seed, std::uint64_t scenes,
                                 garment::options options = {}) {
  options.check();
  const auto shared = std::make_shared<const garment::source>(std::move(photos));
  vqa_set out;
  out.name = std::string("garment:") + garment::name_of(shared->which);
  out.scenes = scenes;
  out.get = [shared, seed, options](std::uint64_t i) {
    const garment::scene s = garment::make_scene(*shared, seed, i, options);
    vqa_scene v;
    v.picture = garment::to_image(s);
    for (const garment::question& q : s.questions)
      v.questions.push_back({garment::question_type_names[static_cast<std::size_t>(q.type)], q.kind,
                             q.text, q.answer});
    return v;
  };
  return out;
}

/// A LLaVA-style file: every answer of every record is one to score; each question is asked by
/// itself. "type" and "kind" of a record are kept ("type" is "question" where absent). Records that
/// follow each other with the same image become one scene.
///
/// Errors    io_error as read_llava
inline vqa_set read_questions(const std::filesystem::path& file,
                              const std::filesystem::path& images) {
  struct record {
    std::string picture;
    std::size_t first = 0;  // number of its first record in the file
    std::vector<vqa_question> questions{};
  };
  const std::string who = file.string();
  auto scenes = std::make_shared<std::vector<record>>();
  const json list = read_json(file);
  if (!list.is_array() || list.empty())
    fail<io_error>(who, ": a list of at least one conversation is wanted");
  for (std::size_t i = 0; i < list.size(); ++i) {
    const std::string here = who + ": record " + std::to_string(i);
    const auto turns = read_turns(list[i], here);
    const std::string picture = checked_picture(list[i], here);
    if (scenes->empty() || picture.empty() || scenes->back().picture != picture)
      scenes->push_back({picture, i});
    for (std::size_t t = 0; t + 1 < turns.size(); t += 2)
      scenes->back().questions.push_back(
          {json_get_or<std::string>(list[i], "type", "question", here),
           json_get_or<std::string>(list[i], "kind", "", here), turns[t].text, turns[t + 1].text});
  }
  vqa_set out;
  out.name = file.filename().string();
  out.scenes = scenes->size();
  out.get = [scenes, images](std::uint64_t i) {
    const record& r = scenes->at(static_cast<std::size_t>(i));
    vqa_scene v;
    if (!r.picture.empty()) v.picture = read_image(images / r.picture);
    v.questions = r.questions;
    return v;
  };
  out.picture = [scenes, images, who](std::uint64_t i) -> picture_file {
    const record& r = scenes->at(static_cast<std::size_t>(i));
    if (r.picture.empty()) return {};
    return {images / r.picture, who + ": record " + std::to_string(r.first)};
  };
  return out;
}

}  // namespace mlmamba::train
