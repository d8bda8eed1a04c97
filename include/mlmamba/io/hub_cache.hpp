// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Hugging Face's cache of downloaded files: where it is, what lies where, and the token.
#pragma once

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "mlmamba/core/error.hpp"
#include "mlmamba/io/write_file.hpp"

namespace mlmamba {

namespace detail {

inline std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

/// The folder that a variable names, else `fallback`.
inline std::filesystem::path folder_of(const char* variable, const std::filesystem::path& or_else) {
  const std::string value = environment(variable);
  if (value.empty()) return or_else;
  if (value.starts_with("~/")) return std::filesystem::path(environment("HOME")) / value.substr(2);
  return value;
}

inline std::filesystem::path user_cache() {
  return folder_of("XDG_CACHE_HOME", std::filesystem::path(environment("HOME")) / ".cache");
}
inline std::filesystem::path hugging_face_home() {
  return folder_of("HF_HOME", user_cache() / "huggingface");
}

inline bool is_hex(std::string_view text, std::size_t digits) {
  return text.size() == digits &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

/// A name of parts between slashes that can't lead out of a folder, nor be taken for an option.
inline bool is_safe_path(std::string_view path) {
  if (path.empty() || path.size() > 1024 || path.back() == '/') return false;
  for (char c : path)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f || c == '\\') return false;
  while (!path.empty()) {
    const std::string_view part = path.substr(0, path.find('/'));
    if (part.empty() || part == "." || part == ".." || part.size() > 250) return false;
    path.remove_prefix(std::min(part.size() + 1, path.size()));
  }
  return true;
}

inline bool is_repository(std::string_view name) {
  constexpr std::string_view letters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
  const auto slash = name.find('/');
  if (slash == std::string_view::npos || name.size() > 200) return false;
  for (std::string_view part : {name.substr(0, slash), name.substr(slash + 1)})
    if (part.empty() || part.find_first_not_of(letters) != std::string_view::npos ||
        part.front() == '.' || part.front() == '-' || part.find("..") != std::string_view::npos ||
        part.find("--") != std::string_view::npos)
      return false;
  return true;
}

/// The first line of a small file, without what surrounds it; "" if there is none.
inline std::string first_line(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  char part[4096];
  file.read(part, sizeof part);
  line.assign(part, static_cast<std::size_t>(file.gcount()));
  line = line.substr(0, line.find('\n'));
  const auto begin = line.find_first_not_of(" \t\r"), end = line.find_last_not_of(" \t\r");
  return begin == std::string::npos ? "" : line.substr(begin, end - begin + 1);
}

/// Holds a lock file as long as it lives, as Hugging Face's own programs do: two that want the
/// same file don't write it at once.
class file_lock {
 public:
  explicit file_lock(const std::filesystem::path& path)
      : file_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
    if (file_ < 0) fail<io_error>(path.string(), ": can't create it (", std::strerror(errno), ")");
    while (::flock(file_, LOCK_EX) != 0 && errno == EINTR) {
    }
  }
  file_lock(const file_lock&) = delete;
  file_lock& operator=(const file_lock&) = delete;
  ~file_lock() { ::close(file_); }

 private:
  int file_;
};

inline void make_folder(const std::filesystem::path& folder) {
  std::error_code code;
  std::filesystem::create_directories(folder, code);
  if (code) fail<io_error>(folder.string(), ": can't create it (", code.message(), ")");
}

/// Makes or replaces a symbolic link in one step.
inline void make_link(const std::filesystem::path& target, const std::filesystem::path& link) {
  std::filesystem::path aside = link;
  aside += ".tmp" + std::to_string(::getpid());
  std::error_code code;
  std::filesystem::remove(aside, code);
  std::filesystem::create_symlink(target, aside, code);
  if (!code) std::filesystem::rename(aside, link, code);
  if (code) fail<io_error>(link.string(), ": can't make the link (", code.message(), ")");
}

}  // namespace detail

/// Where Hugging Face's programs keep what they download: HF_HUB_CACHE, else hub in HF_HOME, else
/// huggingface/hub in XDG_CACHE_HOME, else in ~/.cache.
inline std::filesystem::path default_hub_cache() {
  const auto named =
      detail::folder_of("HUGGINGFACE_HUB_CACHE", detail::hugging_face_home() / "hub");
  return detail::folder_of("HF_HUB_CACHE", named);
}

/// The token of the hub, "" if there is none. `from`, if given, is a file with the token in it or
/// the name of a variable. Else: HF_TOKEN, the file .hf_token here, the file that Hugging Face's
/// login leaves (HF_TOKEN_PATH, HF_HOME/token, ~/.cache/huggingface/token).
///
/// Errors    io_error if `from` is neither, or a token has a sign that no token has; the message
///           does not repeat it
inline std::string find_hub_token(const std::string& from = "") {
  std::string token;
  std::error_code ignored;
  if (!from.empty()) {
    token = std::filesystem::is_regular_file(from, ignored) ? detail::first_line(from)
                                                            : detail::environment(from.c_str());
    if (token.empty())
      fail<io_error>("token: \"", from, "\" is neither a file with a token nor a variable that is ",
                     "set; one of these is wanted");
  }
  for (const char* variable : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"})
    if (token.empty()) token = detail::environment(variable);
  if (token.empty()) token = detail::first_line(".hf_token");
  if (token.empty())
    token = detail::first_line(
        detail::folder_of("HF_TOKEN_PATH", detail::hugging_face_home() / "token"));
  for (char c : token)
    if (c <= 0x20 || c > 0x7e)
      fail<io_error>("token: it has a space or a sign that no token has; a line of letters, ",
                     "digits and _ is wanted");
  return token;
}

/// One repository in the cache:
///
///   models--ORG--NAME/refs/REVISION              the commit that a branch had when it was asked
///   for models--ORG--NAME/blobs/HASH                 files by content; HASH.incomplete: a
///   beginning models--ORG--NAME/snapshots/COMMIT/FILE      links to blobs
///
/// Errors    io_error if the repository is not "organisation/name"
class hub_repository {
 public:
  hub_repository(const std::filesystem::path& cache, std::string_view name) : name_(name) {
    if (!detail::is_repository(name))
      fail<io_error>("repository \"", name.substr(0, 200), "\"; organisation/name is wanted");
    std::string folder = "models--" + name_;
    folder.replace(folder.find('/'), 1, "--");
    folder_ = cache / folder;
    locks_ = cache / ".locks" / folder;
  }

  const std::string& name() const { return name_; }
  std::filesystem::path blob(const std::string& hash) const { return folder_ / "blobs" / hash; }
  std::filesystem::path snapshot(const std::string& commit) const {
    return folder_ / "snapshots" / commit;
  }
  std::filesystem::path lock(const std::string& hash) const { return locks_ / (hash + ".lock"); }

  /// The commit that a revision (a branch, or a commit itself) stands for, "" if that isn't known.
  std::string commit_of(const std::string& revision) const {
    if (detail::is_hex(revision, 40)) return revision;
    const std::string commit = detail::first_line(folder_ / "refs" / revision);
    return detail::is_hex(commit, 40) ? commit : "";
  }
  /// The file, if it is there.
  std::optional<std::filesystem::path> find(const std::string& file,
                                            const std::string& revision) const {
    const std::string commit = commit_of(revision);
    if (commit.empty()) return std::nullopt;
    const auto path = snapshot(commit) / file;
    std::error_code ignored;
    if (!std::filesystem::is_regular_file(path, ignored)) return std::nullopt;
    return path;
  }

  void make_folders(const std::string& commit, const std::string& file) const {
    detail::make_folder(folder_ / "blobs");
    detail::make_folder(locks_);
    detail::make_folder((snapshot(commit) / file).parent_path());
  }
  /// Puts a blob into the snapshot of a commit, and remembers what the revision was.
  std::filesystem::path link(const std::string& file, const std::string& hash,
                             const std::string& commit, const std::string& revision) const {
    const auto path = snapshot(commit) / file;
    std::filesystem::path up = "../..";
    for (auto n = std::count(file.begin(), file.end(), '/'); n > 0; --n) up /= "..";
    detail::make_link(up / "blobs" / hash, path);
    if (revision != commit) {
      const auto ref = folder_ / "refs" / revision;
      detail::make_folder(ref.parent_path());
      write_file(ref, std::string_view(commit));
    }
    return path;
  }

 private:
  std::string name_;
  std::filesystem::path folder_, locks_;
};

}  // namespace mlmamba
