// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Training on the CPU backend: the number of threads never changes a bit, and it learns.
#include <doctest/doctest.h>

#include "mlmamba/backend/cpu.hpp"
#include "mlmamba/models/connectors/scan.hpp"
#include "mlmamba/models/fused_vision.hpp"
#include "mlmamba/models/mamba_lm.hpp"
#include "mlmamba/models/ml_mamba.hpp"
#include "mlmamba/models/vit.hpp"
#include "mlmamba/train/step.hpp"
#include "mlmamba/train/trainer.hpp"

using namespace mlmamba;
using namespace mlmamba::train;

namespace {
using E = cpu_f32;
using model_type = ml_mamba<fused<vit<E>, vit<E>>, scan_connector<E>, mamba_lm<E>>;

model_type small() {
  mamba_config lm;
  lm.mixer.d_model = 48;
  lm.mixer.headdim = 16;
  lm.mixer.d_state = 16;
  lm.n_layer = 2;
  lm.vocab_size = 64;
  model_type m(
      fused<vit<E>, vit<E>>(vit<E>(make_vit_config(vit_kind::dinov2_reg4, 24, 8, 32, 2, 2, 2)),
                            vit<E>(make_vit_config(vit_kind::siglip, 12, 4, 24, 2, 3, 2))),
      mamba_lm<E>(lm));
  nn::initialise(m, {4, 0, 0});
  return m;
}
update_batch batch(std::uint64_t seed) {
  random_stream r{seed, 0, 0};
  update_batch out;
  for (int part = 0; part < 2; ++part) {
    micro_batch b;
    const index_t rows = 5 + part, length = 21 + 9 * part;
    b.ids = tensor<std::int32_t, 2>({rows, length});
    b.labels = tensor<std::int32_t, 2>({rows, length});
    for (index_t i = 0; i < b.ids.count(); ++i) {
      b.ids.data()[i] = std::int32_t(r.below(64));
      b.labels.data()[i] = r.below(3) ? b.ids.data()[i] : ignored;
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
/// All parameters after some updates, and the losses.
std::string trained(int threads, std::vector<double>& losses) {
  context_of<E> ctx(cpu_options{.threads = threads});
  model_type m = small();
  trainer_options o;
  o.rate = {.peak = 3e-3, .steps = 100, .warmup = 2, .decay = decay_shape::constant};
  o.show = false;
  trainer<model_type, next_token_gradients> t(ctx, m, {}, o);
  for (int u = 0; u < 12; ++u) losses.push_back(t.update(batch(std::uint64_t(u % 2))).loss);
  std::string bits;
  nn::for_each_parameter(m, [&](const std::string&, const auto& p) {
    bits.append(reinterpret_cast<const char*>(p.value.data()), p.value.bytes());
  });
  return bits;
}
}  // namespace

TEST_SUITE("threads_test") {
  TEST_CASE("updates on 1, 2 and 3 threads give the same bits") {
    std::vector<double> one, two, three;
    const std::string a = trained(1, one);
    CHECK(a.size() > 100000);
    CHECK((a == trained(2, two)));
    CHECK((a == trained(3, three)));
    CHECK(one == two);
    CHECK(one == three);
    MESSAGE("loss ", one.front(), " -> ", one.back());
    CHECK(one.back() < 0.9 * one.front());
  }
}
