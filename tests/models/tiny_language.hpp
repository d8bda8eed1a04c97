// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Sizes of a language model that tests can afford.
#pragma once

#include "mlmamba/models/config.hpp"

namespace mlmamba::verify {

inline mamba_config tiny_language(index_t d_model = 4, index_t n_layer = 1) {
  mamba_config c;
  c.mixer.d_model = d_model;
  c.mixer.d_state = 3;
  c.mixer.headdim = 4;
  c.mixer.chunk_size = 4;
  c.n_layer = n_layer;
  c.vocab_size = 7;
  c.pad_vocab_size_multiple = 4;
  return c;
}

}  // namespace mlmamba::verify
