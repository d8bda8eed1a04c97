// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fuzz target: any bytes as a list of conversations, as questions to score, and as a list of
// LRV-Instruct. What is accepted is the same after it was written as Python writes it.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include "mlmamba/data_prep/merge.hpp"
#include "mlmamba/train/vqa_set.hpp"
#include "scratch_folder.hpp"

namespace {

using namespace mlmamba;
namespace fs = std::filesystem;

void same_again(const fs::path& from, const fs::path& to) {
  const data_prep::annotation_file read(from);
  data_prep::write_annotations(to, read.records());
  const data_prep::annotation_file again(to);
  if (again.pictures() != read.pictures()) std::abort();
  for (std::size_t i = 0; i < read.records().size(); ++i)
    if (parse_json(read.records()[i], "first") != parse_json(again.records().at(i), "second"))
      std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const scratch_folder folder;
  fs::create_directories(folder.path / "lrv");
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const fs::path list = folder.put("lrv/list.json", text);
  try {
    same_again(list, folder.path / "written.json");
  } catch (const io_error&) {
  }
  try {
    const train::vqa_set all = train::read_questions(list, folder.path);
    if (all.scenes == 0) std::abort();
  } catch (const io_error&) {
  }
  for (const bool chart : {false, true}) {
    try {
      data_prep::detail::picture_search search(folder.path);
      for (const std::string& made :
           data_prep::detail::lrv_conversations(folder.path, "list.json", chart, search))
        (void)train::read_turns(parse_json(made, "made"), "made");
    } catch (const io_error&) {
    }
  }
  return 0;
}
