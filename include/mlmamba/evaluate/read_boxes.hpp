// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Data sets of sentences about regions: RefCOCO, RefCOCO+, RefCOCOg, OCID-Ref.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "mlmamba/evaluate/dataset.hpp"

namespace mlmamba::evaluate {

namespace detail {
inline box numbers_of_box(const json& list, const std::string& key, const std::string& who) {
  const auto v = json_to<std::vector<double>>(list, who, key);
  if (v.size() != 4)
    fail<io_error>(who, ": \"", key, "\" has ", v.size(), " numbers; 4 are wanted");
  return {v[0], v[1], v[2], v[3]};
}
}  // namespace detail

/// The validation parts of RefCOCO (refcoco/refs(unc).json), RefCOCO+ (refcoco+/refs(unc).json) and
/// RefCOCOg (refcocog/refs(umd).json), each with instances.json beside it; train2014/*.jpg. The
/// refs are published as a Python pickle, which nobody should have to read who does not trust it;
/// once, where it is trusted:
///
///   import json, pickle
///   json.dump(pickle.load(open("refs(unc).p", "rb"), encoding="latin1"),
///             open("refs(unc).json", "w"))
///
/// Boxes are rounded to two decimals, as the original rounds them.
inline void read_refcoco(const std::filesystem::path& folder, dataset& set) {
  set.judged = metric::overlap;
  set.groups = {"RefCOCO", "RefCOCO+", "RefCOCOg"};
  struct part {
    const char *group, *below, *refs;
  };
  for (const part p : {part{"RefCOCO", "refcoco", "refs(unc).json"},
                       part{"RefCOCO+", "refcoco+", "refs(unc).json"},
                       part{"RefCOCOg", "refcocog", "refs(umd).json"}}) {
    std::map<std::int64_t, box> boxes;  // by annotation: x, y, width, height in pixels
    std::map<std::int64_t, std::pair<double, double>> sizes;  // by picture
    {
      const auto file = folder / p.below / "instances.json";
      const json all = read_json(file);
      detail::for_each_record(
          json_at(all, "images", file.string()), file, [&](const json& r, const std::string& who) {
            sizes[json_get<std::int64_t>(r, "id", who)] = {json_get<double>(r, "width", who),
                                                           json_get<double>(r, "height", who)};
          });
      detail::for_each_record(json_at(all, "annotations", file.string()), file,
                              [&](const json& r, const std::string& who) {
                                boxes[json_get<std::int64_t>(r, "id", who)] =
                                    detail::numbers_of_box(json_at(r, "bbox", who), "bbox", who);
                              });
    }
    const auto file = folder / p.below / p.refs;
    detail::for_each_record(read_json(file), file, [&](const json& r, const std::string& who) {
      if (json_get<std::string>(r, "split", who) != "val") return;
      const auto picture = json_get<std::int64_t>(r, "image_id", who);
      const auto size = sizes.find(picture);
      const auto found = boxes.find(json_get<std::int64_t>(r, "ann_id", who));
      if (size == sizes.end() || found == boxes.end())
        fail<io_error>(who, ": its image or annotation is not in instances.json; both are wanted");
      const box& b = found->second;
      const box where = normalised_box({b[0], b[1], b[0] + b[2], b[1] + b[3]}, size->second.first,
                                       size->second.second, who);
      const json& sentences = json_at(r, "sentences", who);
      if (!sentences.is_array())
        fail<io_error>(who, ": \"sentences\" is ", mlmamba::detail::json_excerpt(sentences),
                       "; a list is wanted");
      for (const json& s : sentences) {
        question q;
        q.id = std::string(p.group) + "-" + detail::id_of(r, "ref_id", who) + "-" +
               detail::id_of(s, "sent_id", who);
        q.group = p.group;
        q.picture = "train2014/" + detail::coco_name("train2014", picture, who);
        q.message = prompts::where_is(json_get<std::string>(s, "sent", who));
        q.where = where;
        set.questions.push_back(std::move(q));
      }
    });
  }
}

/// OCID-Ref, validation: val_expressions.json, OCID-dataset/*. All pictures are 640 x 480.
inline void read_ocid_ref(const std::filesystem::path& folder, dataset& set) {
  set.judged = metric::overlap;
  set.groups = {"minimum", "medium", "maximum"};
  detail::for_each_member(folder / "val_expressions.json", [&](const std::string& id, const json& r,
                                                               const std::string& who) {
    question q;
    q.id = id;
    q.picture =
        detail::picture_below("OCID-dataset", json_get<std::string>(r, "scene_path", who), who);
    q.message = prompts::where_is(json_get<std::string>(r, "sentence", who));
    // How many pictures of this table were taken before: the clutter grows.
    const int take = json_get<int>(r, "take_id", who);
    if (take < 0 || take > 20)
      fail<io_error>(who, ": \"take_id\" is ", take, "; 0 to 20 is wanted");
    q.group = set.groups[take < 10 ? 0 : take < 17 ? 1 : 2];
    q.where = normalised_box(
        detail::numbers_of_box(parse_json(json_get<std::string>(r, "bbox", who), who), "bbox", who),
        640, 480, who);
    set.questions.push_back(std::move(q));
  });
}

}  // namespace mlmamba::evaluate
