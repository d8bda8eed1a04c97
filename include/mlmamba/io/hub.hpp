// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Files of public model repositories: from the cache, else from Hugging Face's hub.
#pragma once

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/io/detail/blob_download.hpp"
#include "mlmamba/io/http.hpp"
#include "mlmamba/io/hub_cache.hpp"
#if defined(MLMAMBA_CURL)  // the target mlmamba::hub sets it, where there is a libcurl
#include "mlmamba/io/detail/curl_client.hpp"
#endif

namespace mlmamba {

/// libcurl's, or null if the program was built without it.
inline std::unique_ptr<http_client> default_http_client() {
#if defined(MLMAMBA_CURL)
  return std::make_unique<detail::curl_client>();
#else
  return nullptr;
#endif
}

struct hub_options {
  std::string endpoint = "https://huggingface.co";
  std::filesystem::path cache;    ///< default_hub_cache()
  std::string token;              ///< "": none
  bool offline = false;           ///< only what is in the cache
  std::FILE* progress = nullptr;  ///< where downloads show themselves
  int retries = 4;                ///< times that nothing more has come, before it is given up
  std::chrono::milliseconds pause{1000};  ///< before the first retry; doubled for each that follows

  /// HF_ENDPOINT, the cache of default_hub_cache(), the token of find_hub_token(`token_from`),
  /// HF_HUB_OFFLINE.
  static hub_options from_environment(const std::string& token_from = "",
                                      std::FILE* progress = stderr) {
    hub_options o;
    if (const std::string e = detail::environment("HF_ENDPOINT"); !e.empty()) o.endpoint = e;
    o.cache = default_hub_cache();
    o.token = find_hub_token(token_from);
    std::string offline = detail::environment("HF_HUB_OFFLINE");
    for (char& c : offline)
      if (c >= 'a' && c <= 'z') c = char(c - 32);
    o.offline = offline == "1" || offline == "ON" || offline == "YES" || offline == "TRUE";
    o.progress = progress;
    return o;
  }
};

/// The hub.
///
///   hub files(hub_options::from_environment());
///   const path config = files.file("state-spaces/mamba2-130m", "config.json");
///
/// What is in the cache is used as it is, without asking whether it is still the newest; what is
/// missing of a repository is fetched from the commit that the cache knows, so that its files
/// belong together. A download is written beside, continued where it broke off, and checked: size,
/// and SHA-256 or git's SHA-1. The token goes to the endpoint alone, never to where it redirects.
///
/// Errors    io_error in one line: no network, access denied, not there (hub_missing), disk full,
///           broken off, wrong size or checksum
class hub {
 public:
  explicit hub(hub_options options, std::unique_ptr<http_client> client = default_http_client())
      : options_(std::move(options)),
        client_(std::move(client)),
        endpoint_(parse_url(options_.endpoint)) {
    if (options_.cache.empty()) options_.cache = default_hub_cache();
    while (endpoint_.target.ends_with('/')) endpoint_.target.pop_back();
  }

  const hub_options& options() const { return options_; }

  /// The local path of a file.
  std::filesystem::path file(std::string_view repository, const std::string& file,
                             const std::string& revision = "main") {
    const hub_repository r(options_.cache, repository);
    if (!detail::is_safe_path(file) || !detail::is_safe_path(revision))
      fail<io_error>(r.name(), ": file \"", file.substr(0, 100), "\" of \"",
                     revision.substr(0, 100), "\"; a path without .. is wanted");
    if (const auto found = r.find(file, revision)) return *found;
    const std::string who = r.name() + "/" + file;
    if (options_.offline)
      fail<io_error>(who, ": not in ", options_.cache.string(), ", and HF_HUB_OFFLINE is set; ",
                     "unset it to fetch the file");
    if (!client_)
      fail<io_error>(who, ": not in ", options_.cache.string(), ", and this program was built ",
                     "without libcurl; put the file there, or build with libcurl4-openssl-dev");
    std::string commit = r.commit_of(revision);
    const detail::hub_source source{who, address(r, file, commit.empty() ? revision : commit),
                                    options_.token, options_.retries, options_.pause};
    const detail::hub_metadata meta = detail::ask(*client_, source);
    if (!commit.empty() && commit != meta.commit)
      fail<io_error>(who, ": commit ", meta.commit, " was answered; ", commit, " was asked for");
    r.make_folders(meta.commit, file);
    const auto blob = r.blob(meta.hash);
    const detail::file_lock lock(r.lock(meta.hash));
    std::error_code code;  // another program may have fetched it meanwhile
    if (std::filesystem::file_size(blob, code) != meta.size || code)
      detail::download(*client_, source, meta, blob, options_.progress);
    return r.link(file, meta.hash, meta.commit, revision);
  }

  /// The first of several files that the repository has. Errors: as above; hub_missing if none.
  std::filesystem::path any_of(std::string_view repository, const std::vector<std::string>& files,
                               const std::string& revision = "main") {
    const hub_repository r(options_.cache, repository);
    for (const std::string& name : files)
      if (detail::is_safe_path(name) && detail::is_safe_path(revision))
        if (const auto found = r.find(name, revision)) return *found;
    for (std::size_t i = 0; i < files.size(); ++i) {
      try {
        return file(repository, files[i], revision);
      } catch (const hub_missing&) {
        if (i + 1 == files.size()) throw;
      }
    }
    fail<hub_missing>(r.name(), ": no file was asked for");
  }

 private:
  url address(const hub_repository& r, const std::string& file, const std::string& revision) const {
    url u = endpoint_;
    u.target += "/" + r.name() + "/resolve/" + percent_encoded(revision, false) + "/" +
                percent_encoded(file, true);
    return u;
  }

  hub_options options_;
  std::unique_ptr<http_client> client_;
  url endpoint_;
};

}  // namespace mlmamba
