// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Files that are either complete or not there: written aside, synced, renamed.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "mlmamba/core/error.hpp"

namespace mlmamba {

/// Collects bytes under a temporary name beside `path`; `commit()` makes them the file `path` in
/// one step that also survives a power cut. Without `commit()` the destructor removes them, so an
/// exception leaves the old file, or none.
///
/// Errors    io_error if the folder is missing or not writable, or the disk is full
class atomic_file {
 public:
  explicit atomic_file(std::string path) : path_(std::move(path)) {
    static std::atomic<unsigned> serial{0};
    // Process and serial number make the name ours; O_EXCL turns a leftover into a next try.
    for (int attempt = 0; attempt < 100 && file_ < 0; ++attempt) {
      aside_ = path_ + ".tmp" + std::to_string(::getpid()) + "." + std::to_string(serial++);
      file_ = ::open(aside_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      if (file_ < 0 && errno != EEXIST) break;
    }
    if (file_ < 0) stop("create");
  }
  atomic_file(const atomic_file&) = delete;
  atomic_file& operator=(const atomic_file&) = delete;
  ~atomic_file() {
    if (file_ >= 0) ::close(file_);
    if (!committed_) ::unlink(aside_.c_str());
  }

  void append(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const std::size_t part = std::min<std::size_t>(bytes.size(), std::size_t{1} << 30);
      const ssize_t written = ::write(file_, bytes.data(), part);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) stop("write");
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
  }
  void append(std::string_view text) { append(std::as_bytes(std::span(text))); }

  void commit() {
    if (::fsync(file_) != 0) stop("sync");
    const int file = std::exchange(file_, -1);
    if (::close(file) != 0) stop("close");
    if (::rename(aside_.c_str(), path_.c_str()) != 0) stop("rename");
    committed_ = true;
    // The rename itself lives in the folder; some file systems can't sync one, which is no error.
    const auto slash = path_.rfind('/');
    const std::string parent = slash == std::string::npos ? "." : path_.substr(0, slash + 1);
    const int folder = ::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder >= 0) {
      ::fsync(folder);
      ::close(folder);
    }
  }

 private:
  [[noreturn]] void stop(const char* what) {
    const int code = errno;
    if (file_ >= 0) {  // also here: the destructor does not run when the constructor throws
      ::close(std::exchange(file_, -1));
      ::unlink(aside_.c_str());
    }
    fail<io_error>(path_, ": can't ", what, " it (", std::strerror(code), ")");
  }

  std::string path_, aside_;
  int file_ = -1;
  bool committed_ = false;
};

/// Replaces `path` by a file with these bytes, atomically.
inline void write_file(const std::string& path, std::span<const std::byte> bytes) {
  atomic_file file(path);
  file.append(bytes);
  file.commit();
}
inline void write_file(const std::string& path, std::string_view text) {
  write_file(path, std::as_bytes(std::span(text)));
}

}  // namespace mlmamba
