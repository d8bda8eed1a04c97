// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A file as a read-only span of bytes, mapped and not copied.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "mlmamba/core/error.hpp"

namespace mlmamba {

/// Maps a regular file for as long as the object lives. An empty file is an empty span. The bytes
/// are const here; a parameter that lies in them may be trained all the same: pages that are
/// written are copied first, and the file never changes.
/// The mapping is private, but a file that another process cuts short while it is mapped raises
/// SIGBUS on access, as with any mapping: replace model files by rename, as `write_file` does.
///
/// Errors    io_error if the file is missing, not a regular file, or can't be read or mapped
class mapped_file {
 public:
  mapped_file() = default;
  explicit mapped_file(const std::string& path) {
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) stop(path, "open", errno);
    struct stat status {};
    if (::fstat(file, &status) != 0) stop(path, "read the size of", errno, file);
    if (!S_ISREG(status.st_mode)) {
      ::close(file);
      fail<io_error>(path, ": not a regular file; a file is wanted");
    }
    if (std::cmp_greater(status.st_size, std::numeric_limits<std::size_t>::max() / 2)) {
      ::close(file);
      fail<io_error>(path, ": ", status.st_size, " bytes; too large to map");
    }
    size_ = static_cast<std::size_t>(status.st_size);
    if (size_ > 0) {
      void* at =
          ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file, 0);
      if (at == MAP_FAILED) stop(path, "map", errno, file);
      data_ = static_cast<const std::byte*>(at);
    }
    ::close(file);
  }
  mapped_file(mapped_file&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  mapped_file& operator=(mapped_file&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~mapped_file() {
    if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
  }

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }

 private:
  [[noreturn]] static void stop(const std::string& path, const char* what, int code,
                                int file = -1) {
    if (file >= 0) ::close(file);
    fail<io_error>(path.empty() ? "\"\"" : path, ": can't ", what, " it (", std::strerror(code),
                   ")");
  }

  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace mlmamba
