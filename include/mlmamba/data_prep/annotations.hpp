// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Lists of conversations: read, put together, shuffled and written as Python would.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_set>
#include <vector>

#include "mlmamba/data_prep/prepare.hpp"
#include "mlmamba/evaluate/python_random.hpp"
#include "mlmamba/io/json.hpp"
#include "mlmamba/io/mapped_file.hpp"
#include "mlmamba/io/write_file.hpp"
#include "mlmamba/train/conversation.hpp"
#include "mlmamba/train/llava.hpp"

namespace mlmamba::data_prep {

/// Pictures that a list names, and that are not there.
struct pictures_missing : io_error {
  using io_error::io_error;
};

namespace detail {

/// json.dumps of what a JSON text says: ", " and ": " between values, keys in their order, \u for
/// all but ASCII; NaN and infinities stay the bare words that they are there. Floats are written
/// with the fewest digits that give them back, which is Python's rule too; their exponents may look
/// different. `text` is one that parse_json takes.
inline void append_python_json(std::string_view text, std::string& to) {
  constexpr std::string_view blank = " \t\r\n";
  for (std::size_t i = 0; i < text.size();) {
    const char c = text[i];
    std::size_t end = i + 1;
    if (c == ',' || c == ':') {
      to.append(1, c).append(1, ' ');
    } else if (std::string_view("{}[]").find(c) != std::string_view::npos) {
      to += c;
    } else if (blank.find(c) == std::string_view::npos) {
      if (c == '"') {
        while (end < text.size() && text[end] != '"') end += text[end] == '\\' ? 2 : 1;
        end = std::min(end + 1, text.size());
      } else {
        end = std::min(text.find_first_of(",:{}[]\" \t\r\n", i), text.size());
      }
      const std::string_view token = text.substr(i, end - i);
      if (token == "NaN" || token == "Infinity" || token == "-Infinity")
        to += token;
      else
        to += parse_json(token, "a record").dump(-1, ' ', true);
    }
    i = end;
  }
}

/// Counts pictures below a folder that are not there; each path is looked for once.
class picture_search {
 public:
  explicit picture_search(std::filesystem::path folder) : folder_(std::move(folder)) {}
  void look_for(const std::string& picture) {
    if (picture.empty() || !seen_.insert(picture).second) return;
    std::error_code code;
    if (std::filesystem::is_regular_file(folder_ / picture, code)) return;
    if (missing_++ == 0) first_ = picture;
  }
  /// Errors    pictures_missing naming the first
  void check(const std::string& who) const {
    if (missing_ > 0)
      fail<pictures_missing>(who, ": ", missing_, " of its ", seen_.size(), " pictures are not in ",
                             folder_.string(), "; the first is ", first_);
  }

 private:
  std::filesystem::path folder_;
  std::unordered_set<std::string> seen_;
  std::size_t missing_ = 0;
  std::string first_;
};

}  // namespace detail

/// A list of conversations in a file: each checked to be one that training reads, none copied.
class annotation_file {
 public:
  /// Errors    io_error naming file and record
  explicit annotation_file(const std::filesystem::path& path) : who_(path.string()), file_(path) {
    train::detail::for_each_record(file_.text(), who_, [&](std::uint64_t i, std::string_view text) {
      const std::string here = who_ + ": record " + std::to_string(i);
      const json record = parse_json(text, here);
      (void)train::read_turns(record, here);
      records_.push_back(text);
      pictures_.push_back(train::checked_picture(record, here));
    });
  }
  const std::vector<std::string_view>& records() const { return records_; }
  const std::vector<std::string>& pictures() const { return pictures_; }  ///< "": none
  /// Errors    pictures_missing
  void check_pictures(const std::filesystem::path& folder) const {
    detail::picture_search search(folder);
    for (const std::string& p : pictures_) search.look_for(p);
    search.check(who_);
  }

 private:
  std::string who_;
  mapped_file file_;
  std::vector<std::string_view> records_;
  std::vector<std::string> pictures_;
};

/// Writes records as json.dump does, in one line; the file appears whole.
inline void write_annotations(const std::filesystem::path& path,
                              const std::vector<std::string_view>& records) {
  detail::write_aside(path, [&](const std::filesystem::path& to) {
    atomic_file file(to);
    std::string text = "[";
    for (std::size_t i = 0; i < records.size(); ++i) {
      if (i > 0) text += ", ";
      detail::append_python_json(records[i], text);
      if (text.size() < std::size_t{1} << 20) continue;
      file.append(text);
      text.clear();
    }
    text += "]";
    file.append(text);
    file.commit();
  });
}

/// random.shuffle(records), three times, as the authors did "for good measure".
inline void shuffle_thrice(std::vector<std::string_view>& records,
                           evaluate::python_random& random) {
  for (int i = 0; i < 3; ++i) random.shuffle(records);
}

}  // namespace mlmamba::data_prep
