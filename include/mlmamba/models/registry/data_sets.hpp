// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The data sets of the published recipes by id: where their parts lie below a root folder.
#pragma once

#include <array>
#include <filesystem>
#include <string_view>

#include "mlmamba/models/registry/lookup.hpp"

namespace mlmamba {

/// An annotation file and the folder that its pictures are named in, both below the root.
struct data_set_part {
  std::string_view annotations, images;
};

struct data_set {
  std::string_view id;
  data_set_part align;     ///< first stage: captions, the connector alone
  data_set_part finetune;  ///< second stage: conversations

  /// `part` below `root`: "data" in the original.
  static std::filesystem::path path(std::string_view part,
                                    const std::filesystem::path& root = "data") {
    return root / part;
  }
};

namespace preset {

inline constexpr data_set_part llava_align{"download/llava-laion-cc-sbu-558k/chat.json",
                                           "download/llava-laion-cc-sbu-558k"};
namespace detail {
constexpr data_set llava(std::string_view id, std::string_view annotations) {
  return {id, llava_align, {annotations, "download/llava-v1.5-instruct"}};
}
}  // namespace detail

inline constexpr std::array<data_set, 5> data_sets{{
    detail::llava("llava-v15", "download/llava-v1.5-instruct/llava_v1_5_mix665k.json"),
    detail::llava("llava-multimodal", "download/llava-v1.5-instruct/llava_v1_5_stripped625k.json"),
    detail::llava("llava-lvis4v", "download/llava-v1.5-instruct/llava_v1_5_lvis4v_mix888k.json"),
    detail::llava("llava-lrv", "download/llava-v1.5-instruct/llava_v1_5_lrv_mix1008k.json"),
    detail::llava("llava-lvis4v-lrv",
                  "download/llava-v1.5-instruct/llava_v1_5_lvis4v_lrv_mix1231k.json"),
}};

/// Errors: error that lists the ids there are.
inline const data_set& data_set_of(std::string_view id) {
  return registry::get("data set", data_sets, id);
}

}  // namespace preset
}  // namespace mlmamba
