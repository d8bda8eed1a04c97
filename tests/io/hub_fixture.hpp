// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What tests of the hub share: an honest hub with one small model, and a cache of one's own.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <string_view>

#include "io/hub_server.hpp"
#include "io/temporary.hpp"
#include "mlmamba/io/hub.hpp"

namespace mlmamba::test {

inline const std::string repository = "some/model", small_text = "{\"d_model\": 8}\n";

inline std::string large_text() {
  std::string text;
  for (int i = 0; text.size() < 300'000; ++i) text += std::to_string(i * 7919) + ",";
  return text;
}
inline fake_hub honest() {
  return {.files = {{"some/model/config.json", small_text},
                    {"some/model/model.safetensors", large_text()},
                    {"some/model/a/b/c d.txt", "deep"},
                    {"some/model/empty", ""}}};
}

/// A hub with a cache of its own.
struct hub_fixture {
  temporary_folder folder;
  hub_options options;
  explicit hub_fixture(const http_server& server) {
    options.endpoint = server.address();
    options.cache = folder / "hub";
    options.retries = 0;
    options.pause = std::chrono::milliseconds(0);
  }
  std::filesystem::path model(std::string_view path) const {
    return options.cache / "models--some--model" / path;
  }
  std::filesystem::path file(const std::string& name, const std::string& revision = "main") const {
    return hub(options).file(repository, name, revision);
  }
  std::string error_of(const std::string& name) const {
    return message_of<error>([&] { file(name); });
  }
  std::size_t files_in_cache() const {
    std::size_t n = 0;
    if (std::filesystem::exists(options.cache))
      for (const auto& e : std::filesystem::recursive_directory_iterator(options.cache))
        n += e.is_regular_file() && e.path().extension() != ".lock";
    return n;
  }
};

}  // namespace mlmamba::test
