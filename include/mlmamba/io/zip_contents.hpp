// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What is in a zip archive that nobody trusts, compressed or not.
#pragma once

#include <sys/stat.h>
#include <zlib.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mlmamba/core/error.hpp"
#include "mlmamba/io/detail/blob_download.hpp"
#include "mlmamba/io/detail/printable.hpp"
#include "mlmamba/io/hub_cache.hpp"
#include "mlmamba/io/zip_archive.hpp"

namespace mlmamba {

/// A file or folder of an archive, found fit to be extracted.
struct zip_item {
  std::string_view name;  ///< parts between slashes; no slash at the end
  const zip_archive::entry* entry = nullptr;
  bool folder = false;
};

/// All that is to be extracted, in the order in which it lies in the archive. What a Mac adds
/// (__MACOSX, .DS_Store) is left out.
///
/// Errors    zip_error for a name that could lead out of a folder, a name that is both file and
///           folder, anything but files and folders (symbolic links), encryption, methods other
///           than stored and deflate, entries that share bytes, and sizes that nothing honest has:
///           deflate's 1032 to 1 in an entry, `most` times the archive in all
inline std::vector<zip_item> extractable(const zip_archive& zip, std::uint64_t archive_bytes,
                                         std::uint64_t most = 100) {
  std::vector<zip_item> items;
  std::uint64_t total = 0;
  for (const auto& named : zip.entries()) {
    const std::string& full = named.first;
    const zip_archive::entry& e = named.second;
    std::string_view name = full;
    const bool folder = name.ends_with('/');
    if (folder) name.remove_suffix(1);
    const auto refuse = [&](const auto&... why) {
      fail<zip_error>(zip.who(), ": \"", detail::printable(full), "\" ", why...);
    };
    if (!detail::is_safe_path(name))
      refuse("has a name that may lead out of the folder; nothing is extracted");
    const int kind = e.mode & S_IFMT;
    if (kind == S_IFLNK) refuse("is a symbolic link; files and folders are wanted");
    if (kind != 0 && kind != (folder ? S_IFDIR : S_IFREG))
      refuse("is neither a file nor a folder; one of them is wanted");
    if (e.encrypted) refuse("is encrypted; plain entries are wanted");
    if (folder && e.size != 0) refuse("is a folder of ", e.size, " bytes; none are wanted");
    if (e.method != 0 && e.method != 8)
      refuse("is compressed by method ", e.method, "; 0 (stored) or 8 (deflate) is wanted");
    if (e.method == 0 ? e.size != e.bytes.size() : e.size / 1032 > e.bytes.size())
      refuse("says that its ", e.bytes.size(), " bytes are ", e.size, "; the archive is damaged");
    for (auto at = name.find('/'); at != std::string_view::npos; at = name.find('/', at + 1))
      if (zip.entries().contains(name.substr(0, at))) refuse("lies in what is a file");
    if (folder && zip.entries().contains(name)) refuse("is a file too");
    total += std::min(e.size, UINT64_MAX - total);
    if (name == "__MACOSX" || name.starts_with("__MACOSX/") || name == ".DS_Store" ||
        name.ends_with("/.DS_Store"))
      continue;
    items.push_back({name, &e, folder});
  }
  if (total / most > archive_bytes)
    fail<zip_error>(zip.who(), ": ", detail::bytes_text(double(archive_bytes)),
                    " say that they are ", detail::bytes_text(double(total)), "; at most ", most,
                    " times as much is extracted");
  std::sort(items.begin(), items.end(), [](const zip_item& a, const zip_item& b) {
    return a.entry->bytes.data() != b.entry->bytes.data()
               ? a.entry->bytes.data() < b.entry->bytes.data()
               : a.name < b.name;
  });
  for (std::size_t i = 1; i < items.size(); ++i) {
    const auto before = items[i - 1].entry->bytes;
    const auto apart = static_cast<std::uint64_t>(items[i].entry->bytes.data() - before.data());
    // between the data of two there is a local header: 30 bytes and the name
    if (apart < before.size() + 30 + items[i].name.size())
      fail<zip_error>(zip.who(), ": \"", detail::printable(items[i].name), "\" and \"",
                      detail::printable(items[i - 1].name),
                      "\" share bytes; the archive is made to swell");
  }
  return items;
}

namespace detail {

/// zlib's inflater of a raw stream.
class inflater {
 public:
  inflater() {
    if (::inflateInit2(&z_, -MAX_WBITS) != Z_OK) fail<io_error>("zlib can't be started");
  }
  inflater(const inflater&) = delete;
  inflater& operator=(const inflater&) = delete;
  ~inflater() { ::inflateEnd(&z_); }
  z_stream& operator*() { return z_; }

 private:
  z_stream z_{};
};

}  // namespace detail

/// Gives the contents of an entry to `sink(span of bytes)`, piece by piece; never more than the
/// entry's size. Errors: zip_error if the data are damaged, or are not the size or the CRC-32 that
/// the directory says; what sink throws
template <class Sink>
void read_zip_entry(const zip_archive::entry& e, const std::string& who, Sink&& sink) {
  constexpr std::size_t piece = std::size_t{1} << 18;
  std::uint64_t done = 0;
  uLong sum = ::crc32(0, nullptr, 0);
  const auto give = [&](std::span<const std::byte> bytes) {
    if (bytes.size() > e.size - done)
      fail<zip_error>(who, ": more than the ", e.size,
                      " bytes that it says; the archive is damaged");
    sum = ::crc32(sum, reinterpret_cast<const Bytef*>(bytes.data()), uInt(bytes.size()));
    done += bytes.size();
    sink(bytes);
  };
  std::span<const std::byte> left = e.bytes;
  if (e.method == 0) {
    for (; !left.empty(); left = left.subspan(std::min(piece, left.size())))
      give(left.first(std::min(piece, left.size())));
  } else {
    detail::inflater inflater;
    z_stream& z = *inflater;
    std::vector<std::byte> out(piece);
    for (int code = Z_OK; code != Z_STREAM_END;) {
      if (z.avail_in == 0) {
        const auto part = left.first(std::min(piece, left.size()));
        z.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(part.data()));
        z.avail_in = uInt(part.size());
        left = left.subspan(part.size());
      }
      z.next_out = reinterpret_cast<Bytef*>(out.data());
      z.avail_out = uInt(out.size());
      code = ::inflate(&z, Z_NO_FLUSH);
      if (code != Z_OK && code != Z_STREAM_END)
        fail<zip_error>(who, ": can't be inflated (", z.msg ? z.msg : "it ends too early",
                        "); the archive is damaged");
      give(std::span(out).first(out.size() - z.avail_out));
    }
  }
  if (done != e.size)
    fail<zip_error>(who, ": ", done, " bytes; it says ", e.size, ", the archive is damaged");
  if (sum != e.sum)
    fail<zip_error>(who, ": its checksum (CRC-32) is not the one it says; the archive is damaged");
}

}  // namespace mlmamba
