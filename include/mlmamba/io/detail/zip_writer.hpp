// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Zip archives of stored entries: writing, with 64-bit sizes where they are needed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "mlmamba/core/crc32c.hpp"

namespace mlmamba::detail {

/// Appends n as `bytes` bytes, little endian.
inline void put_number(std::string& to, std::uint64_t n, int bytes) {
  for (int i = 0; i < bytes; ++i, n >>= 8) to += static_cast<char>(static_cast<unsigned char>(n));
}

/// Writes entries one after another, then the directory. Data begin at multiples of 64, as in
/// PyTorch's files, so that a mapped array can be used where it lies. `To` appends bytes.
template <class To>
class zip_writer {
 public:
  explicit zip_writer(To& to) : to_(to) {}

  void add(std::string_view name, std::span<const std::byte> data) {
    constexpr std::uint64_t alignment = 64;
    const std::uint64_t begin = at_, size = data.size();
    const std::uint32_t sum = crc32(data);
    std::string extra;
    if (size >= wide) wide_field(extra, {size, size});
    // An extra field of two letters, a length and that many bytes fills up to the alignment.
    const std::uint64_t so_far = begin + 30 + name.size() + extra.size() + 4;
    const std::uint64_t fill = (alignment - so_far % alignment) % alignment;
    extra += "FB";
    put_number(extra, fill, 2);
    extra.append(static_cast<std::size_t>(fill), 'Z');
    std::string header;
    put_number(header, 0x04034b50, 4);
    sizes(header, sum, size, name.size(), extra.size());
    header.append(name).append(extra);
    append(std::as_bytes(std::span(header)));
    append(data);

    std::string directory_extra;
    if (size >= wide || begin >= wide) {
      if (size >= wide && begin >= wide) wide_field(directory_extra, {size, size, begin});
      if (size >= wide && begin < wide) wide_field(directory_extra, {size, size});
      if (size < wide) wide_field(directory_extra, {begin});
    }
    put_number(directory_, 0x02014b50, 4);
    put_number(directory_, 45, 2);  // made by version 4.5, the one with zip64
    sizes(directory_, sum, size, name.size(), directory_extra.size());
    put_number(directory_, 0, 2 + 2 + 2 + 4);  // comment, part, attributes
    put_number(directory_, narrow(begin), 4);
    directory_.append(name).append(directory_extra);
    ++count_;
  }

  /// The directory and the end records; nothing may follow.
  void finish() {
    const std::uint64_t begin = at_, size = directory_.size();
    append(std::as_bytes(std::span(directory_)));
    std::string end;
    const bool large = begin >= wide || size >= wide || count_ >= 0xFFFF;
    if (large) {
      const std::uint64_t record = at_;
      put_number(end, 0x06064b50, 4), put_number(end, 44, 8);  // bytes that follow
      put_number(end, 45, 2), put_number(end, 45, 2);
      put_number(end, 0, 8);  // part, part of the directory
      put_number(end, count_, 8), put_number(end, count_, 8);
      put_number(end, size, 8), put_number(end, begin, 8);
      put_number(end, 0x07064b50, 4), put_number(end, 0, 4);
      put_number(end, record, 8), put_number(end, 1, 4);
    }
    put_number(end, 0x06054b50, 4), put_number(end, 0, 4);
    const std::uint64_t count = large ? 0xFFFF : count_;
    put_number(end, count, 2), put_number(end, count, 2);
    put_number(end, large ? wide : size, 4), put_number(end, large ? wide : begin, 4);
    put_number(end, 0, 2);
    append(std::as_bytes(std::span(end)));
  }

 private:
  static constexpr std::uint64_t wide = 0xFFFFFFFF;
  static std::uint64_t narrow(std::uint64_t n) { return n < wide ? n : wide; }
  static void wide_field(std::string& to, std::initializer_list<std::uint64_t> numbers) {
    put_number(to, 1, 2), put_number(to, 8 * numbers.size(), 2);
    for (const std::uint64_t n : numbers) put_number(to, n, 8);
  }
  /// What local headers and directory entries share, from the version needed on.
  static void sizes(std::string& to, std::uint32_t sum, std::uint64_t size, std::size_t name,
                    std::size_t extra) {
    put_number(to, 45, 2), put_number(to, 0x0800, 2);  // names in UTF-8
    put_number(to, 0, 2);                              // stored
    put_number(to, 0, 2), put_number(to, 0x21, 2);     // 1980-01-01: the same bytes every time
    put_number(to, sum, 4), put_number(to, narrow(size), 4), put_number(to, narrow(size), 4);
    put_number(to, name, 2), put_number(to, extra, 2);
  }
  void append(std::span<const std::byte> bytes) {
    to_.append(bytes);
    at_ += bytes.size();
  }

  To& to_;
  std::string directory_;
  std::uint64_t at_ = 0, count_ = 0;
};

}  // namespace mlmamba::detail
