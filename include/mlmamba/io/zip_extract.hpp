// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Extraction of zip archives: checked before the first byte, going on where it broke off.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mlmamba/core/error.hpp"
#include "mlmamba/io/detail/blob_download.hpp"
#include "mlmamba/io/hub_cache.hpp"
#include "mlmamba/io/mapped_file.hpp"
#include "mlmamba/io/progress.hpp"
#include "mlmamba/io/zip_archive.hpp"
#include "mlmamba/io/zip_contents.hpp"

namespace mlmamba {

struct zip_extract_options {
  std::filesystem::path also;  ///< a second folder: what lies there already is not extracted
  std::FILE* progress = nullptr;
  std::uint64_t most = 100;  ///< times the archive's bytes that its contents may be
};

namespace detail {

/// Is this a file of that size? What a symbolic link leads to is none.
inline bool has_size(const std::filesystem::path& path, std::uint64_t size) {
  struct stat s {};
  return ::lstat(path.c_str(), &s) == 0 && S_ISREG(s.st_mode) && std::cmp_equal(s.st_size, size);
}

/// Is this the entry's file, whole?
inline bool has_contents(const std::filesystem::path& path, const zip_archive::entry& e) {
  if (!has_size(path, e.size)) return false;
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  std::vector<Bytef> part(std::size_t{1} << 18);
  uLong sum = ::crc32(0, nullptr, 0);
  ssize_t n = 0;
  while ((n = ::read(file, part.data(), part.size())) > 0) sum = ::crc32(sum, part.data(), uInt(n));
  ::close(file);
  return n == 0 && sum == e.sum;
}

/// Writes one file in place: whoever needs whole files looks at their checksums.
class extracted_file {
 public:
  extracted_file(std::filesystem::path path, std::string who)
      : path_(std::move(path)), who_(std::move(who)) {
    file_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (file_ < 0) stop();
  }
  extracted_file(const extracted_file&) = delete;
  extracted_file& operator=(const extracted_file&) = delete;
  ~extracted_file() {
    if (file_ >= 0) ::close(file_);
  }
  void append(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::write(file_, bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) stop();
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
  }
  void close() {
    if (::close(std::exchange(file_, -1)) != 0) stop();
  }

 private:
  [[noreturn]] void stop() const {
    if (errno == ENOSPC || errno == EDQUOT)
      fail<io_error>(who_, ": the disk is full (", path_.string(),
                     "); what is extracted is kept, the same command goes on from there");
    fail<io_error>(path_.string(), ": can't write it (", std::strerror(errno), ")");
  }

  std::filesystem::path path_;
  std::string who_;
  int file_ = -1;
};

/// Is there room for the items that are not there yet? 4 KiB is what the last part of a file takes.
inline void check_room(const std::vector<const zip_item*>& missing, const std::string& who,
                       const std::filesystem::path& to) {
  struct statvfs disk {};
  if (::statvfs(to.c_str(), &disk) != 0) return;
  std::uint64_t bytes = 0;
  for (const zip_item* item : missing)
    bytes += std::min((item->entry->size / 4096 + 1) * 4096, UINT64_MAX / 2 - bytes);
  const bool full = bytes / std::max<std::uint64_t>(disk.f_frsize, 1) > disk.f_bavail;
  const bool crowded = disk.f_files > 0 && missing.size() > disk.f_favail;
  if (full || crowded)
    fail<io_error>(who, ": ", missing.size(), " files of ", bytes_text(double(bytes)),
                   " are to be extracted to ", to.string(), "; the disk has room for ",
                   crowded ? std::to_string(disk.f_favail) + " files"
                           : bytes_text(double(disk.f_bavail) * double(disk.f_frsize)));
}

}  // namespace detail

/// Extracts an archive into the folder `to`, which is made. Files that are there with the right
/// size and CRC-32 are left as they are, so that a second call goes on after a first one that was
/// killed; only when it returns all files are whole, and on the disk. Rights, times and owners of
/// the archive are not taken over.
///
/// Errors    zip_error for a damaged archive and for what `extractable` refuses (before anything is
///           written); io_error for too little room (likewise) and a full disk
inline void extract_zip(const std::filesystem::path& archive, const std::filesystem::path& to,
                        const zip_extract_options& options = {}) {
  namespace fs = std::filesystem;
  const mapped_file file(archive);
  const zip_archive zip(file.bytes(), archive.string());
  const std::vector<zip_item> items = extractable(zip, file.bytes().size(), options.most);
  std::vector<const zip_item*> missing;
  std::uint64_t count = 0, done = 0;
  for (const zip_item& item : items) {
    if (item.folder) continue;
    ++count;
    if (!detail::has_size(to / item.name, item.entry->size) &&
        (options.also.empty() || !detail::has_size(options.also / item.name, item.entry->size)))
      missing.push_back(&item);
  }
  if (count == 0) fail<zip_error>(archive.string(), ": an archive without files; some are wanted");
  detail::make_folder(to);
  detail::check_room(missing, archive.string(), to);
  std::optional<progress> bar;
  if (options.progress != nullptr)
    bar.emplace(archive.filename().string(), static_cast<index_t>(count), 0,
                std::max<index_t>(static_cast<index_t>(count / 10), 1000), options.progress,
                progress_unit{1, "files"});
  fs::path last;
  for (const zip_item& item : items) {
    const fs::path path = to / item.name;
    const fs::path folder = item.folder ? path : path.parent_path();
    if (folder != last) detail::make_folder(folder), last = folder;
    if (item.folder) continue;
    const bool there =
        detail::has_contents(path, *item.entry) ||
        (!options.also.empty() && detail::has_contents(options.also / item.name, *item.entry));
    if (!there) {
      const std::string who = archive.string() + ": \"" + std::string(item.name) + "\"";
      detail::extracted_file out(path, who);
      read_zip_entry(*item.entry, who, [&](std::span<const std::byte> b) { out.append(b); });
      out.close();
    }
    ++done;
    if (bar) (*bar)(static_cast<index_t>(done), "");
  }
  if (const int folder = ::open(to.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); folder >= 0) {
    const int code = ::syncfs(folder);  // one call for all the files, before they get their names
    ::close(folder);
    if (code != 0) fail<io_error>(to.string(), ": can't sync it (", std::strerror(errno), ")");
  }
}

}  // namespace mlmamba
