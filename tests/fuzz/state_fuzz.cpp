// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fuzz target: any bytes as a state file, as they are and with the checksum that they want; what is
// accepted is saved again to the same bytes.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>

#include "mlmamba/backend/reference.hpp"
#include "mlmamba/models/mamba_lm.hpp"
#include "mlmamba/models/state.hpp"

namespace {

using namespace mlmamba;
using model_type = mamba_lm<on<backend::reference, bf16>>;

const model_type& model() {
  static const model_type m = [] {
    mamba_config c;
    c.mixer.d_model = 2;
    c.mixer.d_state = 1;
    c.mixer.headdim = 4;
    c.mixer.d_conv = 2;
    c.n_layer = 1;
    c.vocab_size = 3;
    return model_type(c);
  }();
  return m;
}

void read(const std::string& file) {
  try {
    const auto parsed = state_file::parse(std::as_bytes(std::span(file)), "fuzz");
    std::size_t total = 0;
    for (const auto& a : parsed.arrays) total += a.bytes.size();
    if (total > file.size()) std::abort();
    const auto state = load_state(model(), std::as_bytes(std::span(file)), "fuzz");
    if (state_bytes(state) != file) std::abort();
  } catch (const io_error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string file(reinterpret_cast<const char*>(data), size);
  read(file);
  if (size >= 4) {
    file.resize(size - 4);
    detail::put(file, crc32c(std::as_bytes(std::span(file))));
    read(file);
  }
  return 0;
}
