// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fuzz target: any bytes as the config.json of a language model, of a vision tower, and of a model
// that has both and a connector.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "mlmamba/io/json.hpp"
#include "mlmamba/models/published/ml_mamba.hpp"

namespace {

/// What making a multimodal model reads of its config, without making it.
void read_multimodal(const mlmamba::json& config) {
  using namespace mlmamba;
  for (const published_tower& t : towers_from(config, "fuzz"))
    if (t.config.blocks() < 0 || t.transform.size < 1) std::abort();
  const json llm = language_config_from(config, "fuzz");
  if (mamba_config_from(llm, "fuzz").layer.empty()) std::abort();
  const json part = detail::connector_part(detail::model_part(config));
  if (!part.is_object()) return;  // refused before it is looked at
  const connector_shape n{6, 8, 4, 4};
  scan_options scan;
  detail::read_options(part, detail::model_part(config), llm, scan, n, "fuzz");
  average_pool_connector<exact>::options grid;
  detail::read_options(part, config, llm, grid, n, "fuzz");
  pixel_shuffle_connector<exact>::options factor;
  detail::read_options(part, config, llm, factor, n, "fuzz");
  if (grid.out_rows < 0 || factor.factor < 0 || scan.n_layer < 0) std::abort();
}

}  // namespace

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
  try {
    read_multimodal(config);
  } catch (const error&) {
  }
  return 0;
}
