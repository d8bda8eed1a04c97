// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Published language models by id.
#pragma once

#include <array>
#include <string_view>

#include "mlmamba/models/config.hpp"
#include "mlmamba/models/registry/lookup.hpp"

namespace mlmamba {

struct language_preset {
  std::string_view id;
  std::string_view title;       ///< for people
  std::string_view repository;  ///< on the hub
  std::string_view layer;       ///< "Mamba1", "Mamba2": which mixer `config` is about
  mamba_config config;
  std::string_view chat_format = "";  ///< the template it was tuned with; "": it continues text

  constexpr std::string_view family() const { return layer == "Mamba1" ? "mamba" : "mamba2"; }
};

namespace preset {

/// ML-Mamba's registry has the Mamba-2 models only, though one of its model ids asks for
/// mamba-2.8b-slimpj and can't be built there. Here are those of its parent Cobra too, and the
/// smaller Mamba-1 models of the same authors.
inline constexpr std::array<language_preset, 12> language_models{{
    {"mamba2-130m", "Mamba-2 130M", "state-spaces/mamba2-130m", "Mamba2", mamba2_130m},
    {"mamba2-370m", "Mamba-2 370M", "state-spaces/mamba2-370m", "Mamba2", mamba2_370m},
    {"mamba2-780m", "Mamba-2 780M", "state-spaces/mamba2-780m", "Mamba2", mamba2_780m},
    {"mamba2-1.3b", "Mamba-2 1.3B", "state-spaces/mamba2-1.3b", "Mamba2", mamba2_1_3b},
    {"mamba2-2.7b", "Mamba-2 2.7B", "state-spaces/mamba2-2.7b", "Mamba2", mamba2_2_7b},
    {"mamba-130m", "Mamba 130M", "state-spaces/mamba-130m", "Mamba1", mamba_130m},
    {"mamba-370m", "Mamba 370M", "state-spaces/mamba-370m", "Mamba1", mamba_370m},
    {"mamba-790m", "Mamba 790M", "state-spaces/mamba-790m", "Mamba1", mamba_790m},
    {"mamba-1.4b", "Mamba 1.4B", "state-spaces/mamba-1.4b", "Mamba1", mamba_1_4b},
    {"mamba-2.8b", "Mamba 2.8B", "state-spaces/mamba-2.8b", "Mamba1", mamba_2_8b},
    {"mamba-2.8b-slimpj", "Mamba 2.8B SlimPajama", "state-spaces/mamba-2.8b-slimpj", "Mamba1",
     mamba_2_8b},
    {"mamba-2.8b-zephyr", "Mamba 2.8B Zephyr", "xiuyul/mamba-2.8b-zephyr", "Mamba1", mamba_2_8b,
     "zephyr"},
}};

/// The tokenizer of all of them: GPT-NeoX's.
inline constexpr std::string_view tokenizer_repository = "EleutherAI/gpt-neox-20b";

/// Errors: error that lists the ids there are.
inline const language_preset& language_model_of(std::string_view id) {
  return registry::get("language model", language_models, id);
}

}  // namespace preset
}  // namespace mlmamba
