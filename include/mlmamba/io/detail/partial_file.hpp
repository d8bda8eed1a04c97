// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The beginning of a file that is fetched, checked as it grows.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "mlmamba/core/sha.hpp"
#include "mlmamba/io/detail/hub_request.hpp"

namespace mlmamba::detail {

/// Of a file that nobody has published a hash of.
struct no_hash {
  void update(std::span<const std::byte>) {}
  std::string hex() { return ""; }
};

/// The beginning of a file and the hash of what it has.
class partial_file {
 public:
  partial_file(std::filesystem::path path, const hub_source& source, const hub_metadata& meta)
      : path_(std::move(path)), who_(source.who), meta_(meta) {
    file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (file_ < 0) fail<io_error>(path_.string(), ": can't open it (", std::strerror(errno), ")");
    try {
      begin_hash();
      read_beginning();
    } catch (...) {
      ::close(file_);
      throw;
    }
  }
  partial_file(const partial_file&) = delete;
  partial_file& operator=(const partial_file&) = delete;
  ~partial_file() { ::close(file_); }

  std::uint64_t size() const { return size_; }

  void restart() {
    if (size_ > 0 && ::ftruncate(file_, 0) != 0) stop("shorten");
    size_ = 0;
    begin_hash();
  }
  void append(std::span<const std::byte> bytes) {
    if (bytes.size() > meta_.size - size_)
      discard(" has more than the ", meta_.size, " bytes that were announced");
    while (!bytes.empty()) {
      const ssize_t n = ::pwrite(file_, bytes.data(), bytes.size(), static_cast<off_t>(size_));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && (errno == ENOSPC || errno == EDQUOT))
        fail<io_error>(who_, ": the disk is full after ", size_, " of ", meta_.size, " bytes (",
                       path_.string(), "); what has come is kept");
      if (n < 0) stop("write");
      const auto part = bytes.first(static_cast<std::size_t>(n));
      std::visit([&](auto& h) { h.update(part); }, hash_);
      size_ += part.size();
      bytes = bytes.subspan(part.size());
    }
  }
  /// Checks the whole and gives it its name. Errors: io_error; the file is then removed
  void finish(const std::filesystem::path& as) {
    const std::string found = std::visit([](auto& h) { return h.hex(); }, hash_);
    if (found != meta_.hash) {
      ::unlink(path_.c_str());
      fail<io_error>(who_, ": the checksum of what came is ", found.substr(0, 16), "...; ",
                     meta_.hash.substr(0, 16), "... is wanted; it was removed");
    }
    if (::fsync(file_) != 0) stop("sync");
    if (::rename(path_.c_str(), as.c_str()) != 0) stop("rename");
  }
  /// Removes the file and says why.
  template <class... Parts>
  [[noreturn]] void discard(const Parts&... why) {
    ::unlink(path_.c_str());
    fail<io_error>(who_, ": it", why..., "; what has come was removed");
  }

 private:
  void begin_hash() {
    if (meta_.hash.empty()) {
      hash_.emplace<no_hash>();
    } else if (meta_.hash.size() == 64) {
      hash_.emplace<sha256>();
    } else {  // git hashes kind and length too
      const std::string head = "blob " + std::to_string(meta_.size) + '\0';
      hash_.emplace<sha1>().update(head);
    }
  }
  void read_beginning() {
    const off_t there = ::lseek(file_, 0, SEEK_END);
    if (there <= 0) return;
    size_ = static_cast<std::uint64_t>(there);
    if (size_ > meta_.size) return restart();
    if (meta_.hash.empty()) return;
    std::vector<std::byte> part(1 << 20);
    for (std::uint64_t at = 0; at < size_;) {
      const ssize_t n = ::pread(file_, part.data(), part.size(), static_cast<off_t>(at));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) stop("read");
      std::visit([&](auto& h) { h.update(std::span(part).first(static_cast<std::size_t>(n))); },
                 hash_);
      at += static_cast<std::uint64_t>(n);
    }
  }
  [[noreturn]] void stop(const char* what) const {
    fail<io_error>(path_.string(), ": can't ", what, " it (", std::strerror(errno), ")");
  }

  std::filesystem::path path_;
  std::string who_;
  const hub_metadata& meta_;
  int file_ = -1;
  std::uint64_t size_ = 0;
  std::variant<no_hash, sha256, sha1> hash_;
};

}  // namespace mlmamba::detail
