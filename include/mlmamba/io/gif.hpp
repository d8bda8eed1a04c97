// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The first frame of a GIF, by giflib: present where MLMAMBA_GIF is set (the target mlmamba::gif).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#if defined(MLMAMBA_GIF)
#include <gif_lib.h>
#endif

#include "mlmamba/core/error.hpp"
#include "mlmamba/io/pixels.hpp"

namespace mlmamba {

inline bool is_gif(std::span<const std::byte> bytes) {
  constexpr std::array<std::uint8_t, 4> magic{'G', 'I', 'F', '8'};
  return detail::begins_with(bytes, magic);
}

#if defined(MLMAMBA_GIF)
namespace detail {

/// giflib's handle over bytes in memory. It reports errors by return values.
class gif_reader {
 public:
  explicit gif_reader(std::span<const std::byte> bytes) : rest_(bytes) {
    gif_ = DGifOpen(this, &on_read, &error_);
  }
  gif_reader(const gif_reader&) = delete;
  gif_reader& operator=(const gif_reader&) = delete;
  ~gif_reader() {
    if (gif_ != nullptr) DGifCloseFile(gif_, nullptr);
  }
  GifFileType* get() { return gif_; }
  const char* message() const {
    const char* text = GifErrorString(gif_ != nullptr && gif_->Error != 0 ? gif_->Error : error_);
    return text != nullptr ? text : "it ends too early";
  }

 private:
  static int on_read(GifFileType* gif, GifByteType* to, int n) {
    auto* self = static_cast<gif_reader*>(gif->UserData);
    const std::size_t part = std::min<std::size_t>(self->rest_.size(), std::size_t(std::max(n, 0)));
    if (part > 0) std::memcpy(to, self->rest_.data(), part);
    self->rest_ = self->rest_.subspan(part);
    return int(part);
  }

  std::span<const std::byte> rest_;
  GifFileType* gif_ = nullptr;
  int error_ = 0;
};

}  // namespace detail

/// Decodes the first frame of a GIF to 8-bit RGB with the pixels that Pillow's convert("RGB")
/// gives: on the screen's size, around the frame and where it is transparent the transparent colour
/// of the palette, else the first one.
///
/// Errors    io_error if it is truncated or corrupt, has no frame or no palette, or exceeds the
///           limits
inline image decode_gif(std::span<const std::byte> bytes, std::string_view who,
                        const image_limits& limits = {}) {
  detail::gif_reader reader(bytes);
  GifFileType* gif = reader.get();
  const auto stop = [&] { fail<io_error>(who, ": GIF can't be read (", reader.message(), ")"); };
  if (gif == nullptr) stop();
  int transparent = -1;
  for (;;) {
    GifRecordType kind{};
    if (DGifGetRecordType(gif, &kind) != GIF_OK) stop();
    if (kind == TERMINATE_RECORD_TYPE)
      fail<io_error>(who, ": a GIF without a frame; one is wanted");
    if (kind == IMAGE_DESC_RECORD_TYPE) break;
    if (kind != EXTENSION_RECORD_TYPE) continue;
    int code = 0;
    GifByteType* data = nullptr;
    if (DGifGetExtension(gif, &code, &data) != GIF_OK) stop();
    GraphicsControlBlock control{};
    if (code == GRAPHICS_EXT_FUNC_CODE && data != nullptr &&
        DGifExtensionToGCB(data[0], data + 1, &control) == GIF_OK)
      transparent = control.TransparentColor;
    while (data != nullptr)
      if (DGifGetExtensionNext(gif, &data) != GIF_OK) stop();
  }
  if (DGifGetImageDesc(gif) != GIF_OK) stop();
  const GifImageDesc& frame = gif->Image;
  const int left = frame.Left, top = frame.Top, width = frame.Width, height = frame.Height;
  if (left < 0 || top < 0 || width <= 0 || height <= 0)
    fail<io_error>(who, ": a GIF frame of ", width, " x ", height, "; at least 1 x 1 is wanted");
  const int all_width = std::max(gif->SWidth, left + width);  // a frame may leave the screen
  const int all_height = std::max(gif->SHeight, top + height);
  detail::check_image_size(std::uint64_t(all_width), std::uint64_t(all_height), limits, who);
  const ColorMapObject* map = frame.ColorMap != nullptr ? frame.ColorMap : gif->SColorMap;
  if (map == nullptr || map->ColorCount <= 0)
    fail<io_error>(who, ": a GIF without a palette; one is wanted");
  std::array<std::array<std::uint8_t, 3>, 256> palette{};  // black where the file's ends
  for (int i = 0; i < std::min(map->ColorCount, 256); ++i)
    palette[std::size_t(i)] = {map->Colors[i].Red, map->Colors[i].Green, map->Colors[i].Blue};

  image picture = detail::allocate_image(std::uint64_t(all_width), std::uint64_t(all_height));
  const auto put = [&](int x, int y, std::size_t colour) {
    std::copy_n(palette[colour].data(), 3, picture.row(y) + 3 * x);
  };
  const std::size_t around = transparent < 0 ? 0 : std::size_t(transparent) % 256;
  for (int y = 0; y < all_height; ++y)
    for (int x = 0; x < all_width; ++x) put(x, y, around);
  std::vector<GifPixelType> line(static_cast<std::size_t>(width));
  const auto read_line = [&](int y) {
    if (DGifGetLine(gif, line.data(), width) != GIF_OK) stop();
    for (int x = 0; x < width; ++x) put(left + x, top + y, line[std::size_t(x)]);
  };
  // interlaced: every 8th line from 0 and from 4, every 4th from 2, every 2nd from 1
  constexpr std::array<std::array<int, 2>, 4> passes{{{0, 8}, {4, 8}, {2, 4}, {1, 2}}};
  if (frame.Interlace) {
    for (const auto& [first, step] : passes)
      for (int y = first; y < height; y += step) read_line(y);
  } else {
    for (int y = 0; y < height; ++y) read_line(y);
  }
  return picture;
}
#endif

}  // namespace mlmamba
