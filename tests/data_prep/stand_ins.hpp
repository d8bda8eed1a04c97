// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Small files in place of the published ones, in their layout.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "io/temporary.hpp"
#include "io/zip_maker.hpp"
#include "mlmamba/io/jpeg_write.hpp"

namespace mlmamba::test {

/// Two pictures of one number differ in nothing.
inline std::string some_jpeg(std::uint32_t number) {
  image picture{48, 32, std::vector<std::uint8_t>(3 * 48 * 32)};
  for (std::uint8_t& v : picture.rgb) v = std::uint8_t((number = number * 1664525u + 7) >> 24);
  const encoded_jpeg jpeg(picture, "a stand-in");
  return {reinterpret_cast<const char*>(jpeg.bytes().data()), jpeg.bytes().size()};
}

inline std::string some_name(int i) {
  const std::string digits = std::to_string(i);
  return std::string(12 - digits.size(), '0') + digits + ".jpg";
}

/// An archive of one folder, or of several, with `count` pictures; every second one deflated.
inline std::string pictures_zip(const std::vector<std::string>& folders, int count) {
  std::vector<zip_member> all;
  for (const std::string& folder : folders) {
    all.push_back({.name = folder + "/", .deflate = false, .mode = 0040755});
    for (int i = 0; i < count; ++i)
      all.push_back({.name = folder + "/" + some_name(i),
                     .contents = some_jpeg(std::uint32_t(i) + 1000 * std::uint32_t(all.size())),
                     .deflate = i % 2 == 0,
                     .mode = 0100644});
  }
  return make_zip(all, folders.size() > 2);
}

/// A list of conversations about these pictures, and one of text alone.
inline std::string list_of(const std::vector<std::string>& pictures) {
  std::string text =
      "[\n  {\"id\": \"text\", \"conversations\": [{\"from\": \"human\", \"value\": "
      "\"Why?\"}, {\"from\": \"gpt\", \"value\": \"Because.\"}]}";
  for (const std::string& p : pictures)
    text += ",\n  {\"id\": \"" + p + "\", \"image\": \"" + p +
            "\", \"conversations\": [{\"from\": \"human\", \"value\": \"<image>\\nWhat?\"}, "
            "{\"from\": \"gpt\", \"value\": \"That.\"}]}";
  return text + "\n]\n";
}

/// Contents by HOST/PATH.
inline std::map<std::string, std::string> stand_ins(int count = 20) {
  const auto pictures = [&](const std::string& folder) { return folder + "/" + some_name(1); };
  const auto shot = [](const char* name) { return slurp(test_data("data_prep/pictures") / name); };
  const std::string hub = "huggingface.co/datasets/";
  std::map<std::string, std::string> all;
  std::string captions = list_of({pictures("00000"), pictures("00453"), pictures("00659")});
  captions.erase(captions.find("{\"id\": \"text\""),
                 captions.find("{\"id\": \"00000") - captions.find("{\"id\": \"text\""));
  all[hub + "liuhaotian/LLaVA-Pretrain/resolve/main/blip_laion_cc_sbu_558k.json"] = captions;
  all[hub + "liuhaotian/LLaVA-Pretrain/resolve/main/images.zip"] =
      pictures_zip({"00000", "00453", "00659"}, count);
  all[hub + "liuhaotian/LLaVA-Instruct-150K/resolve/main/llava_v1_5_mix665k.json"] =
      list_of({pictures("coco/train2017"), pictures("gqa/images"), "ocr_vqa/images/a.jpg",
               "ocr_vqa/images/b.jpg", "ocr_vqa/images/c.jpg", pictures("textvqa/train_images"),
               pictures("vg/VG_100K"), pictures("vg/VG_100K_2")});
  all["images.cocodataset.org/zips/train2017.zip"] = pictures_zip({"train2017"}, count);
  all["images.cocodataset.org/zips/val2017.zip"] = pictures_zip({"val2017"}, count);
  all["downloads.cs.stanford.edu/nlp/data/gqa/images.zip"] = pictures_zip({"images"}, count);
  all[hub + "qnguyen3/ocr_vqa/resolve/main/ocr_vqa.zip"] =
      make_zip({{.name = "ocr_vqa/images/a.jpg", .contents = some_jpeg(1), .deflate = false},
                {.name = "ocr_vqa/images/b.gif", .contents = shot("palette.gif")},
                {.name = "ocr_vqa/images/c.png", .contents = shot("grey.png")},
                {.name = "ocr_vqa/images/d.png", .contents = shot("local.gif")},
                {.name = "ocr_vqa/images/e.jpeg", .contents = some_jpeg(2)},
                {.name = "__MACOSX/ocr_vqa/._images", .contents = "mac"}});
  all["dl.fbaipublicfiles.com/textvqa/images/train_val_images.zip"] =
      pictures_zip({"train_images"}, count);
  all["cs.stanford.edu/people/rak248/VG_100K_2/images.zip"] = pictures_zip({"VG_100K"}, count);
  all["cs.stanford.edu/people/rak248/VG_100K_2/images2.zip"] = pictures_zip({"VG_100K_2"}, count);
  all[hub + "X2FD/LVIS-Instruct4V/resolve/main/lvis_instruct4v_220k.json"] =
      list_of({pictures("coco/train2017"), pictures("coco/val2017")});
  return all;
}

}  // namespace mlmamba::test
