// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// PNG by libpng. Included by io/image.hpp.
#pragma once

#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <png.h>

#include "mlmamba/core/error.hpp"
#include "mlmamba/io/pixels.hpp"

namespace mlmamba::detail {

/// libpng reports errors by longjmp, which must not cross an object with a destructor. So each
/// member function below that can be jumped out of holds nothing but trivial locals, and all that
/// needs cleaning lives in the object. Exceptions start only outside those functions.
class png_reader {
 public:
  explicit png_reader(std::span<const std::byte> bytes) : rest_(bytes) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, on_error, on_warning);
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
  }
  png_reader(const png_reader&) = delete;
  png_reader& operator=(const png_reader&) = delete;
  ~png_reader() { png_destroy_read_struct(&png_, &info_, nullptr); }

  bool good() const { return info_ != nullptr; }
  const char* message() const { return message_; }
  std::uint64_t width() const { return png_get_image_width(png_, info_); }
  std::uint64_t height() const { return png_get_image_height(png_, info_); }
  /// Deflate shrinks by at most 1032 to 1: a file with fewer bytes can't hold its pixels.
  std::uint64_t least_file_bytes() const { return height() * stored_row_bytes_ / 1032; }

  /// Reads up to the pixels.
  bool read_header() {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    png_set_read_fn(png_, this, on_read);
    png_set_user_limits(png_, PNG_UINT_31_MAX,
                        PNG_UINT_31_MAX);     // ours say more, and come before memory
    png_set_chunk_malloc_max(png_, 1 << 24);  // texts and profiles, which nobody reads here
    png_read_info(png_, info_);
    stored_row_bytes_ = png_get_rowbytes(png_, info_);
    return true;
  }
  /// Sets the conversions to 8-bit RGB. After the size was accepted: row buffers are taken here.
  bool convert() {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    const int depth = png_get_bit_depth(png_, info_), colour = png_get_color_type(png_, info_);
    if (colour == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png_);
    if (depth == 16) png_set_strip_16(png_);
    if (colour == PNG_COLOR_TYPE_GRAY && depth < 8) png_set_expand_gray_1_2_4_to_8(png_);
    if ((colour & PNG_COLOR_MASK_COLOR) == 0) png_set_gray_to_rgb(png_);
    png_set_strip_alpha(png_);  // also where a palette has transparent entries
    png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    if (png_get_rowbytes(png_, info_) != 3 * static_cast<std::size_t>(width())) {
      note("a pixel format that does not convert to RGB");
      return false;
    }
    return true;
  }
  bool read_pixels(png_bytep* rows) {
    if (setjmp(png_jmpbuf(png_)) != 0) return false;
    png_read_image(png_, rows);
    png_read_end(png_, nullptr);
    return true;
  }

 private:
  void note(const char* text) { std::strncpy(message_, text, sizeof message_ - 1); }
  static void on_read(png_structp png, png_bytep to, std::size_t n) {
    auto* self = static_cast<png_reader*>(png_get_io_ptr(png));
    if (n > self->rest_.size()) png_error(png, "the file is truncated");
    std::memcpy(to, self->rest_.data(), n);
    self->rest_ = self->rest_.subspan(n);
  }
  static void on_error(png_structp png, png_const_charp text) {
    static_cast<png_reader*>(png_get_error_ptr(png))->note(text);
    png_longjmp(png, 1);
  }
  static void on_warning(png_structp, png_const_charp) {}

  std::span<const std::byte> rest_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  std::size_t stored_row_bytes_ = 0;
  char message_[120] = "out of memory";
};

inline image decode_png(std::span<const std::byte> bytes, std::string_view who,
                        const image_limits& limits) {
  png_reader reader(bytes);
  if (!reader.good() || !reader.read_header())
    fail<io_error>(who, ": PNG can't be read (", reader.message(), ")");
  check_image_size(reader.width(), reader.height(), limits, who);
  if (reader.least_file_bytes() > bytes.size())
    fail<io_error>(who, ": PNG of ", reader.width(), " x ", reader.height(), " pixels in ",
                   bytes.size(), " bytes; the file is truncated");
  if (!reader.convert()) fail<io_error>(who, ": PNG can't be read (", reader.message(), ")");
  image picture = allocate_image(reader.width(), reader.height());
  std::vector<png_bytep> rows(static_cast<std::size_t>(picture.height));
  for (int y = 0; y < picture.height; ++y) rows[static_cast<std::size_t>(y)] = picture.row(y);
  if (!reader.read_pixels(rows.data()))
    fail<io_error>(who, ": PNG can't be read (", reader.message(), ")");
  return picture;
}

class png_writer {
 public:
  png_writer() {
    png_ = png_create_write_struct(PNG_LIBPNG_VER_STRING, this, on_error, on_warning);
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
  }
  png_writer(const png_writer&) = delete;
  png_writer& operator=(const png_writer&) = delete;
  ~png_writer() { png_destroy_write_struct(&png_, &info_); }

  bool write(const image& picture) {
    if (info_ == nullptr || setjmp(png_jmpbuf(png_)) != 0) return false;
    png_set_write_fn(png_, this, on_write, on_flush);
    png_set_IHDR(png_, info_, static_cast<png_uint_32>(picture.width),
                 static_cast<png_uint_32>(picture.height), 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png_, info_);
    for (int y = 0; y < picture.height; ++y) png_write_row(png_, picture.row(y));
    png_write_end(png_, nullptr);
    return true;
  }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  static void on_write(png_structp png, png_bytep from, std::size_t n) {
    auto* self = static_cast<png_writer*>(png_get_io_ptr(png));
    bool full = false;
    try {
      const auto* at = reinterpret_cast<const std::byte*>(from);
      self->bytes_.insert(self->bytes_.end(), at, at + n);
    } catch (...) {  // an exception must not pass through C
      full = true;
    }
    if (full) png_error(png, "out of memory");
  }
  static void on_flush(png_structp) {}
  static void on_error(png_structp png, png_const_charp) { png_longjmp(png, 1); }
  static void on_warning(png_structp, png_const_charp) {}

  std::vector<std::byte> bytes_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

inline std::vector<std::byte> encode_png(const image& picture, std::string_view who) {
  const bool whole =
      picture.width > 0 && picture.height > 0 &&
      picture.rgb.size() == picture.row_bytes() * static_cast<std::size_t>(picture.height);
  if (!whole)
    fail<shape_error>(who, ": a picture of ", picture.width, " x ", picture.height, " with ",
                      picture.rgb.size(), " bytes; 3 bytes for each of at least 1 x 1 are wanted");
  png_writer writer;
  if (!writer.write(picture))
    fail<io_error>(who, ": ", picture.width, " x ", picture.height, " can't be written as PNG");
  return writer.bytes();
}

}  // namespace mlmamba::detail
