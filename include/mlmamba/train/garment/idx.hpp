// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Reader of IDX files (plain or gzip), and the garment photos of one split in memory. Needs zlib.
#pragma once

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "mlmamba/core/error.hpp"

namespace mlmamba::train::garment {

/// Which photos: the 60,000 to learn from or the 10,000 held out. A scene never mixes them.
enum class split : std::uint8_t { train, test };

inline const char* name_of(split which) { return which == split::train ? "train" : "test"; }

inline constexpr int class_count = 10;
inline constexpr int photo_side = 28;
inline constexpr std::size_t photo_pixels = 28 * 28;

/// An IDX file of bytes: sizes and the elements in row-major order.
struct idx_file {
  std::vector<std::size_t> sizes;
  std::vector<std::uint8_t> bytes;
};

namespace detail {

struct gz_close {
  void operator()(gzFile_s* f) const { gzclose_r(f); }
};
using gz_handle = std::unique_ptr<gzFile_s, gz_close>;

// Reads up to n bytes and appends them; fewer only at the end of a sound file.
inline std::size_t gz_append(gzFile_s* f, std::vector<std::uint8_t>& to, std::size_t n,
                             const std::string& path) {
  const std::size_t before = to.size();
  to.resize(before + n);
  const int got = gzread(f, to.data() + before, static_cast<unsigned>(n));
  int code = Z_OK;
  gzerror(f, &code);
  if (got < 0 || (code != Z_OK && code != Z_STREAM_END))  // Z_BUF_ERROR: the stream stops early
    fail<io_error>("idx: \"", path, "\" is corrupt or cut off (zlib code ", code,
                   "); a whole gzip or plain IDX file is wanted");
  to.resize(before + static_cast<std::size_t>(got));
  return static_cast<std::size_t>(got);
}

inline std::uint32_t big_endian(const std::uint8_t* p) {
  return std::uint32_t{p[0]} << 24 | std::uint32_t{p[1]} << 16 | std::uint32_t{p[2]} << 8 | p[3];
}

}  // namespace detail

/// Reads an IDX file of unsigned bytes with `rank` sizes; gzip is recognised by itself.
///
///   0 0 type rank | rank sizes, 4 bytes each, big-endian | elements, the last size fastest
///
/// Errors    io_error: cannot open, not IDX, other type or rank, more than `most` elements, not
///           as many bytes as the sizes say, a broken gzip stream. Memory grows with what the file
///           really holds, never with what its header claims.
/// Source    http://yann.lecun.com/exdb/mnist, "THE IDX FILE FORMAT"
inline idx_file read_idx(const std::string& path, std::size_t rank,
                         std::size_t most = std::size_t{1} << 30) {
  const detail::gz_handle file(gzopen(path.c_str(), "rb"));
  if (!file) fail<io_error>("idx: \"", path, "\" cannot be opened; an IDX file is wanted");
  std::vector<std::uint8_t> head;
  const std::size_t head_size = 4 + 4 * rank;
  if (detail::gz_append(file.get(), head, head_size, path) != head_size)
    fail<io_error>("idx: \"", path, "\" has ", head.size(), " bytes; a header of ", head_size,
                   " is wanted");
  if (head[0] != 0 || head[1] != 0 || head[2] != 8 || head[3] != rank)
    fail<io_error>("idx: \"", path, "\" begins with ", int{head[0]}, ' ', int{head[1]}, ' ',
                   int{head[2]}, ' ', int{head[3]}, "; unsigned bytes of rank ", rank, ", 0 0 8 ",
                   rank, ", are wanted");
  idx_file out;
  std::size_t total = 1;
  for (std::size_t d = 0; d < rank; ++d) {
    const std::size_t size = detail::big_endian(head.data() + 4 + 4 * d);
    if (size != 0 && total > most / size)
      fail<io_error>("idx: \"", path, "\" claims more than ", most, " elements; fewer are wanted");
    total *= size;
    out.sizes.push_back(size);
  }
  constexpr std::size_t block = std::size_t{1} << 20;
  while (out.bytes.size() < total) {
    const std::size_t want = std::min(block, total - out.bytes.size());
    if (detail::gz_append(file.get(), out.bytes, want, path) != want) break;
  }
  if (out.bytes.size() != total)
    fail<io_error>("idx: \"", path, "\" holds ", out.bytes.size(), " elements; its header says ",
                   total);
  std::vector<std::uint8_t> rest;  // reading on to the end makes zlib check its checksum
  if (detail::gz_append(file.get(), rest, 1, path) != 0)
    fail<io_error>("idx: \"", path, "\" goes on after its ", total,
                   " elements; no more are wanted");
  return out;
}

/// The photos of one split: 28x28 grey, garment light (up to 255) on 0, and their classes.
struct source {
  split which = split::train;
  std::vector<std::uint8_t> pixels;                              // (photos, 28, 28)
  std::vector<std::uint8_t> labels;                              // (photos), below class_count
  std::array<std::vector<std::uint32_t>, class_count> of_class;  // photo numbers by class

  std::size_t size() const { return labels.size(); }
  const std::uint8_t* photo(std::size_t i) const { return pixels.data() + i * photo_pixels; }
};

/// Puts photos and labels together. Errors: io_error if they do not belong together, a label is
/// above 9, or a class has fewer than nine photos (a scene may hold nine of one class).
inline source make_source(split which, idx_file images, idx_file labels, const std::string& from) {
  if (images.sizes.size() != 3 || images.sizes[1] != photo_side || images.sizes[2] != photo_side)
    fail<io_error>("garment: the photos of ", from, " are not 28x28; 28x28 is wanted");
  if (labels.sizes.size() != 1 || labels.sizes[0] != images.sizes[0])
    fail<io_error>("garment: ", from, " has ", images.sizes[0], " photos and ",
                   labels.sizes.empty() ? 0 : labels.sizes[0], " labels; as many are wanted");
  source out;
  out.which = which;
  out.pixels = std::move(images.bytes);
  out.labels = std::move(labels.bytes);
  for (std::size_t i = 0; i < out.labels.size(); ++i) {
    if (out.labels[i] >= class_count)
      fail<io_error>("garment: label ", i, " of ", from, " is ", int{out.labels[i]},
                     "; 0 to 9 is wanted");
    out.of_class[out.labels[i]].push_back(static_cast<std::uint32_t>(i));
  }
  for (std::size_t c = 0; c < class_count; ++c)
    if (out.of_class[c].size() < 9)
      fail<io_error>("garment: ", from, " has ", out.of_class[c].size(), " photos of class ", c,
                     "; at least 9 are wanted");
  return out;
}

inline constexpr const char* default_folder = "/usr/share/datasets/fashion-mnist";

/// Loads a split from a folder with the four files of Fashion-MNIST, as gzip or unpacked.
inline source load_source(split which, const std::string& folder = default_folder) {
  const std::string stem = folder + (which == split::train ? "/train-" : "/t10k-");
  const auto read = [](const std::string& path, std::size_t rank) {
    const detail::gz_handle packed(gzopen((path + ".gz").c_str(), "rb"));
    return read_idx(packed ? path + ".gz" : path, rank);
  };
  idx_file images = read(stem + "images-idx3-ubyte", 3);
  idx_file labels = read(stem + "labels-idx1-ubyte", 1);
  return make_source(which, std::move(images), std::move(labels), folder);
}

}  // namespace mlmamba::train::garment
