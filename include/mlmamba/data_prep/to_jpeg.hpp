// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A folder of pictures in several formats, of which the annotations know JPEG files alone.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mlmamba/data_prep/prepare.hpp"
#include "mlmamba/io/gif.hpp"
#include "mlmamba/io/image.hpp"
#include "mlmamba/io/jpeg_write.hpp"
#include "mlmamba/io/mapped_file.hpp"
#include "mlmamba/io/progress.hpp"
#include "mlmamba/io/write_file.hpp"

namespace mlmamba::data_prep {

struct conversion {
  std::size_t converted = 0;
  std::vector<std::string> failed;  ///< one line for each picture that can't be
};

namespace detail {

/// By what is in the file: suffixes of pictures from the web are often wrong.
inline image read_any_picture(const fs::path& path) {
  const mapped_file file(path);
  if (is_gif(file.bytes())) {
#if defined(MLMAMBA_GIF)
    return decode_gif(file.bytes(), path.string());
#else
    fail<io_error>(path.string(),
                   ": a GIF, and this program was built without giflib (libgif-dev)");
#endif
  }
  return decode_image(file.bytes(), path.string());
}

inline std::string lower_suffix(const fs::path& path) {
  std::string suffix = path.extension().string();
  for (char& c : suffix)
    if (c >= 'A' && c <= 'Z') c = char(c + 32);
  return suffix;
}

}  // namespace detail

/// Writes NAME.jpg beside each NAME.png and NAME.gif (its first frame) that has none; the originals
/// stay. JPEG files are left alone. Each file appears whole, so a killed call is continued by the
/// next. The original stops at the first file that is not a picture; here the others are converted
/// all the same, and what failed is said.
///
/// Errors    io_error if the folder can't be read or written
inline conversion convert_to_jpeg(const std::filesystem::path& folder, std::FILE* shown = nullptr) {
  namespace fs = std::filesystem;
  const fs::path aside = detail::beside(folder, ".converting");
  detail::remove_tree(aside);
  std::vector<fs::path> wanted;
  conversion out;
  for (const auto& e : detail::entries_of(folder)) {
    const std::string suffix = detail::lower_suffix(e.path());
    if (suffix == ".jpg" || suffix == ".jpeg") continue;
    if (fs::exists(fs::path(e.path()).replace_extension(".jpg"))) continue;
    if (suffix == ".gif" || suffix == ".png") {
      wanted.push_back(e.path());
    } else {
      out.failed.push_back(e.path().string() + ": a .jpg, .jpeg, .png or .gif is wanted");
    }
  }
  if (wanted.empty()) return out;
  std::sort(wanted.begin(), wanted.end());  // of NAME.gif and NAME.png the first, on every disk
  mlmamba::detail::make_folder(aside);
  std::optional<progress> bar;
  const auto total = static_cast<index_t>(wanted.size());
  if (shown != nullptr)
    bar.emplace("to JPEG", total, 0, std::max<index_t>(total / 10, 100), shown,
                progress_unit{1, "files"});
  for (const fs::path& path : wanted) {
    const fs::path name = path.stem().string() + ".jpg";
    if (fs::exists(folder / name)) continue;
    std::optional<image> picture;
    try {
      picture = detail::read_any_picture(path);
    } catch (const io_error& e) {
      out.failed.push_back(e.what());
    }
    if (picture) {
      write_file(aside / name, encoded_jpeg(*picture, path.string()).bytes());
      detail::move_path(aside / name, folder / name);
      ++out.converted;
    }
    if (bar) (*bar)(static_cast<index_t>(out.converted + out.failed.size()), "");
  }
  detail::remove_tree(aside);
  return out;
}

}  // namespace mlmamba::data_prep
