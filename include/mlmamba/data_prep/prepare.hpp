// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// One component of a data set: fetched, extracted, under its final name or not there.
#pragma once

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "mlmamba/data_prep/components.hpp"
#include "mlmamba/io/fetch_files.hpp"
#include "mlmamba/io/write_file.hpp"
#include "mlmamba/io/zip_extract.hpp"

namespace mlmamba::data_prep {

namespace detail {

namespace fs = std::filesystem;

inline void check(const std::error_code& code, const fs::path& path, const char* what) {
  if (code) fail<io_error>(path.string(), ": can't ", what, " it (", code.message(), ")");
}
inline void move_path(const fs::path& from, const fs::path& to) {
  std::error_code code;
  fs::rename(from, to, code);
  check(code, to, "rename something to");
}
inline void remove_tree(const fs::path& path) {
  std::error_code code;
  fs::remove_all(path, code);
  check(code, path, "remove");
}
inline std::vector<fs::directory_entry> entries_of(const fs::path& folder) {
  std::error_code code;
  fs::directory_iterator at(folder, code);
  std::vector<fs::directory_entry> all;
  for (; !code && at != fs::directory_iterator(); at.increment(code)) all.push_back(*at);
  check(code, folder, "read");
  return all;
}
/// A file, or a folder with something in it.
inline bool there(const fs::path& path) {
  std::error_code code;
  return fs::is_directory(path, code) ? !entries_of(path).empty() : fs::exists(path, code);
}
/// Beside `path`, hidden: what is not yet `path`.
inline fs::path beside(const fs::path& path, const char* suffix) {
  return path.parent_path() / ("." + path.filename().string() + suffix);
}

/// Has the last call that made `path` come to its end? Removes what one that was killed left.
inline bool made_before(const fs::path& path) {
  if (!there(path)) return false;
  for (const char* suffix : {".extracting", ".writing"}) remove_tree(beside(path, suffix));
  return true;
}

/// Lets `write` make a file at a path that is then moved to `path`: it is not there or whole, and a
/// killed call leaves nothing that the next one does not remove.
template <class F>
void write_aside(const fs::path& path, F&& write) {
  const fs::path aside = beside(path, ".writing");
  remove_tree(aside);
  mlmamba::detail::make_folder(aside);
  write(aside / path.filename());
  move_path(aside / path.filename(), path);
  remove_tree(aside);
}

/// The folder that an archive is about: the only one, in the only one, and so on.
inline fs::path innermost_only_folder(fs::path folder) {
  for (;;) {
    const auto in = entries_of(folder);
    if (in.size() != 1 || !in[0].is_directory()) return folder;
    folder = in[0].path();
  }
}

/// Moves what is in `from` to `to`; folders that are there take in what is new. Each step is one
/// rename, so that whoever is stopped can begin again.
inline void merge_into(const fs::path& from, const fs::path& to) {
  for (const auto& e : entries_of(from)) {
    const fs::path target = to / e.path().filename();
    if (e.is_directory() && fs::is_directory(target)) {
      merge_into(e.path(), target);
    } else {
      move_path(e.path(), target);
    }
  }
  remove_tree(from);
}

/// Folders alone may be merged, and none that hides: an archive can't replace a list or a marker.
inline void check_merged(const fs::path& from, const std::string& who) {
  for (const auto& e : entries_of(from))
    if (!e.is_directory() || e.path().filename().string().starts_with('.'))
      fail<io_error>(who, ": \"", e.path().filename().string(),
                     "\" at its top; folders of pictures are wanted");
}

}  // namespace detail

/// Makes a component of the data set in `folder` if it isn't there. Returns whether it had to.
///
///   file     the archive, renamed
///   folder   ARCHIVE is extracted to .NAME.extracting beside NAME, and becomes NAME by one rename
///   merged   likewise, but moved folder by folder; .NAME.complete says that all are there
///
/// Archives are kept. A killed call is continued by the next: a download where it broke off, an
/// extraction with the files that are whole.
///
/// Unlike the original, which unpacks in place, extracts the merged one on each run, takes a half
/// download for a whole, and would use GQA's images.zip as Visual Genome's.
///
/// Errors    io_error
inline bool prepare(const component& c, const std::filesystem::path& folder, const fetcher& fetch) {
  namespace fs = std::filesystem;
  const fs::path made = folder / c.name, archive = folder / c.archive;
  const fs::path aside = detail::beside(made, ".extracting");
  const fs::path marker = detail::beside(made, ".complete");
  const bool merged = c.kind == component_kind::merged;
  if (detail::made_before(merged ? marker : made)) return false;
  mlmamba::detail::make_folder(made.parent_path());
  if (!detail::there(archive)) {
    if (c.address.empty())
      fail<io_error>(made.string(), ": not there, and to be fetched by hand: the README of ",
                     "github.com/FuxiaoLiu/LRV-Instruction says where it is",
                     c.kind == component_kind::file
                         ? ""
                         : "; a folder, or " + archive.string() + ", is wanted");
    fetch(c.address, archive);
  }
  fetcher::forget(archive);
  if (c.kind == component_kind::file) {
    if (archive != made) detail::move_path(archive, made);
    return true;
  }
  zip_extract_options how;
  how.progress = fetch.options().progress;
  if (merged) how.also = folder;
  try {
    extract_zip(archive, aside, how);
  } catch (const zip_error& e) {
    fail<io_error>(e.what(), "; remove ", archive.string(), " to have it fetched again");
  }
  if (merged) {
    detail::check_merged(aside, archive.string());
    detail::merge_into(aside, folder);
    detail::write_aside(marker,
                        [&](const fs::path& to) { write_file(to, std::string(c.archive) + "\n"); });
  } else {
    detail::move_path(detail::innermost_only_folder(aside), made);
    detail::remove_tree(aside);
  }
  return true;
}

}  // namespace mlmamba::data_prep
