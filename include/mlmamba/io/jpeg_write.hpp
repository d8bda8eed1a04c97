// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Pictures to JPEG files, as Pillow's save() writes them when it is told no more than the name.
#pragma once

#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstdio>  // jpeglib.h needs FILE and size_t
#include <cstdlib>
#include <cstring>
#include <span>
#include <string_view>

#include <jpeglib.h>

#include "mlmamba/core/error.hpp"
#include "mlmamba/io/pixels.hpp"

namespace mlmamba {

/// A JPEG file in memory: quality 75, colour at half the resolution (4:2:0), baseline.
///
/// Errors    shape_error for a picture without pixels; io_error if it exceeds JPEG's 65,500 a side
class encoded_jpeg {
 public:
  encoded_jpeg(const image& picture, std::string_view who) {
    if (picture.width <= 0 || picture.height <= 0 ||
        picture.rgb.size() != picture.row_bytes() * std::size_t(picture.height))
      fail<shape_error>(who, ": a picture of ", picture.width, " x ", picture.height, " with ",
                        picture.rgb.size(), " bytes; 3 for each pixel are wanted");
    std::memset(&jpeg_, 0, sizeof jpeg_);
    jpeg_.err = jpeg_std_error(&errors_);
    errors_.error_exit = on_error;
    errors_.output_message = [](j_common_ptr) {};
    jpeg_.client_data = this;
    if (!encode(picture)) {
      release();
      fail<io_error>(who, ": ", picture.width, " x ", picture.height, " can't be written as JPEG (",
                     message_, ")");
    }
  }
  encoded_jpeg(const encoded_jpeg&) = delete;
  encoded_jpeg& operator=(const encoded_jpeg&) = delete;
  ~encoded_jpeg() { release(); }

  std::span<const std::byte> bytes() const {
    return {reinterpret_cast<const std::byte*>(bytes_), std::size_t(size_)};
  }

 private:
  /// libjpeg leaves by longjmp: nothing here needs cleaning that `release` doesn't do.
  bool encode(const image& picture) {
    if (setjmp(back_) != 0) return false;
    jpeg_create_compress(&jpeg_);
    jpeg_mem_dest(&jpeg_, &bytes_, &size_);
    jpeg_.image_width = static_cast<JDIMENSION>(picture.width);
    jpeg_.image_height = static_cast<JDIMENSION>(picture.height);
    jpeg_.input_components = 3;
    jpeg_.in_color_space = JCS_RGB;
    jpeg_set_defaults(&jpeg_);  // quality 75, 4:2:0
    jpeg_start_compress(&jpeg_, TRUE);
    while (jpeg_.next_scanline < jpeg_.image_height) {
      auto* row = const_cast<JSAMPLE*>(picture.row(static_cast<int>(jpeg_.next_scanline)));
      jpeg_write_scanlines(&jpeg_, &row, 1);
    }
    jpeg_finish_compress(&jpeg_);
    return true;
  }
  void release() {
    jpeg_destroy_compress(&jpeg_);
    std::free(bytes_);
    bytes_ = nullptr;
  }
  [[noreturn]] static void on_error(j_common_ptr jpeg) {
    auto* self = static_cast<encoded_jpeg*>(jpeg->client_data);
    jpeg->err->format_message(jpeg, self->message_);
    std::longjmp(self->back_, 1);
  }

  jpeg_compress_struct jpeg_;
  jpeg_error_mgr errors_{};
  std::jmp_buf back_;
  char message_[JMSG_LENGTH_MAX] = "out of memory";
  unsigned char* bytes_ = nullptr;
  unsigned long size_ = 0;
};

}  // namespace mlmamba
