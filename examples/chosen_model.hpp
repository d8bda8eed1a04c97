// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The type of the model in a folder, chosen by its config.json.
#pragma once

#include <type_traits>
#include <utility>
#include <vector>

#include "mlmamba/io/checkpoint.hpp"
#include "mlmamba/models/connectors/any.hpp"
#include "mlmamba/models/published/ml_mamba.hpp"

namespace mlmamba::examples {

/// Structure is chosen here, sizes by the model's config: calls use(std::type_identity<Model>{},
/// towers) with a language model and no towers, or a model that sees with the rules of its one or
/// two towers, and returns what it returns. Every choice is compiled.
template <class Language, class Use>
auto with_language(const checkpoint& files, Use&& use) {
  using E = typename Language::engine_type;
  using any = any_connector<E>;
  const json& config = files.config();
  if (!has_towers(config))
    return use(std::type_identity<Language>{}, std::vector<image_transform>{});
  const auto towers = towers_from(config, files.who()).size();
  const auto rule = picture_rule(config, files.who());
  if (towers == 1) return use(std::type_identity<ml_mamba<vit<E>, any, Language>>{}, rule);
  if (towers == 2)
    return use(std::type_identity<ml_mamba<fused<vit<E>, vit<E>>, any, Language>>{}, rule);
  fail<error>(files.who(), " has ", towers, " towers; 1 or 2 are wanted");
}

template <class E, class Use>
auto with_chosen_model(const checkpoint& files, Use&& use) {
  const json language = has_towers(files.config())
                            ? language_config_from(files.config(), files.who())
                            : files.config();
  if (mamba_config_from(language, files.who()).layer == "Mamba1")
    return with_language<mamba_lm<E, nn::mamba1>>(files, std::forward<Use>(use));
  return with_language<mamba_lm<E>>(files, std::forward<Use>(use));
}

}  // namespace mlmamba::examples
