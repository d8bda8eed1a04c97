// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The config.json of a model that has an id.
#pragma once

#include <string>

#include "mlmamba/models/published/mamba_lm.hpp"
#include "mlmamba/models/published/vit.hpp"
#include "mlmamba/models/registry/models.hpp"
#include "mlmamba/models/connectors/projector.hpp"

namespace mlmamba {

/// A backbone's towers, as `towers_from` reads them.
inline json config_of(const vision_backbone& v) {
  json list = json::array();
  for (std::size_t i = 0; i < v.towers(); ++i) {
    json j = to_json(v.tower[i].config);
    j["name"] = v.tower[i].name;
    list.push_back(j);
  }
  return list;
}

/// All sizes of a model written out, as the library saves them: what `checkpoint` reads.
inline json config_of(const model_preset& m) {
  const language_preset& l = m.language();
  const std::string projector(name_of(projector_kind_of(m.arch_specifier)));
  json connector{{"type", m.connector.empty() ? projector : std::string(m.connector)}};
  if (!m.connector.empty()) connector["arch_specifier"] = projector;
  return {{"model_type", "ml_mamba"},           {"model_id", m.id},
          {"vision", config_of(m.vision())},    {"connector", connector},
          {"llm", to_json(l.config, l.layer)},  {"image_resize_strategy", name_of(m.image_resize)},
          {"llm_max_length", m.llm_max_length}, {"chat_format", m.chat_format}};
}

}  // namespace mlmamba
