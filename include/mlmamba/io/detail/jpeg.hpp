// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// JPEG by libjpeg-turbo. Included by io/image.hpp.
#pragma once

#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstdio>  // jpeglib.h needs FILE and size_t
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <jpeglib.h>
#include <jerror.h>

#include "mlmamba/core/error.hpp"
#include "mlmamba/io/pixels.hpp"

namespace mlmamba::detail {

/// libjpeg reports errors by longjmp; the rules of `png_reader` hold here too.
class jpeg_reader {
 public:
  explicit jpeg_reader(std::span<const std::byte> bytes) {
    // Assigned member by member: these structs are C and grow from version to version.
    std::memset(&jpeg_, 0, sizeof jpeg_);
    jpeg_.err = jpeg_std_error(&errors_);
    errors_.error_exit = on_error;
    errors_.emit_message = on_message;
    errors_.output_message = [](j_common_ptr) {};
    jpeg_.client_data = this;
    source_.next_input_byte = reinterpret_cast<const JOCTET*>(bytes.data());
    source_.bytes_in_buffer = bytes.size();
    source_.init_source = [](j_decompress_ptr) {};
    source_.term_source = [](j_decompress_ptr) {};
    source_.fill_input_buffer = on_empty;
    source_.skip_input_data = on_skip;
    source_.resync_to_restart = jpeg_resync_to_restart;
    progress_.progress_monitor = on_progress;
  }
  jpeg_reader(const jpeg_reader&) = delete;
  jpeg_reader& operator=(const jpeg_reader&) = delete;
  ~jpeg_reader() { jpeg_destroy_decompress(&jpeg_); }

  const char* message() const { return message_; }
  std::uint64_t width() const { return jpeg_.image_width; }
  std::uint64_t height() const { return jpeg_.image_height; }
  int components() const { return jpeg_.output_components; }

  bool read_header() {
    if (setjmp(back_) != 0) return false;
    jpeg_create_decompress(&jpeg_);  // keeps err and client_data
    jpeg_.src = &source_;
    jpeg_.progress = &progress_;
    jpeg_read_header(&jpeg_, TRUE);
    switch (jpeg_.jpeg_color_space) {
      case JCS_GRAYSCALE:
        jpeg_.out_color_space = JCS_GRAYSCALE;
        break;
      case JCS_CMYK:
      case JCS_YCCK:
        jpeg_.out_color_space = JCS_CMYK;
        break;
      case JCS_RGB:
      case JCS_YCbCr:
        jpeg_.out_color_space = JCS_RGB;
        break;
      default:
        std::strncpy(message_, "its number of colour components is not 1, 3 or 4",
                     sizeof message_ - 1);
        return false;
    }
    return true;
  }
  /// After the size was accepted: this is where memory in proportion to the picture is taken.
  bool start() {
    if (setjmp(back_) != 0) return false;
    jpeg_start_decompress(&jpeg_);
    return true;
  }
  bool read_row(JSAMPLE* to) {
    if (setjmp(back_) != 0) return false;
    return jpeg_read_scanlines(&jpeg_, &to, 1) == 1;
  }
  bool finish() {
    if (setjmp(back_) != 0) return false;
    jpeg_finish_decompress(&jpeg_);
    return true;
  }

 private:
  static jpeg_reader* self_of(j_common_ptr jpeg) {
    return static_cast<jpeg_reader*>(jpeg->client_data);
  }
  [[noreturn]] static void stop(j_common_ptr jpeg, const char* text) {
    jpeg_reader* self = self_of(jpeg);
    std::strncpy(self->message_, text, sizeof self->message_ - 1);
    std::longjmp(self->back_, 1);
  }
  static void on_error(j_common_ptr jpeg) {
    char text[JMSG_LENGTH_MAX];
    jpeg->err->format_message(jpeg, text);
    stop(jpeg, text);
  }
  /// libjpeg goes on after damage with made-up pixels; a picture that is not what was stored is no
  /// answer. Other warnings (stray bytes between markers) leave the pixels right.
  static void on_message(j_common_ptr jpeg, int level) {
    if (level >= 0) return;
    const int code = jpeg->err->msg_code;
    if (code == JWRN_HIT_MARKER || code == JWRN_HUFF_BAD_CODE || code == JWRN_ARITH_BAD_CODE ||
        code == JWRN_JPEG_EOF || code == JWRN_MUST_RESYNC)
      on_error(jpeg);
  }
  static boolean on_empty(j_decompress_ptr jpeg) {
    stop(reinterpret_cast<j_common_ptr>(jpeg), "the file is truncated");
  }
  static void on_skip(j_decompress_ptr jpeg, long n) {
    if (n <= 0) return;
    if (static_cast<std::size_t>(n) > jpeg->src->bytes_in_buffer) on_empty(jpeg);
    jpeg->src->next_input_byte += n;
    jpeg->src->bytes_in_buffer -= static_cast<std::size_t>(n);
  }
  /// A progressive file can hold any number of scans, each a pass over the whole picture.
  static void on_progress(j_common_ptr jpeg) {
    if (reinterpret_cast<j_decompress_ptr>(jpeg)->input_scan_number > 500)
      stop(jpeg, "more than 500 progressive scans");
  }

  jpeg_decompress_struct jpeg_;
  jpeg_error_mgr errors_{};
  jpeg_source_mgr source_{};
  jpeg_progress_mgr progress_{};
  std::jmp_buf back_;
  char message_[JMSG_LENGTH_MAX] = "out of memory";
};

/// Pillow's rule for an inverted CMYK pixel: c' (255 - k') / 255 rounded, subtracted from 255 - k',
/// where the file holds 255 - c' and 255 - k'.
inline void cmyk_to_rgb(const std::uint8_t* cmyk, std::uint8_t* rgb, int width) {
  for (int x = 0; x < width; ++x, cmyk += 4, rgb += 3) {
    const int white = cmyk[3];
    for (int c = 0; c < 3; ++c) {
      const int product = (255 - cmyk[c]) * white + 128;
      rgb[c] = static_cast<std::uint8_t>(white - (((product >> 8) + product) >> 8));
    }
  }
}

inline image decode_jpeg(std::span<const std::byte> bytes, std::string_view who,
                         const image_limits& limits) {
  jpeg_reader reader(bytes);
  const auto stop = [&] { fail<io_error>(who, ": JPEG can't be read (", reader.message(), ")"); };
  if (!reader.read_header()) stop();
  check_image_size(reader.width(), reader.height(), limits, who);
  if (!reader.start()) stop();
  image picture = allocate_image(reader.width(), reader.height());
  const auto width = static_cast<std::size_t>(picture.width);
  std::vector<std::uint8_t> line(width * static_cast<std::size_t>(reader.components()));
  for (int y = 0; y < picture.height; ++y) {
    std::uint8_t* rgb = picture.row(y);
    if (!reader.read_row(reader.components() == 3 ? rgb : line.data())) stop();
    if (reader.components() == 1)
      for (std::size_t x = 0; x < width; ++x)
        rgb[3 * x] = rgb[3 * x + 1] = rgb[3 * x + 2] = line[x];
    if (reader.components() == 4) cmyk_to_rgb(line.data(), rgb, picture.width);
  }
  if (!reader.finish()) stop();
  return picture;
}

}  // namespace mlmamba::detail
