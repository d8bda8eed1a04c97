// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What the published recipes train on: the files that each folder of data is made of.
#pragma once

#include <array>
#include <span>
#include <string_view>

#include "mlmamba/models/registry/lookup.hpp"

namespace mlmamba::data_prep {

enum class component_kind {
  file,    ///< as it is
  folder,  ///< a zip archive whose one folder gets the component's name
  merged,  ///< a zip archive whose folders go beside what is there already
};

/// A part of a data set. Paths are below the data set's folder.
struct component {
  std::string_view name;     ///< what it is in the end
  std::string_view archive;  ///< what is fetched, and kept; of a file its name before it is renamed
  std::string_view address;  ///< "": can't be fetched by a program
  component_kind kind = component_kind::folder;
};

/// A data set that can be prepared: ROOT/download/FOLDER with its components, and what is then made
/// of them.
struct recipe {
  std::string_view id, folder, title;
  std::span<const component> components;
  std::string_view annotations;  ///< the list of conversations, below the folder
  std::string_view base = "";    ///< id of what is prepared before
};

namespace detail {

inline constexpr std::array<component, 2> align{{
    {"chat.json", "blip_laion_cc_sbu_558k.json",
     "https://huggingface.co/datasets/liuhaotian/LLaVA-Pretrain/resolve/main/"
     "blip_laion_cc_sbu_558k.json",
     component_kind::file},
    {"images", "images.zip",
     "https://huggingface.co/datasets/liuhaotian/LLaVA-Pretrain/resolve/main/images.zip",
     component_kind::merged},
}};

// The archives of GQA and of Visual Genome's first part are both called images.zip where they come
// from: here each has its own name.
inline constexpr std::array<component, 7> instruct{{
    {"llava_v1_5_mix665k.json", "llava_v1_5_mix665k.json",
     "https://huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K/resolve/main/"
     "llava_v1_5_mix665k.json",
     component_kind::file},
    {"coco/train2017", "train2017.zip", "http://images.cocodataset.org/zips/train2017.zip"},
    {"gqa/images", "gqa_images.zip", "https://downloads.cs.stanford.edu/nlp/data/gqa/images.zip"},
    {"ocr_vqa/images", "ocr_vqa.zip",
     "https://huggingface.co/datasets/qnguyen3/ocr_vqa/resolve/main/ocr_vqa.zip"},
    {"textvqa/train_images", "train_val_images.zip",
     "https://dl.fbaipublicfiles.com/textvqa/images/train_val_images.zip"},
    {"vg/VG_100K", "vg_images.zip", "https://cs.stanford.edu/people/rak248/VG_100K_2/images.zip"},
    {"vg/VG_100K_2", "images2.zip", "https://cs.stanford.edu/people/rak248/VG_100K_2/images2.zip"},
}};

inline constexpr std::array<component, 2> lvis{{
    {"lvis_instruct4v_220k.json", "lvis_instruct4v_220k.json",
     "https://huggingface.co/datasets/X2FD/LVIS-Instruct4V/resolve/main/lvis_instruct4v_220k.json",
     component_kind::file},
    {"coco/val2017", "val2017.zip", "http://images.cocodataset.org/zips/val2017.zip"},
}};

// LRV-Instruction's files lie where a page asks before it gives them; its README has the links.
inline constexpr std::array<component, 5> lrv{{
    {"lrv/filter_cap1.json", "lrv/filter_cap1.json", "", component_kind::file},
    {"lrv/filter_cap_more1.json", "lrv/filter_cap_more1.json", "", component_kind::file},
    {"lrv/chart_release_update.json", "lrv/chart_release_update.json", "", component_kind::file},
    {"lrv/lrv-vg", "lrv/image.zip", ""},
    {"lrv/lrv-chart", "lrv/chart_image.zip", ""},
}};

}  // namespace detail

/// The original's two data sets by its ids, then those of training (models/registry/data_sets.hpp)
/// that are made from the second.
inline constexpr std::array<recipe, 6> recipes{{
    {"llava-laion-cc-sbu-558k", "llava-laion-cc-sbu-558k", "captions, for the align stage",
     detail::align, "chat.json"},
    {"llava-v1.5-instruct", "llava-v1.5-instruct", "conversations, for the finetune stage",
     detail::instruct, "llava_v1_5_mix665k.json"},
    {"llava-multimodal",
     "llava-v1.5-instruct",
     "those of them that have pictures",
     {},
     "llava_v1_5_stripped625k.json",
     "llava-v1.5-instruct"},
    {"llava-lvis4v", "llava-v1.5-instruct", "with LVIS-Instruct-4V", detail::lvis,
     "llava_v1_5_lvis4v_mix888k.json", "llava-v1.5-instruct"},
    {"llava-lrv", "llava-v1.5-instruct", "with LRV-Instruct", detail::lrv,
     "llava_v1_5_lrv_mix1008k.json", "llava-v1.5-instruct"},
    {"llava-lvis4v-lrv", "llava-v1.5-instruct", "with both", detail::lrv,
     "llava_v1_5_lvis4v_lrv_mix1231k.json", "llava-lvis4v"},
}};

/// Errors: error that lists the ids there are.
inline const recipe& recipe_of(std::string_view id) {
  return registry::get("data set", recipes, id);
}

}  // namespace mlmamba::data_prep
