// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fuzz target: any bytes as the answers of a hub, one after the other. Whatever they are, nothing
// is written outside of the cache, and what is called fetched has the announced checksum.
//
// An answer is  status LF header LF ... LF LF length-byte body;  status is a number.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "mlmamba/io/hub.hpp"
#include "mlmamba/io/mapped_file.hpp"

namespace {

using namespace mlmamba;
namespace fs = std::filesystem;

struct scratch_folder {
  fs::path path;
  scratch_folder() {
    std::string name = (fs::temp_directory_path() / "mlmamba-fuzz-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    path = name;
  }
  ~scratch_folder() { fs::remove_all(path); }
};

class scripted_client : public http_client {
 public:
  explicit scripted_client(std::string_view script) : script_(script) {}
  http_response send(const http_request& request, const http_body& body) override {
    if (request.to.origin() != "https://hub.test:443")
      for (const std::string& h : request.headers)
        if (h.starts_with("Authorization")) std::abort();  // the token went elsewhere
    if (script_.empty() || ++requests_ > 50)
      throw http_error(http_error::reason::no_connection, "the script ends");
    http_response r;
    r.status = std::atoi(std::string(line()).c_str());
    for (std::string_view h; !(h = line()).empty();) {
      const auto colon = h.find(": ");
      if (colon != std::string_view::npos)
        r.headers[std::string(h.substr(0, colon))] = h.substr(colon + 2);
    }
    if (script_.empty()) throw http_error(http_error::reason::broken_off, "cut");
    const std::size_t n =
        std::min<std::size_t>(static_cast<unsigned char>(script_[0]), script_.size() - 1);
    const std::string_view bytes = script_.substr(1, n);
    script_.remove_prefix(1 + n);
    if (!request.head && n > 0 && (r.status == 200 || r.status == 206))
      body(r, std::as_bytes(std::span(bytes)));
    return r;
  }

 private:
  std::string_view line() {
    const auto end = std::min(script_.find('\n'), script_.size());
    const std::string_view l = script_.substr(0, end);
    script_.remove_prefix(std::min(end + 1, script_.size()));
    return l;
  }
  std::string_view script_;
  int requests_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
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
