// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Writes a garment data set: PNG pictures and LLaVA-style JSON. Needs libpng and zlib.
#pragma once

#include <png.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include "mlmamba/io/output_folder.hpp"
#include "mlmamba/io/write_file.hpp"
#include "mlmamba/train/garment/scene.hpp"

namespace mlmamba::train::garment {

namespace detail {

/// A square grey picture as 8-bit grey PNG bytes, a third of what io's RGB writer would make;
/// little compression, as noise does not shrink anyway.
inline std::vector<std::uint8_t> grey_png(const std::vector<std::uint8_t>& pixels, int size) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = image.height = static_cast<png_uint_32>(size);
  image.format = PNG_FORMAT_GRAY;
  image.flags = PNG_IMAGE_FLAG_FAST;
  std::vector<std::uint8_t> out(PNG_IMAGE_PNG_SIZE_MAX(image));
  png_alloc_size_t bytes = out.size();
  if (!png_image_write_to_memory(&image, out.data(), &bytes, 0, pixels.data(), 0, nullptr))
    fail<io_error>("garment: libpng could not encode a picture (", image.message, ")");
  out.resize(bytes);
  return out;
}

// Complete or not there, but not synced as atomic_file is: a sync for each of 100,000 pictures
// would take the time of the rest many times over. The JSON, written last and synced, says that a
// set is complete.
inline void write_picture(const std::string& path, const std::vector<std::uint8_t>& bytes) {
  const std::string aside = path + ".tmp";
  std::FILE* file = std::fopen(aside.c_str(), "wb");
  if (!file)
    fail<io_error>("garment: \"", aside, "\" cannot be created; a writable folder is wanted");
  const bool whole = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  if (std::fclose(file) != 0 || !whole) {
    std::remove(aside.c_str());
    fail<io_error>("garment: \"", aside, "\" could not be written whole; is the disk full?");
  }
  if (std::rename(aside.c_str(), path.c_str()) != 0) {
    std::remove(aside.c_str());
    fail<io_error>("garment: \"", aside, "\" cannot be renamed to \"", path, "\"");
  }
}

inline std::string digits(std::uint64_t value, int least) {
  std::string text = std::to_string(value);
  return text.size() < static_cast<std::size_t>(least)
             ? std::string(static_cast<std::size_t>(least) - text.size(), '0') + text
             : text;
}

}  // namespace detail

/// Where the picture of a scene lies below the data set's folder: "train/00012/00012345.png".
inline std::string picture_path(split which, std::uint64_t index) {
  return std::string(name_of(which)) + '/' + detail::digits(index / 1000, 5) + '/' +
         detail::digits(index, 8) + ".png";
}

/// The JSON records of a scene, separated by ",\n"; empty if it has no question. All texts are the
/// generator's own: letters, digits and plain punctuation, so nothing needs escaping.
///
/// train     one record, all questions as turns of one conversation; the first has the picture
/// test      one record per question, with "type", "kind", "answer", and for presence "negative"
inline std::string records_of(const scene& s) {
  const std::string id = std::string(name_of(s.which)) + '-' + detail::digits(s.index, 8);
  const auto head = [&](const std::string& suffix) {
    return "{\"id\": \"" + id + suffix + "\", \"image\": \"" + picture_path(s.which, s.index) +
           "\", \"conversations\": [";
  };
  const auto turn = [](const question& q, bool first) {
    return std::string("{\"from\": \"human\", \"value\": \"") + (first ? "<image>\\n" : "") +
           q.text + "\"}, {\"from\": \"gpt\", \"value\": \"" + q.answer + "\"}";
  };
  if (s.questions.empty()) return {};
  std::string out;
  if (s.which == split::train) {
    out = head("");
    for (std::size_t i = 0; i < s.questions.size(); ++i)
      out += (i ? ", " : "") + turn(s.questions[i], i == 0);
    return out + "]}";
  }
  for (std::size_t i = 0; i < s.questions.size(); ++i) {
    const question& q = s.questions[i];
    out += (i ? ",\n" : "") + head('-' + std::to_string(i)) + turn(q, true) + "], \"type\": \"" +
           question_type_names[static_cast<std::size_t>(q.type)] + "\", \"kind\": \"" + q.kind +
           "\", \"answer\": \"" + q.answer + '"';
    if (q.type == question_type::presence) out += std::string(", \"negative\": \"") + q.kind + '"';
    out += '}';
  }
  return out;
}

/// What was written: questions by type, and the yes among those on presence.
struct written {
  std::uint64_t scenes = 0, garments = 0;
  std::array<std::uint64_t, question_type_count> questions{};
  std::uint64_t yes = 0;
};

/// Writes scenes 0 .. count - 1 into `folder`: pictures (picture_path), then SPLIT.recipe.json (how
/// to make it again, and its counts) and SPLIT.json. The bytes do not depend on `threads`.
/// `progress(done)` is called under a lock, from any thread, after each block of scenes.
///
/// Errors    error for options out of range; io_error if something can't be written. SPLIT.json is
///           then absent, or still the old one, and folders that were not there are not there.
inline written write_scenes(const source& photos, const std::filesystem::path& folder,
                            std::uint64_t count, std::uint64_t seed, const options& want,
                            int threads, const std::function<void(std::uint64_t)>& progress) {
  want.check();
  if (threads < 1) fail<error>("garment: threads is ", threads, "; at least 1 is wanted");
  output_folder made(folder), pictures(folder / name_of(photos.which));
  for (std::uint64_t first = 0; first < count; first += 1000) {
    std::error_code code;
    const auto below = folder / picture_path(photos.which, first);
    std::filesystem::create_directories(below.parent_path(), code);
    if (code)
      fail<io_error>("garment: \"", below.parent_path().string(), "\" cannot be made (",
                     code.message(), "); a writable folder is wanted");
  }
  const std::string name = name_of(photos.which);
  atomic_file json(folder / (name + ".json"));
  json.append("[\n");

  constexpr std::uint64_t block = 64;
  const std::uint64_t blocks = (count + block - 1) / block;
  std::atomic<std::uint64_t> next{0};
  std::mutex lock;
  std::map<std::uint64_t, std::string> waiting;  // finished blocks, until their turn
  std::uint64_t flushed = 0;
  bool first_record = true;
  std::exception_ptr trouble;
  written sum;

  const auto work = [&] {
    try {
      for (std::uint64_t b; (b = next++) < blocks;) {
        std::string records;
        written own;
        for (std::uint64_t i = b * block; i < std::min(count, (b + 1) * block); ++i) {
          const scene s = make_scene(photos, seed, i, want);
          detail::write_picture((folder / picture_path(s.which, i)).string(),
                                detail::grey_png(s.pixels, s.size));
          const std::string text = records_of(s);
          if (!text.empty()) records += (records.empty() ? "" : ",\n") + text;
          ++own.scenes;
          own.garments += s.objects.size();
          for (const question& q : s.questions) {
            ++own.questions[static_cast<std::size_t>(q.type)];
            own.yes += q.type == question_type::presence && q.answer == "yes";
          }
        }
        const std::lock_guard<std::mutex> hold(lock);
        sum.scenes += own.scenes;
        sum.garments += own.garments;
        sum.yes += own.yes;
        for (std::size_t t = 0; t < own.questions.size(); ++t) sum.questions[t] += own.questions[t];
        waiting[b] = std::move(records);
        for (auto at = waiting.begin(); at != waiting.end() && at->first == flushed;
             at = waiting.erase(at), ++flushed) {
          if (at->second.empty()) continue;
          if (!first_record) json.append(",\n");
          first_record = false;
          json.append(at->second);
        }
        if (progress) progress(sum.scenes);
      }
    } catch (...) {
      next = blocks;  // the others stop after their block
      const std::lock_guard<std::mutex> hold(lock);
      if (!trouble) trouble = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> crew;  // joined at the end of this block
    try {
      for (int t = 1; t < threads; ++t) crew.emplace_back(work);
    } catch (const std::system_error&) {  // the system gives no more threads: fewer do it all
    }
    work();
  }
  if (trouble) std::rethrow_exception(trouble);

  std::string recipe = "{\"program\": \"garment_data\", \"split\": \"" + name +
                       "\", \"seed\": " + std::to_string(seed) +
                       ", \"scenes\": " + std::to_string(count);
  const auto entry = [&](const char* key, std::uint64_t value) {
    recipe += std::string(", \"") + key + "\": " + std::to_string(value);
  };
  const auto option = [&](const char* key, int value) {
    entry(key, static_cast<std::uint64_t>(value));
  };
  option("size", want.size);
  option("turns", want.turns);
  option("min_scale", want.min_scale);
  option("max_scale", want.max_scale);
  option("jitter", want.jitter);
  option("dark_on_light", want.dark_on_light);
  option("min_contrast", want.min_contrast);
  option("max_noise", want.max_noise);
  for (std::size_t t = 0; t < want.weights.size(); ++t)
    recipe += std::string(t ? ", \"" : ", \"weights\": {\"") + question_type_names[t] +
              "\": " + std::to_string(want.weights[t]);
  for (std::size_t t = 0; t < sum.questions.size(); ++t)
    recipe += std::string(t ? ", \"" : "}, \"questions\": {\"") + question_type_names[t] +
              "\": " + std::to_string(sum.questions[t]);
  recipe += "}";
  entry("presence_yes", sum.yes);
  entry("garments", sum.garments);
  write_file(folder / (name + ".recipe.json"), recipe + "}\n");
  json.append("\n]\n");
  json.commit();
  made.keep(), pictures.keep();
  return sum;
}

}  // namespace mlmamba::train::garment
