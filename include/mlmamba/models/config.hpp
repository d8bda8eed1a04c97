// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Sizes of language models, and those of the published ones (by id: registry/language.hpp).
#pragma once

#include "mlmamba/nn/mixer_config.hpp"

namespace mlmamba {

struct mamba_config {
  nn::mixer_config mixer;  // d_model and what is inside a layer
  index_t n_layer = 0;
  index_t vocab_size = 0;
  index_t pad_vocab_size_multiple = 8;
  index_t d_intermediate = 0;  // hidden width of the MLP after each mixer; 0: none
  double norm_epsilon = 1e-5;
  bool tie_embeddings = true;

  constexpr index_t padded_vocabulary() const {
    const index_t m = pad_vocab_size_multiple;
    return (vocab_size + m - 1) / m * m;
  }
};

/// The first problem of a language model's sizes, or null; `mixer` judges those of its layers.
constexpr const char* problem_with(
    const mamba_config& c, const char* (*mixer)(const nn::mixer_config&) = nn::problem_with) {
  if (c.n_layer < 0 || c.n_layer > 1 << 12) return "n_layer must be 0 to 4096";
  if (c.vocab_size < 1) return "vocab_size must be at least 1";
  if (c.pad_vocab_size_multiple < 1) return "pad_vocab_size_multiple must be at least 1";
  if (c.d_intermediate < 0) return "d_intermediate must be 0 or more";
  if (!(c.norm_epsilon >= 0) || c.norm_epsilon > 1) return "norm_epsilon must be 0 to 1";
  return mixer(c.mixer);
}

namespace preset {

constexpr mamba_config mamba2(index_t d_model, index_t n_layer) {
  mamba_config c;
  c.mixer.d_model = d_model;
  c.n_layer = n_layer;
  c.vocab_size = 50277;
  c.pad_vocab_size_multiple = 16;
  return c;
}
inline constexpr mamba_config mamba2_130m = mamba2(768, 24);
inline constexpr mamba_config mamba2_370m = mamba2(1024, 48);
inline constexpr mamba_config mamba2_780m = mamba2(1536, 48);
inline constexpr mamba_config mamba2_1_3b = mamba2(2048, 48);
inline constexpr mamba_config mamba2_2_7b = mamba2(2560, 64);

/// Mamba-1: 16 states per channel; heads and groups have no meaning there.
constexpr mamba_config mamba1(index_t d_model, index_t n_layer) {
  mamba_config c = mamba2(d_model, n_layer);
  c.mixer.d_state = 16;
  c.pad_vocab_size_multiple = 8;
  return c;
}
inline constexpr mamba_config mamba_130m = mamba1(768, 24);
inline constexpr mamba_config mamba_370m = mamba1(1024, 48);
inline constexpr mamba_config mamba_790m = mamba1(1536, 48);
inline constexpr mamba_config mamba_1_4b = mamba1(2048, 48);
inline constexpr mamba_config mamba_2_8b = mamba1(2560, 64);

static_assert(!problem_with(mamba2_130m) && !problem_with(mamba2_370m));
static_assert(!problem_with(mamba2_780m) && !problem_with(mamba2_1_3b));
static_assert(!problem_with(mamba2_2_7b) && mamba2_2_7b.padded_vocabulary() == 50288);
static_assert(!problem_with(mamba_130m) && !problem_with(mamba_2_8b));
static_assert(mamba_2_8b.padded_vocabulary() == 50280);

}  // namespace preset

}  // namespace mlmamba
