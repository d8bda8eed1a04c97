// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A folder of a fuzz target's own, for what is read from files.
#pragma once

#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

struct scratch_folder {
  std::filesystem::path path;
  scratch_folder() {
    std::string name = (std::filesystem::temp_directory_path() / "mlmamba-fuzz-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    path = name;
  }
  ~scratch_folder() { std::filesystem::remove_all(path); }

  /// A file below it; the path.
  std::filesystem::path put(std::string_view name, std::string_view bytes) const {
    std::ofstream(path / name, std::ios::binary) << bytes;
    return path / name;
  }
};
