// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Zip archives for tests, honest or not.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "mlmamba/io/detail/zip_writer.hpp"

namespace mlmamba::test {

struct zip_member {
  std::string name, contents = "";
  bool deflate = true;
  // what the headers say instead of the truth
  std::optional<std::uint32_t> size = {}, sum = {};
  std::optional<std::uint64_t> begin = {};  // of the local header
  int method = -1, flags = 0;
  unsigned mode = 0;  // Unix's, 0: made by another system
};

inline std::string deflated(const std::string& text) {
  z_stream z{};
  if (::deflateInit2(&z, 6, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
    throw std::runtime_error("deflate");
  std::string out(::deflateBound(&z, uLong(text.size())), '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  z.avail_in = uInt(text.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = uInt(out.size());
  ::deflate(&z, Z_FINISH);
  out.resize(out.size() - z.avail_out);
  ::deflateEnd(&z);
  return out;
}

/// With zip64's records, as writers of more than 65,535 files need them, if `wide`.
inline std::string make_zip(const std::vector<zip_member>& members, bool wide = false) {
  using detail::put_number;
  std::string out, directory;
  for (const zip_member& m : members) {
    const std::string data = m.deflate ? deflated(m.contents) : m.contents;
    const auto size = m.size.value_or(std::uint32_t(m.contents.size()));
    const auto truth = std::uint32_t(
        ::crc32(0, reinterpret_cast<const Bytef*>(m.contents.data()), uInt(m.contents.size())));
    const auto method = m.method >= 0 ? unsigned(m.method) : m.deflate ? 8u : 0u;
    const std::uint64_t begin = m.begin.value_or(out.size());
    const auto numbers = [&](std::string& to, std::size_t extra) {
      put_number(to, wide ? 45 : 20, 2), put_number(to, unsigned(m.flags), 2);
      put_number(to, method, 2), put_number(to, 0, 4);  // a time and a date
      put_number(to, m.sum.value_or(truth), 4), put_number(to, wide ? 0xFFFFFFFF : data.size(), 4);
      put_number(to, wide ? 0xFFFFFFFF : size, 4);
      put_number(to, m.name.size(), 2), put_number(to, extra, 2);
    };
    std::string sizes;
    if (wide)
      put_number(sizes, 1, 2), put_number(sizes, 16, 2), put_number(sizes, size, 8),
          put_number(sizes, data.size(), 8);
    put_number(out, 0x04034b50, 4), numbers(out, sizes.size()), out += m.name + sizes + data;
    put_number(directory, 0x02014b50, 4);
    put_number(directory, m.mode != 0 ? 0x031e : 0x001e, 2), numbers(directory, sizes.size());
    put_number(directory, 0, 2 + 2 + 2), put_number(directory, std::uint64_t{m.mode} << 16, 4);
    put_number(directory, begin, 4), directory += m.name + sizes;
  }
  const std::size_t at = out.size(), n = members.size();
  out += directory;
  if (wide) {
    const std::size_t end = out.size();
    put_number(out, 0x06064b50, 4), put_number(out, 44, 8), put_number(out, 45, 2);
    put_number(out, 45, 2), put_number(out, 0, 8), put_number(out, n, 8), put_number(out, n, 8);
    put_number(out, directory.size(), 8), put_number(out, at, 8);
    put_number(out, 0x07064b50, 4), put_number(out, 0, 4), put_number(out, end, 8);
    put_number(out, 1, 4);
  }
  put_number(out, 0x06054b50, 4), put_number(out, 0, 4);
  put_number(out, wide ? 0xFFFF : n, 2), put_number(out, wide ? 0xFFFF : n, 2);
  put_number(out, wide ? 0xFFFFFFFF : directory.size(), 4);
  put_number(out, wide ? 0xFFFFFFFF : at, 4), put_number(out, 0, 2);
  return out;
}

}  // namespace mlmamba::test
