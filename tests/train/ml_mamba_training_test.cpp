// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A tiny model that sees: it learns four pictures by heart, in micro-batches, with frozen parts.
#include <doctest/doctest.h>

#include <cstring>

#include "mlmamba/backend/reference.hpp"
#include "mlmamba/models/connectors/scan.hpp"
#include "mlmamba/models/fused_vision.hpp"
#include "mlmamba/models/mamba_lm.hpp"
#include "mlmamba/models/ml_mamba.hpp"
#include "mlmamba/models/vit.hpp"
#include "mlmamba/train/stage.hpp"
#include "mlmamba/train/step.hpp"
#include "mlmamba/train/trainer.hpp"
#include "mlmamba/verify/op_case.hpp"

using namespace mlmamba;
using namespace mlmamba::train;

namespace {
using E = reference_f32;
using model_type = ml_mamba<fused<vit<E>, vit<E>>, scan_connector<E>, mamba_lm<E>>;

model_type tiny() {
  mamba_config lm;
  lm.mixer.d_model = 12;
  lm.mixer.headdim = 6;
  lm.mixer.d_state = 4;
  lm.n_layer = 1;
  lm.vocab_size = 128;
  model_type m(
      fused<vit<E>, vit<E>>(vit<E>(make_vit_config(vit_kind::dinov2_reg4, 8, 4, 8, 2, 2, 2)),
                            vit<E>(make_vit_config(vit_kind::siglip, 4, 2, 6, 2, 1, 2))),
      mamba_lm<E>(lm));
  nn::initialise(m, {4, 0, 0});
  return m;
}
/// f(path, same) for each parameter: does it have the bits that it had?
template <class F>
void compare_bits(const model_type& before, const model_type& after, F&& f) {
  std::vector<std::string> was;
  nn::for_each_parameter(before, [&](const std::string&, const auto& p) {
    was.emplace_back(reinterpret_cast<const char*>(p.value.data()), p.value.bytes());
  });
  std::size_t at = 0;
  nn::for_each_parameter(after, [&](const std::string& path, const auto& p) {
    f(path, std::memcmp(was[at++].data(), p.value.data(), p.value.bytes()) == 0);
  });
}
// Four pictures that differ in brightness only, each with its own answer.
data_source four() {
  data_source s;
  s.name = "four";
  s.size = 4;
  s.get = [](std::uint64_t i) {
    example e;
    e.picture = image{8, 8, std::vector<std::uint8_t>(192, std::uint8_t(60 * i + 20))};
    e.turns = {{"what", true}, {std::string(1, "abcd"[i]), false}};
    return e;
  };
  return s;
}
std::vector<image_transform> towers() {
  return {image_transform::of_tower("dinov2", 8), image_transform::of_tower("siglip", 4)};
}
// Single characters, and one token for the end of a text.
std::vector<std::int32_t> encode(std::string_view text) {
  std::vector<std::int32_t> ids;
  constexpr std::string_view end = "<|endoftext|>";
  while (!text.empty()) {
    const bool ends = text.starts_with(end);
    ids.push_back(ends ? 0 : text[0]);
    text.remove_prefix(ends ? end.size() : 1);
  }
  return ids;
}
batch_builder builder(index_t micro) {
  batch_builder b;
  b.encode = encode;
  b.chat = chat_format::plain;
  b.towers = towers();
  b.micro_batch_size = micro;
  return b;
}
update_batch all_four(index_t micro) {
  const std::vector<std::uint64_t> all{0, 1, 2, 3};
  return builder(micro)(four(), all);
}
trainer_options quick(index_t steps) {
  trainer_options o;
  o.rate = {.peak = 0.01, .steps = steps, .warmup = 5, .decay = decay_shape::constant};
  o.optimizer.weight_decay = 0;
  o.show = false;
  return o;
}
using tiny_trainer = trainer<model_type, next_token_gradients>;
}  // namespace

TEST_SUITE("ml_mamba_training_test") {
  TEST_CASE("four pictures are learned by heart, from the pixels on") {
    context_of<E> ctx;
    model_type m = tiny();
    tiny_trainer t(ctx, m, {}, quick(120));
    const update_batch b = all_four(4);
    const double first = t.update(b).loss;
    CHECK(first > 3);
    double last = first;
    while (!t.finished() && last > 0.02) last = t.update(b).loss;
    MESSAGE("loss ", first, " -> ", last, " in ", t.state().updates, " updates");
    CHECK(last < 0.05);
  }
  TEST_CASE("two micro-batches of two give the gradient of one of four") {
    context_of<E> ctx;
    model_type a = tiny(), b = tiny();
    tiny_trainer ta(ctx, a, {}, quick(10)), tb(ctx, b, {}, quick(10));
    const update_record ra = ta.update(all_four(4)), rb = tb.update(all_four(2));
    CHECK(ra.labelled == 8);
    CHECK(ra.loss == doctest::Approx(rb.loss).epsilon(1e-6));
    CHECK(ra.gradient_norm == doctest::Approx(rb.gradient_norm).epsilon(1e-5));
    // The gradient of a parameter is a sum over rows; cut in two, only roundings differ.
    std::vector<double> grads;
    double largest = 0, worst = 0;
    nn::for_each_parameter(a, [&](const std::string&, const auto& p) {
      for (index_t i = 0; i < p.grad.count(); ++i) {
        grads.push_back(double(p.grad.data()[i]));
        largest = std::max(largest, std::fabs(grads.back()));
      }
    });
    std::size_t at = 0;
    nn::for_each_parameter(b, [&](const std::string&, const auto& p) {
      for (index_t i = 0; i < p.grad.count(); ++i) {
        const double e = std::fabs(grads[at++] - double(p.grad.data()[i]));
        if (verify::is_worse(e, worst)) worst = e;
      }
    });
    CHECK(worst < 1e-5 * largest);
  }
  TEST_CASE("frozen parts keep their bits, and all others change") {
    context_of<E> ctx;
    model_type m = tiny();
    nn::freeze(m, "vision_backbone");
    nn::freeze(m, "llm_backbone.backbone.layers");
    const model_type before = m;
    tiny_trainer t(ctx, m, {}, quick(10));
    for (int i = 0; i < 3; ++i) t.update(all_four(4));
    compare_bits(before, m, [](const std::string& path, bool same) {
      const bool frozen =
          path.starts_with("vision_backbone.") || path.starts_with("llm_backbone.backbone.layers.");
      CHECK_MESSAGE(same == frozen, path);
    });
  }
  TEST_CASE("each stage changes all that it trains, and no bit of what it doesn't") {
    context_of<E> ctx;
    for (const stage which : {stage::align, stage::finetune, stage::full_finetune}) {
      model_type m = tiny();
      const model_type before = m;
      set_stage(m, which);
      tiny_trainer t(ctx, m, {}, quick(10));
      for (int i = 0; i < 2; ++i) t.update(all_four(4));
      compare_bits(before, m, [&](const std::string& path, bool same) {
        CHECK_MESSAGE(same != trains(which, path), path);
      });
    }
  }
}
