// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A folder of its own for a test, and the paths of test data.
#pragma once

#include <stdlib.h>

#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

namespace mlmamba::test {

class temporary_folder {
 public:
  temporary_folder() {
    std::string name = (std::filesystem::temp_directory_path() / "mlmamba-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp: " + name);
    path_ = name;
  }
  temporary_folder(const temporary_folder&) = delete;
  temporary_folder& operator=(const temporary_folder&) = delete;
  ~temporary_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
  std::size_t count() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(path_),
                                                  std::filesystem::directory_iterator()));
  }

 private:
  std::filesystem::path path_;
};

inline std::string slurp(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
inline void spill(const std::filesystem::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary)
      .write(text.data(), static_cast<std::streamsize>(text.size()));
}
inline std::span<const std::byte> bytes_of_text(std::string_view text) {
  return std::as_bytes(std::span(text));
}

/// Files that come with the tests.
inline std::filesystem::path test_data(std::string_view name) {
#if defined(MLMAMBA_TEST_DATA)
  return std::filesystem::path(MLMAMBA_TEST_DATA) / name;
#else
  return std::filesystem::path(__FILE__).parent_path().parent_path() / name;
#endif
}
/// Larger files that may be there (the variable MLMAMBA_SHARED_DATA, else beside the project).
inline std::filesystem::path shared_data(std::string_view name) {
  const char* folder = std::getenv("MLMAMBA_SHARED_DATA");
  return folder != nullptr ? std::filesystem::path(folder) / name
                           : test_data("../../shared/data") / name;
}

inline bool contains(const std::string& text, std::string_view what) {
  return text.find(what) != std::string::npos;
}

/// The message of the exception of type E that `f` throws, or "nothing was thrown".
template <class E, class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  }
  return "nothing was thrown";
}

}  // namespace mlmamba::test
