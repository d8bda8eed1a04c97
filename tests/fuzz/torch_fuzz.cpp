// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fuzz target: bytes as a file of torch.save ("PK..."), or as the pickle in one whose storages are
// good; what is accepted is read whole.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>
#include <vector>

#include "mlmamba/io/detail/zip_writer.hpp"
#include "mlmamba/io/torch_file.hpp"

namespace {

struct memory_file {
  std::vector<std::byte> bytes;
  void append(std::span<const std::byte> more) {
    bytes.insert(bytes.end(), more.begin(), more.end());
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mlmamba;
  const auto input = std::as_bytes(std::span(data, size));
  memory_file made;
  std::span<const std::byte> file = input;
  if (!torch_file::is_torch(input)) {
    detail::zip_writer zip(made);
    static constexpr std::byte storage[32]{};
    zip.add("a/data.pkl", input);
    zip.add("a/data/0", storage);
    zip.add("a/data/1", std::span(storage).first(4));
    zip.finish();
    file = made.bytes;
  }
  try {
    const auto torch = torch_file::parse(file, "fuzz");
    std::uint64_t copied = 0;
    volatile unsigned sum = 0;
    for (const safetensors_entry& e : torch.entries()) {
      if (detail::byte_count(e.type, e.shape) != e.bytes.size()) std::abort();
      const bool inside =
          e.bytes.data() >= file.data() && e.bytes.data() < file.data() + file.size();
      if (!inside) copied += e.bytes.size();
      for (const std::byte b : e.bytes) sum = sum + std::to_integer<unsigned>(b);
    }
    if (copied > file.size()) std::abort();
  } catch (const io_error&) {
  }
  return 0;
}
