// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Lists of conversations put together: byte for byte what Python writes, and what training reads.
#include "mlmamba/data_prep/merge.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "data_prep/stand_ins.hpp"
#include "io/temporary.hpp"
#include "mlmamba/data_prep/components.hpp"
#include "mlmamba/models/registry/data_sets.hpp"

using namespace mlmamba;
using namespace mlmamba::data_prep;
using namespace mlmamba::test;
namespace fs = std::filesystem;

namespace {

/// The lists of tests/data_prep/lists, and the pictures that they name.
struct lists {
  temporary_folder root;
  fs::path golden = test_data("data_prep/lists"), folder = root / "download/llava-v1.5-instruct";
  lists() {
    fs::create_directories(folder / "lrv/lrv-vg");
    fs::create_directories(folder / "lrv/lrv-chart");
    for (const char* part : {"train2017", "val2017"}) {
      fs::create_directories(folder / "coco" / part);
      for (int i = 0; i < 7; ++i) spill(folder / "coco" / part / some_name(i), some_jpeg(1));
    }
    for (int i = 0; i < 6; ++i)
      spill(folder / "lrv/lrv-vg" / (std::to_string(2400000 + i) + ".jpg"), some_jpeg(2));
    for (int i = 0; i < 4; ++i)
      spill(folder / "lrv/lrv-chart" / ("chart." + std::to_string(i) + ".png"),
            slurp(test_data("data_prep/pictures/grey.png")));
    for (const char* name :
         {"llava_v1_5_mix665k.json", "lvis_instruct4v_220k.json", "lrv/filter_cap1.json",
          "lrv/filter_cap_more1.json", "lrv/chart_release_update.json"})
      fs::copy(golden / name, folder / name);
  }
  void check(std::string_view name) const {
    CHECK_MESSAGE(slurp(folder / name) == slurp(golden / name), std::string(name));
  }
};

}  // namespace

TEST_SUITE("merge_test") {
  TEST_CASE("the merged lists are Python's, byte for byte") {
    const lists l;
    strip_text_only(l.folder);
    l.check(stripped_list);
    merge_lvis(l.folder);
    l.check(lvis_list);
    merge_lrv(l.folder, false);
    l.check(lrv_list);
    CHECK(!fs::exists(l.folder / lvis_lrv_list));
    merge_lrv(l.folder, true);
    l.check(lvis_lrv_list);
    for (const auto& e : fs::directory_iterator(l.folder))
      CHECK(!e.path().filename().string().starts_with("."));
  }

  TEST_CASE("what Python writes for numbers that are not finite stays so") {
    const test::temporary_folder folder;
    const std::string_view turns = R"("conversations": [{"from": "human", "value": "a\"N"}, )"
                                   R"({"from": "gpt", "value": "\u00fc"}])";
    const std::string list = "[{" + std::string(turns) +
                             R"(, "score": NaN, "x": [Infinity, -Infinity, "NaN", -2.5, {}]}])";
    std::string spaced;  // between all but the bytes of a text or a word
    bool quoted = false;
    for (std::size_t i = 0; i < list.size(); ++i) {
      if (list[i] == '"' && (i == 0 || list[i - 1] != '\\')) quoted = !quoted;
      if (!quoted && std::string_view("{}[],:").find(list[i]) != std::string_view::npos)
        spaced += std::string("\n ") + list[i] + "\t";
      else
        spaced += list[i];
    }
    spill(folder / "list.json", spaced);
    const annotation_file all(folder / "list.json");
    write_annotations(folder / "out.json", all.records());
    CHECK(slurp(folder / "out.json") == list);
  }

  TEST_CASE("as many records as are published come in Python's order") {
    std::vector<std::uint32_t> order(888'009);
    std::iota(order.begin(), order.end(), 0u);
    evaluate::python_random random(merge_seed);
    for (int i = 0; i < 3; ++i) random.shuffle(order);
    const std::vector<std::uint32_t> first{809212, 835873, 113090, 33928, 840547};
    CHECK(std::equal(first.begin(), first.end(), order.begin()));
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < order.size(); ++i) sum += i * order[i] % 1'000'003;
    CHECK(sum == 444'092'721'490);
  }

  TEST_CASE("training reads what was made, by the data sets' ids") {
    const lists l;
    strip_text_only(l.folder);
    merge_lvis(l.folder);
    merge_lrv(l.folder, false);
    merge_lrv(l.folder, true);
    const fs::path root = l.folder.parent_path().parent_path();
    const std::map<std::string_view, std::size_t> sizes{{"llava-v15", 60},
                                                        {"llava-multimodal", 48},
                                                        {"llava-lvis4v", 85},
                                                        {"llava-lrv", 110},
                                                        {"llava-lvis4v-lrv", 135}};
    for (const data_set& set : preset::data_sets) {
      const fs::path list = data_set::path(set.finetune.annotations, root);
      const fs::path pictures = data_set::path(set.finetune.images, root);
      const train::data_source source = train::read_llava(list, pictures);
      CHECK(source.size == sizes.at(set.id));
      for (std::uint64_t i = 0; i < source.size; ++i) {
        const train::example e = source.get(i);
        CHECK(e.picture.has_value() == source.has_picture(i));
        CHECK(e.turns.size() % 2 == 0);
      }
      // a recipe of the same id makes it
      const bool base = set.id == "llava-v15";
      const recipe& r = recipe_of(base ? "llava-v1.5-instruct" : set.id);
      CHECK(data_set::path(set.finetune.annotations) ==
            fs::path("data/download") / r.folder / r.annotations);
      CHECK(data_set::path(set.align.annotations) ==
            fs::path("data/download") / recipe_of("llava-laion-cc-sbu-558k").folder / "chat.json");
    }
  }

  TEST_CASE("missing pictures are counted and the first is named; no list is written") {
    const lists l;
    fs::remove(l.folder / "coco/val2017" / some_name(2));
    fs::remove(l.folder / "coco/val2017" / some_name(4));
    const std::string lvis = message_of<pictures_missing>([&] { merge_lvis(l.folder); });
    CHECK_MESSAGE(lvis.find("2 of its 14 pictures are not in") != std::string::npos, lvis);
    CHECK(lvis.find("the first is coco/val2017/" + some_name(2)) != std::string::npos);
    CHECK(!fs::exists(l.folder / lvis_list));
    fs::remove(l.folder / "lrv/lrv-chart/chart.0.png");
    const std::string lrv = message_of<pictures_missing>([&] { merge_lrv(l.folder, false); });
    CHECK_MESSAGE(lrv.find("1 of its 10 pictures") != std::string::npos, lrv);
    CHECK(!fs::exists(l.folder / lrv_list));
  }

  TEST_CASE("lists that are not what they should be end with file and record") {
    const lists l;
    const auto said = [&](const std::string& text) {
      spill(l.folder / base_list, text);
      return message_of<io_error>([&] { strip_text_only(l.folder); });
    };
    const std::string good = list_of({"coco/train2017/" + some_name(1)});
    CHECK(said(good) == "nothing was thrown");
    CHECK(said("").find("not a list") != std::string::npos);
    CHECK(said(good.substr(0, good.size() - 20)).find("record 1") != std::string::npos);
    CHECK(said(list_of({"../../etc/passwd"})).find("a path below the folder") != std::string::npos);
    CHECK(said("[{\"conversations\": 1}]").find("record 0") != std::string::npos);
    const auto lrv = [&](const std::string& text) {
      spill(l.folder / base_list, good);
      spill(l.folder / "lrv/filter_cap1.json", text);
      return message_of<io_error>([&] { merge_lrv(l.folder, false); });
    };
    CHECK(lrv("[{\"image_id\": 7, \"answer\": \"\"}]").find("\"question\"") != std::string::npos);
    CHECK(lrv("[{\"image_id\": [], \"question\": \"\", \"answer\": \"\"}]").find("image_id") !=
          std::string::npos);
    CHECK(lrv("[{\"image_id\": \"../../x\", \"question\": \"\", \"answer\": \"\"}]")
              .find("a path below the folder") != std::string::npos);
  }

  TEST_CASE("a list that was half written when it was killed is made anew") {
    const lists l;
    fs::create_directories(l.folder / ".llava_v1_5_stripped625k.json.writing");
    spill(l.folder / ".llava_v1_5_stripped625k.json.writing/llava_v1_5_stripped625k.json.tmp1.0",
          "[");
    strip_text_only(l.folder);
    l.check(stripped_list);
    CHECK(!fs::exists(l.folder / ".llava_v1_5_stripped625k.json.writing"));
  }
}
