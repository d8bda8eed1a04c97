// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fuzz target: any bytes as an IDX file of photos or of labels, plain or gzip. What is accepted has
// as many elements as its sizes say.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "mlmamba/train/garment/idx.hpp"
#include "scratch_folder.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mlmamba;
  using namespace mlmamba::train;
  static const scratch_folder folder;
  const auto file = folder.put("x", {reinterpret_cast<const char*>(data), size});
  for (const std::size_t rank : {std::size_t(1), std::size_t(3)}) {
    try {
      garment::idx_file read = garment::read_idx(file.string(), rank, std::size_t(1) << 20);
      std::size_t count = 1;
      for (const std::size_t n : read.sizes) count *= n;
      if (read.sizes.size() != rank || read.bytes.size() != count) std::abort();
      if (rank != 1) continue;
      garment::idx_file photos{{read.sizes[0], garment::photo_side, garment::photo_side}, {}};
      photos.bytes.resize(std::min(count, std::size_t(1000)) * garment::photo_pixels);
      if (count > 1000) continue;
      const auto all =
          garment::make_source(garment::split::test, std::move(photos), std::move(read), "fuzz");
      if (all.size() != count) std::abort();
    } catch (const io_error&) {
    }
  }
  return 0;
}
