// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The type of the model in a folder, chosen by its config.json.
#pragma once

#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "mlmamba/io/checkpoint.hpp"
#include "mlmamba/models/connectors/any.hpp"
#include "mlmamba/models/published/ml_mamba.hpp"

namespace mlmamba::examples {

/// The rules of the one or two towers of a model that sees; none: it can't.
inline std::vector<image_transform> tower_rules(const json& config, const std::string& who) {
  return has_towers(config) ? picture_rule(config, who) : std::vector<image_transform>{};
}

template <class Language, class Use>
auto with_language(const json& config, const std::string& who, Use&& use) {
  using E = typename Language::engine_type;
  using any = any_connector<E>;
  if (!has_towers(config)) return use(std::type_identity<Language>{});
  const auto towers = towers_from(config, who).size();
  if (towers == 1) return use(std::type_identity<ml_mamba<vit<E>, any, Language>>{});
  if (towers == 2) return use(std::type_identity<ml_mamba<fused<vit<E>, vit<E>>, any, Language>>{});
  fail<error>(who, " has ", towers, " towers; 1 or 2 are wanted");
}

/// Structure is chosen here, sizes by the model's config: calls use(std::type_identity<Model>{})
/// and returns what it returns. Every choice is compiled. `who` is the folder, for messages.
template <class E, class Use>
auto with_chosen_model(const json& config, const std::string& who, Use&& use) {
  const json language = has_towers(config) ? language_config_from(config, who) : config;
  if (mamba_config_from(language, who).layer == "Mamba1")
    return with_language<mamba_lm<E, nn::mamba1>>(config, who, std::forward<Use>(use));
  return with_language<mamba_lm<E>>(config, who, std::forward<Use>(use));
}

}  // namespace mlmamba::examples
