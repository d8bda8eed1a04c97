// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A model with two small towers, and batches of noise that it learns by heart.
#pragma once

#include <string>

#include "mlmamba/models/connectors/scan.hpp"
#include "mlmamba/models/fused_vision.hpp"
#include "mlmamba/models/mamba_lm.hpp"
#include "mlmamba/models/ml_mamba.hpp"
#include "mlmamba/models/vit.hpp"
#include "mlmamba/train/step.hpp"
#include "mlmamba/train/trainer.hpp"

namespace mlmamba::test {

template <engine E>
using two_towers = ml_mamba<fused<vit<E>, vit<E>>, scan_connector<E>, mamba_lm<E>>;

template <engine E>
two_towers<E> small_two_towers(std::uint64_t seed = 4) {
  mamba_config lm;
  lm.mixer.d_model = 48;
  lm.mixer.headdim = 16;
  lm.mixer.d_state = 16;
  lm.n_layer = 2;
  lm.vocab_size = 64;
  two_towers<E> m(
      fused<vit<E>, vit<E>>(vit<E>(make_vit_config(vit_kind::dinov2_reg4, 24, 8, 32, 2, 2, 2)),
                            vit<E>(make_vit_config(vit_kind::siglip, 12, 4, 24, 2, 3, 2))),
      mamba_lm<E>(lm));
  nn::initialise(m, {seed, 0, 0});
  return m;
}

/// Two micro-batches of pictures and tokens.
inline train::update_batch two_towers_batch(std::uint64_t seed) {
  random_stream r{seed, 0, 0};
  train::update_batch out;
  for (int part = 0; part < 2; ++part) {
    train::micro_batch b;
    const index_t rows = 5 + part, length = 21 + 9 * part;
    b.ids = tensor<std::int32_t, 2>({rows, length});
    b.labels = tensor<std::int32_t, 2>({rows, length});
    for (index_t i = 0; i < b.ids.count(); ++i) {
      b.ids.data()[i] = std::int32_t(r.below(64));
      b.labels.data()[i] = r.below(3) ? b.ids.data()[i] : train::ignored;
    }
    for (const index_t side : {24, 12}) {
      tensor<float, 4> pixels({rows, 3, side, side});
      for (index_t i = 0; i < pixels.count(); ++i) pixels.data()[i] = float(r.normal());
      b.pictures.push_back(std::move(pixels));
    }
    out.parts.push_back(std::move(b));
  }
  out.text_tokens = 1;
  return out;
}

inline train::trainer_options quick_training() {
  train::trainer_options o;
  o.rate = {.peak = 3e-3, .steps = 100, .warmup = 2, .decay = train::decay_shape::constant};
  o.show = false;
  return o;
}

/// The bytes of all parameters.
template <class Model>
std::string bits_of(const Model& m) {
  std::string bits;
  nn::for_each_parameter(m, [&](const std::string&, const auto& p) {
    const auto host = to_host(p.value.view());
    bits.append(reinterpret_cast<const char*>(host.data()), host.bytes());
  });
  return bits;
}

}  // namespace mlmamba::test
