// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// LLaVA's conversations with those of LVIS-Instruct-4V and LRV-Instruct, in the authors' order.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/data_prep/annotations.hpp"
#include "mlmamba/evaluate/python_random.hpp"
#include "mlmamba/io/json.hpp"
#include "mlmamba/text/prompt.hpp"

namespace mlmamba::data_prep {

inline constexpr std::string_view base_list = "llava_v1_5_mix665k.json",
                                  stripped_list = "llava_v1_5_stripped625k.json",
                                  lvis_list = "llava_v1_5_lvis4v_mix888k.json",
                                  lrv_list = "llava_v1_5_lrv_mix1008k.json",
                                  lvis_lrv_list = "llava_v1_5_lvis4v_lrv_mix1231k.json";
inline constexpr std::uint32_t merge_seed = 7;

/// The conversations that have pictures, in their order. (Whether the authors shuffled theirs is
/// not published; training draws its own order.)
inline void strip_text_only(const std::filesystem::path& folder) {
  const annotation_file all(folder / base_list);
  std::vector<std::string_view> kept;
  for (std::size_t i = 0; i < all.records().size(); ++i)
    if (!all.pictures()[i].empty()) kept.push_back(all.records()[i]);
  write_annotations(folder / stripped_list, kept);
}

/// mix665k, then LVIS-Instruct-4V's 220k; shuffled three times from seed 7.
///
/// Errors    io_error; pictures_missing if one of LVIS-Instruct-4V's is not there
inline void merge_lvis(const std::filesystem::path& folder) {
  const annotation_file base(folder / base_list), lvis(folder / "lvis_instruct4v_220k.json");
  lvis.check_pictures(folder);
  evaluate::python_random random(merge_seed);
  std::vector<std::string_view> all = base.records();
  all.insert(all.end(), lvis.records().begin(), lvis.records().end());
  shuffle_thrice(all, random);
  write_annotations(folder / lvis_list, all);
}

namespace detail {

/// The members image_id, question and answer of LRV's records as conversations of two turns.
inline std::vector<std::string> lrv_conversations(const std::filesystem::path& folder,
                                                  std::string_view list, bool chart,
                                                  picture_search& search) {
  const std::filesystem::path path = folder / "lrv" / list;
  const mapped_file file(path);
  std::vector<std::string> out;
  train::detail::for_each_record(
      file.text(), path.string(), [&](std::uint64_t i, std::string_view text) {
        const std::string who = path.string() + ": record " + std::to_string(i);
        const json record = parse_json(text, who);
        const json& id = json_at(record, "image_id", who);
        if (!id.is_string() && !(id.is_number_integer() && !chart))
          fail<io_error>(who, ": \"image_id\" is ", mlmamba::detail::json_excerpt(id), "; a text",
                         chart ? "" : " or a number", " is wanted");
        const std::string name = id.is_string() ? id.get<std::string>() : id.dump();
        const auto member = [&](const char* key) {
          return std::string(mlmamba::detail::strip(json_get<std::string>(record, key, who)));
        };
        nlohmann::ordered_json made;
        made["id"] = chart ? nlohmann::ordered_json(std::filesystem::path(name).stem().string())
                           : nlohmann::ordered_json(id);
        made["image"] = chart ? "lrv/lrv-chart/" + name : "lrv/lrv-vg/" + name + ".jpg";
        const auto turn = [](const char* from, std::string value) {
          nlohmann::ordered_json t;
          t["from"] = from, t["value"] = std::move(value);
          return t;
        };
        made["conversations"] = {turn("human", "<image>\n" + member("question")),
                                 turn("gpt", member("answer"))};
        search.look_for(train::checked_picture(json(made), who));
        out.push_back(made.dump(-1, ' ', true));
      });
  return out;
}

}  // namespace detail

/// mix665k with LRV-Instruct, and LVIS's 888k with it: each shuffled three times, the second with
/// the numbers that follow those of the first, from seed 7. `with_lvis` says which of the two is
/// written; the 888k list must be there if it is.
///
/// Errors    io_error; pictures_missing if one of LRV-Instruct's is not there
inline void merge_lrv(const std::filesystem::path& folder, bool with_lvis) {
  detail::picture_search search(folder);
  std::vector<std::string> lrv;
  for (const auto& [list, chart] : {std::pair{"filter_cap1.json", false},
                                    {"filter_cap_more1.json", false},
                                    {"chart_release_update.json", true}})
    for (std::string& text : detail::lrv_conversations(folder, list, chart, search))
      lrv.push_back(std::move(text));
  search.check((folder / "lrv").string());
  evaluate::python_random random(merge_seed);
  for (const bool lvis : {false, true}) {
    if (lvis && !with_lvis) break;
    const annotation_file base(folder / (lvis ? lvis_list : base_list));
    std::vector<std::string_view> all = base.records();
    all.insert(all.end(), lrv.begin(), lrv.end());
    shuffle_thrice(all, random);
    if (lvis == with_lvis) write_annotations(folder / (lvis ? lvis_lrv_list : lrv_list), all);
  }
}

}  // namespace mlmamba::data_prep
