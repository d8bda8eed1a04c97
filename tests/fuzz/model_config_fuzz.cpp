// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fuzz target: any bytes as the config.json of a language model and of a vision tower.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "mlmamba/io/json.hpp"
#include "mlmamba/models/published/mamba_lm.hpp"
#include "mlmamba/models/published/vit.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mlmamba;
  json config;
  try {
    config = parse_json({reinterpret_cast<const char*>(data), size}, "fuzz", 20);
  } catch (const io_error&) {
    return 0;
  }
  try {
    const auto lm = mamba_config_from(config, "fuzz");
    if (lm.layer.empty()) std::abort();
  } catch (const error&) {
  }
  try {
    const vit_config vit = vit_config_from(config, "fuzz");
    // What was accepted is written as something that reads back the same.
    if (to_json(vit_config_from(to_json(vit), "again")) != to_json(vit)) std::abort();
  } catch (const error&) {
  }
  return 0;
}
