// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fuzz target: any bytes as a zip archive that is to be extracted. What is accepted has names that
// stay below a folder, no more bytes than announced, and contents of the announced size.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <span>

#include "mlmamba/io/zip_contents.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mlmamba;
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    const zip_archive zip(bytes, "fuzz");
    std::uint64_t total = 0;
    for (const zip_item& item : extractable(zip, size)) {
      const std::filesystem::path name(item.name);
      if (name.is_absolute() || name.lexically_normal() != name || *name.begin() == "..")
        std::abort();
      total += item.entry->size;
      if (total > 101 * (size + 1)) std::abort();
      std::uint64_t got = 0;
      try {
        read_zip_entry(*item.entry, "fuzz", [&](std::span<const std::byte> part) {
          got += part.size();
          if (got > item.entry->size) std::abort();
        });
        if (got != item.entry->size) std::abort();
      } catch (const zip_error&) {  // damaged; the next may be whole
      }
    }
  } catch (const zip_error&) {
  }
  return 0;
}
