// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Runs a fuzz target over the files of its corpus: replay FILE_OR_FOLDER... A crash is the failure.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

/// The file as it is, and cut short at 16 places: a corpus entry stands for its neighbours.
int replay(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return 0;
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  int runs = 0;
  for (std::size_t k = 0; k <= 16; ++k, ++runs) {
    // A block of exactly this size, so that a sanitizer sees the first byte read past it.
    const std::vector<std::uint8_t> input(
        text.begin(), text.begin() + static_cast<std::ptrdiff_t>(text.size() * k / 16));
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  return runs;
}

}  // namespace

int main(int count, char** arguments) {
  int runs = 0;
  for (int i = 1; i < count; ++i) {
    const std::filesystem::path path = arguments[i];
    if (!std::filesystem::is_directory(path)) {
      runs += replay(path);
      continue;
    }
    std::vector<std::filesystem::path> files;
    for (const auto& at : std::filesystem::directory_iterator(path)) files.push_back(at.path());
    std::sort(files.begin(), files.end());
    for (const auto& file : files) runs += replay(file);
  }
  std::printf("%d inputs\n", runs);
  return runs > 0 ? 0 : 1;  // a corpus that is not there is a failure too
}
