// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fuzz target: any bytes as the answers of a hub, one after the other. Whatever they are, nothing
// is written outside of the cache, and what is called fetched has the announced checksum.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "mlmamba/io/hub.hpp"
#include "mlmamba/io/mapped_file.hpp"
#include "scratch_folder.hpp"
#include "scripted_client.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mlmamba;
  namespace fs = std::filesystem;
  static const scratch_folder scratch;
  const fs::path& around = scratch.path;
  hub_options o;
  o.endpoint = "https://hub.test";
  o.cache = around / "cache" / "hub";
  o.token = "secret";
  o.retries = 1;
  o.pause = std::chrono::milliseconds(0);
  hub files(o, std::make_unique<scripted_client>(
                   std::string_view(reinterpret_cast<const char*>(data), size)));
  for (const char* name : {"a", "b/c"}) {
    try {
      const fs::path at = files.file("some/model", name);
      const std::string hash = fs::read_symlink(at).filename().string();
      const mapped_file file(at);
      sha256 large;
      sha1 small;
      large.update(file.bytes());
      small.update("blob " + std::to_string(file.bytes().size()) + std::string(1, '\0'));
      small.update(file.bytes());
      if (hash != (hash.size() == 64 ? large.hex() : small.hex())) std::abort();
    } catch (const io_error&) {
    }
  }
  for (const auto& e : fs::directory_iterator(around))
    if (e.path().filename() != "cache") std::abort();
  fs::remove_all(around / "cache");
  return 0;
}
