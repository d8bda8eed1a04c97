// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Makes the folders of data that `train` reads: fetches, extracts, converts and merges.
//
//   preprocess --list                                              what there is
//   preprocess --dataset_id llava-laion-cc-sbu-558k --root_dir data    for the align stage
//   preprocess --dataset_id llava-v1.5-instruct --root_dir data        for the finetune stage
//   preprocess --dataset_id llava-lvis4v --root_dir data               with LVIS-Instruct-4V
//
// What is there already is not made again; whatever was stopped, by whatever, is continued by the
// same command. Where it does other than the original is said in data_prep/*.hpp.
#include <CLI/CLI.hpp>

#include <cstdio>
#include <filesystem>
#include <iostream>
#include <string>

#include "mlmamba/data_prep/annotations.hpp"
#include "mlmamba/data_prep/components.hpp"
#include "mlmamba/data_prep/merge.hpp"
#include "mlmamba/data_prep/prepare.hpp"
#include "mlmamba/data_prep/to_jpeg.hpp"
#include "mlmamba/io/fetch_files.hpp"
#include "mlmamba/io/hub.hpp"
#include "program.hpp"

using namespace mlmamba;
using namespace mlmamba::data_prep;

namespace {

void list() {
  for (const recipe& r : recipes) {
    std::printf("%s: %s\n", std::string(r.id).c_str(), std::string(r.title).c_str());
    if (!r.base.empty()) std::printf("  %-28s as above\n", std::string(r.base).c_str());
    for (const component& c : r.components)
      std::printf("  %-28s %s\n", std::string(c.name).c_str(),
                  c.address.empty() ? "(by hand)" : std::string(c.address).c_str());
    std::printf("  %-28s its list\n", std::string(r.annotations).c_str());
  }
}

/// The list of a recipe that has one made.
void make_list(const recipe& r, const std::filesystem::path& folder) {
  if (r.annotations == stripped_list) strip_text_only(folder);
  if (r.annotations == lvis_list) merge_lvis(folder);
  if (r.annotations == lrv_list) merge_lrv(folder, false);
  if (r.annotations == lvis_lrv_list) merge_lrv(folder, true);
}

/// Returns 1 if pictures can't be converted or are not there, else 0.
int prepare_all(const recipe& r, const std::filesystem::path& root, const fetcher& fetch,
                bool check) {
  int code = r.base.empty() ? 0 : prepare_all(recipe_of(r.base), root, fetch, false);
  const std::filesystem::path folder = root / "download" / r.folder;
  mlmamba::detail::make_folder(folder);
  const mlmamba::detail::file_lock alone(folder / ".lock");  // one at a time; gone with the process
  bool made = false;
  for (const component& c : r.components)
    if (prepare(c, folder, fetch)) {
      made = true;
      std::cout << r.id << ": " << (folder / c.name).string() << " is ready" << std::endl;
    }
  if (r.id == "llava-v1.5-instruct") {
    const conversion done = convert_to_jpeg(folder / "ocr_vqa" / "images", stderr);
    for (std::size_t i = 0; i < done.failed.size() && i < 10; ++i)
      std::cerr << "preprocess: " << done.failed[i] << '\n';
    if (done.failed.size() > 10)
      std::cerr << "preprocess: " << done.failed.size() - 10 << " more pictures like these\n";
    if (done.converted > 0)
      std::cout << r.id << ": " << done.converted << " pictures of OCR-VQA are JPEG now"
                << std::endl;
    if (!done.failed.empty()) code = 1;
  }
  if (!data_prep::detail::made_before(folder / r.annotations)) {
    std::cout << r.id << ": making " << (folder / r.annotations).string() << std::endl;
    make_list(r, folder);
    made = true;
    std::cout << r.id << ": " << (folder / r.annotations).string() << " is ready" << std::endl;
  }
  try {
    if (made || check) {
      std::cout << r.id << ": looking for the pictures of " << r.annotations << std::endl;
      annotation_file(folder / r.annotations).check_pictures(folder);
    }
  } catch (const pictures_missing& e) {
    std::cerr << "preprocess: " << e.what() << '\n';
    code = 1;
  }
  if (code == 0) std::cout << r.id << ": " << folder.string() << " is complete" << std::endl;
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  std::string id = "llava-v1.5-instruct", root = "data", token;
  fetch_options how;
  how.progress = stderr;
  bool offline = false, check = false, show = false;
  CLI::App app{
      "Makes the folders of data that training reads, below ROOT/download.\n"
      "Exit code: 0 done, 1 pictures are missing or can't be read, 2 bad option, failed download,\n"
      "damaged archive or no room. The same command goes on where one was stopped.\n"
      "Files that are there already are used: put an archive or a folder at the place that an\n"
      "error names. HF_ENDPOINT and HF_TOKEN are used as Hugging Face's programs do."};
  app.add_option("--dataset_id", id, "What to prepare (--list)")->capture_default_str();
  app.add_option("--root_dir", root, "Folder of all data")->capture_default_str();
  app.add_option("--mirror", how.mirror, "Address at whose HOST/PATH every file is asked for");
  app.add_flag("--offline", offline, "Fetch nothing: use the archives that are there");
  app.add_flag("--check", check, "Look for every picture of the list, also if nothing was made");
  app.add_option("--retries", how.retries, "Times that a broken download is continued")
      ->capture_default_str()
      ->check(CLI::Range(0, 1000));
  app.add_option("--hf_token", token,
                 "File with the hub's token, or variable; else HF_TOKEN, .hf_token, the login's");
  app.add_flag("--list", show, "Says what can be prepared, and what of");
  if (const auto code = examples::parse(app, argc, argv)) return *code;
  try {
    if (offline)
      examples::no_use_of(app, {"--mirror", "--retries", "--hf_token"},
                          "with --offline; one of them is wanted");
    if (show) {
      examples::no_use_of(app,
                          {"--dataset_id", "--root_dir", "--mirror", "--offline", "--check",
                           "--retries", "--hf_token"},
                          "with --list; one of them is wanted");
      list();
      return examples::written();
    }
    const recipe& wanted = recipe_of(id);
    const hub_options hub = hub_options::from_environment(token);
    how.hub = hub.endpoint, how.token = hub.token, how.offline = offline || hub.offline;
    return examples::written(prepare_all(wanted, root, fetcher(how), check));
  } catch (const pictures_missing& e) {
    std::cerr << "preprocess: " << e.what() << '\n';
    return 1;
  } catch (const std::exception& e) {
    std::cerr << "preprocess: " << e.what() << '\n';
    return 2;
  }
}
