// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A folder for results: a failure leaves none that was not there before.
#pragma once

#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "mlmamba/core/error.hpp"
#include "mlmamba/io/write_file.hpp"

namespace mlmamba {

/// Makes a folder, and those above it. Without `keep()` the destructor removes what it has made:
/// the folder with all that is in it (or, if `shared` with other programs, if nothing is in it),
/// those above if nothing else is in them. A folder that was there stays, with what is in it.
///
///   output_folder to(folder);
///   write_file(to.path() / "config.json", text);  // may throw
///   to.keep();
///
/// Errors    io_error if it can't be made
class output_folder {
 public:
  explicit output_folder(std::filesystem::path folder, bool shared = false)
      : path_(std::move(folder)), shared_(shared) {
    namespace fs = std::filesystem;
    std::error_code code;
    for (fs::path p = fs::absolute(path_, code).lexically_normal();
         p != p.parent_path() && !fs::exists(fs::symlink_status(p, code)); p = p.parent_path())
      if (p.has_filename()) made_.push_back(p);  // "a/b/" names b twice
    fs::create_directories(path_, code);
    std::error_code ignored;
    if (!code && fs::is_directory(path_, ignored)) return;
    remove_made(false);
    fail<io_error>(path_.string(), ": can't be made a folder (",
                   code ? code.message() : "a file is there", ")");
  }
  output_folder(const output_folder&) = delete;
  output_folder& operator=(const output_folder&) = delete;
  ~output_folder() { remove_made(!shared_); }

  const std::filesystem::path& path() const { return path_; }
  void keep() { made_.clear(); }

 private:
  void remove_made(bool with_contents) {
    std::error_code code;  // of a folder that somebody else has begun to use
    if (with_contents && !made_.empty()) std::filesystem::remove_all(made_[0], code);
    for (std::size_t i = with_contents; i < made_.size() && !code; ++i)
      std::filesystem::remove(made_[i], code);
    made_.clear();
  }

  std::filesystem::path path_;
  bool shared_;
  std::vector<std::filesystem::path> made_;  // innermost first
};

/// Tries to write beside `path`, which stays as it is: what is found out before hours of work need
/// not be found out after them. Errors: io_error as atomic_file's, and of a folder
inline void check_writable(const std::filesystem::path& path) {
  std::error_code none;
  if (std::filesystem::is_directory(path, none))
    fail<io_error>(path.string(), ": it is a folder; the name of a file is wanted");
  const atomic_file trial(path);
}

}  // namespace mlmamba
