// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Zip archives: what they hold, and reading stored entries without a copy.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "mlmamba/core/error.hpp"

namespace mlmamba {

/// An archive that is damaged, or is not to be trusted.
struct zip_error : io_error {
  using io_error::io_error;
};

namespace detail {

/// An unsigned number of N bytes, little endian; the caller has checked that they are there.
template <class T>
T little_endian(std::span<const std::byte> bytes, std::size_t at) {
  T n = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i)
    n = static_cast<T>(n | static_cast<T>(static_cast<T>(bytes[at + i]) << (8 * i)));
  return n;
}

}  // namespace detail

/// The entries of a zip archive by name, each a part of the bytes given.
///
///   entries   local header, name, extra fields, data
///   directory one header per entry, with its size and where it begins
///   end       where the directory is; with a zip64 record before it where numbers need 64 bits
///
/// Checked   the directory and every entry lie inside the archive; sizes and names agree between
///           directory and local headers; no name twice
/// Errors    zip_error for what is not so, and for what is not read: archives in several parts,
///           bytes before the first entry, and entries that are asked for and compressed
/// Source    APPNOTE.TXT 6.3, PKWARE
class zip_archive {
 public:
  using bytes_type = std::span<const std::byte>;

  static bool is_zip(bytes_type bytes) {
    return bytes.size() >= 4 && std::memcmp(bytes.data(), "PK\3\4", 4) == 0;
  }

  /// Borrows `bytes`; `who` names them in errors.
  zip_archive(bytes_type bytes, std::string who) : bytes_(bytes), who_(std::move(who)) { read(); }

  const std::string& who() const { return who_; }
  struct entry {
    bytes_type bytes;    ///< as they lie in the archive
    bool stored = true;  ///< else compressed or encrypted
    bool encrypted = false;
    std::uint16_t method = 0;  ///< 0 stored, 8 deflate
    std::uint16_t mode = 0;    ///< Unix's kind and rights of a file, 0 if it has none
    std::uint32_t sum = 0;     ///< CRC-32 of the contents
    std::uint64_t size = 0;    ///< bytes of the contents
  };
  const std::map<std::string, entry, std::less<>>& entries() const { return entries_; }
  /// The bytes of an entry, or null if there is none of that name. Error if it is compressed.
  const bytes_type* find(std::string_view name) const {
    const auto at = entries_.find(name);
    if (at == entries_.end()) return nullptr;
    if (!at->second.stored)
      fail<zip_error>(who_, ": \"", name, "\" is compressed or encrypted; stored entries, as ",
                      "torch.save writes them, are wanted");
    return &at->second.bytes;
  }

 private:
  static constexpr std::uint32_t local_mark = 0x04034b50, entry_mark = 0x02014b50,
                                 end_mark = 0x06054b50, end64_mark = 0x06064b50,
                                 locator_mark = 0x07064b50;
  static constexpr std::size_t local_size = 30, entry_size = 46, end_size = 22, end64_size = 56,
                               locator_size = 20;

  template <class T>
  T number(std::uint64_t at) const {
    return detail::little_endian<T>(bytes_, static_cast<std::size_t>(at));
  }
  /// Are there n bytes from `at` on, before `end`?
  static bool inside(std::uint64_t at, std::uint64_t n, std::uint64_t end) {
    return at <= end && n <= end - at;
  }

  void read() {
    if (!is_zip(bytes_)) fail<zip_error>(who_, ": does not begin as a zip archive");
    std::uint64_t end = 0;
    bool found = false;  // the end record is last, but for a comment of at most 65535 bytes
    for (std::uint64_t back = end_size; !found && back <= end_size + 65535 && back <= bytes_.size();
         ++back) {
      end = bytes_.size() - back;
      found = number<std::uint32_t>(end) == end_mark &&
              number<std::uint16_t>(end + 20) == back - end_size;
    }
    if (!found)
      fail<zip_error>(who_, ": a zip archive without its end record; the file is truncated");
    std::uint64_t count = number<std::uint16_t>(end + 10);
    std::uint64_t size = number<std::uint32_t>(end + 12), begin = number<std::uint32_t>(end + 16);
    bool parts = number<std::uint16_t>(end + 4) != 0 && number<std::uint16_t>(end + 4) != 0xFFFF;
    std::uint64_t limit = end;  // the directory lies before it
    if (end >= locator_size && number<std::uint32_t>(end - locator_size) == locator_mark) {
      limit = number<std::uint64_t>(end - locator_size + 8);
      if (!inside(limit, end64_size, end - locator_size) ||
          number<std::uint32_t>(limit) != end64_mark)
        fail<zip_error>(who_, ": its zip64 end record is not at byte ", limit,
                        ", where it should be; the archive is damaged");
      parts = number<std::uint32_t>(limit + 16) != 0;
      count = number<std::uint64_t>(limit + 32);
      size = number<std::uint64_t>(limit + 40), begin = number<std::uint64_t>(limit + 48);
    }
    if (parts) fail<zip_error>(who_, ": a zip archive in several parts; one part is wanted");
    if (!inside(begin, size, limit))
      fail<zip_error>(who_, ": its directory of ", size, " bytes at byte ", begin, " ends after ",
                      limit, "; the archive is damaged");
    if (count > size / entry_size)
      fail<zip_error>(who_, ": ", count, " entries in a directory of ", size,
                      " bytes; the archive is damaged");
    std::uint64_t at = begin;
    for (std::uint64_t i = 0; i < count; ++i) at = read_entry(at, begin, begin + size);
  }

  std::uint64_t read_entry(std::uint64_t at, std::uint64_t directory, std::uint64_t end) {
    if (!inside(at, entry_size, end) || number<std::uint32_t>(at) != entry_mark)
      fail<zip_error>(who_, ": there is no entry at byte ", at,
                      " of its directory; the archive is ", "damaged");
    const auto flags = number<std::uint16_t>(at + 8), method = number<std::uint16_t>(at + 10);
    std::uint64_t packed = number<std::uint32_t>(at + 20), size = number<std::uint32_t>(at + 24);
    const std::uint64_t name_size = number<std::uint16_t>(at + 28);
    const std::uint64_t extra = number<std::uint16_t>(at + 30);
    const std::uint64_t comment = number<std::uint16_t>(at + 32);
    std::uint64_t local = number<std::uint32_t>(at + 42);
    if (!inside(at + entry_size, name_size + extra + comment, end))
      fail<zip_error>(who_, ": the entry at byte ", at, " ends outside its directory; the archive ",
                      "is damaged");
    const std::string name(text(at + entry_size, name_size));
    wide_numbers(name, at + entry_size + name_size, extra, {&size, &packed, &local});
    if (!inside(local, local_size, directory) || number<std::uint32_t>(local) != local_mark)
      fail<zip_error>(who_, ": \"", name, "\" is not at byte ", local,
                      ", where its entry should be; the archive is damaged");
    const std::uint64_t skip = local_size + std::uint64_t{number<std::uint16_t>(local + 26)} +
                               number<std::uint16_t>(local + 28);
    if (!inside(local, skip, directory) || !inside(local + skip, packed, directory))
      fail<zip_error>(who_, ": \"", name, "\" of ", packed, " bytes at byte ", local,
                      " ends after the entries; the archive is damaged");
    if (number<std::uint16_t>(local + 26) != name_size ||
        text(local + local_size, name_size) != name)
      fail<zip_error>(who_, ": \"", name, "\" has another name in front of its data; the archive ",
                      "is damaged");
    const auto data =
        bytes_.subspan(static_cast<std::size_t>(local + skip), static_cast<std::size_t>(packed));
    const bool encrypted = (flags & 1) != 0, stored = method == 0 && !encrypted && packed == size;
    const bool unix_made = number<std::uint16_t>(at + 4) >> 8 == 3;
    const auto mode = unix_made ? number<std::uint16_t>(at + 40) : std::uint16_t{0};
    const auto sum = number<std::uint32_t>(at + 16);
    if (!entries_.emplace(name, entry{data, stored, encrypted, method, mode, sum, size}).second)
      fail<zip_error>(who_, ": two entries named \"", name, "\"; one is wanted");
    return at + entry_size + name_size + extra + comment;
  }

  /// Numbers of 64 bits, in the order of zip64's extra field, for those that say 0xFFFFFFFF.
  void wide_numbers(const std::string& name, std::uint64_t at, std::uint64_t n,
                    std::initializer_list<std::uint64_t*> values) const {
    const std::uint64_t end = at + n;
    while (inside(at, 4, end)) {
      const auto id = number<std::uint16_t>(at);
      std::uint64_t left = number<std::uint16_t>(at + 2);
      at += 4;
      if (left > end - at) break;  // what follows is padding
      if (id != 1) {
        at += left;
        continue;
      }
      for (std::uint64_t* value : values) {
        if (*value != 0xFFFFFFFFu) continue;
        if (left < 8)
          fail<zip_error>(who_, ": \"", name,
                          "\" has no 64-bit size or offset where one is needed; ",
                          "the archive is damaged");
        *value = number<std::uint64_t>(at);
        at += 8, left -= 8;
      }
      return;
    }
  }

  std::string_view text(std::uint64_t at, std::uint64_t n) const {
    return {reinterpret_cast<const char*>(bytes_.data()) + at, static_cast<std::size_t>(n)};
  }

  bytes_type bytes_;
  std::string who_;
  std::map<std::string, entry, std::less<>> entries_;
};

}  // namespace mlmamba
