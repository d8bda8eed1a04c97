// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Training with weights in bf16 on the CPU: masters stay in f32, and a resumed run is the same run.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "io/temporary.hpp"
#include "mlmamba/backend/cpu.hpp"
#include "mlmamba/models/connectors/scan.hpp"
#include "mlmamba/models/mamba_lm.hpp"
#include "mlmamba/models/ml_mamba.hpp"
#include "mlmamba/models/vit.hpp"
#include "mlmamba/train/step.hpp"
#include "mlmamba/train/trainer.hpp"

using namespace mlmamba;
using namespace mlmamba::train;

namespace {

using E = cpu_bf16;
using lm_type = mamba_lm<E>;
using seeing_type = ml_mamba<vit<E>, scan_connector<E>, lm_type>;
constexpr index_t steps = 60;

lm_type language() {
  mamba_config c;
  c.mixer.d_model = 32;
  c.mixer.headdim = 16;
  c.mixer.d_state = 8;
  c.n_layer = 2;
  c.vocab_size = 48;
  return lm_type(c);
}
template <class Model>
Model small() {
  if constexpr (std::is_same_v<Model, lm_type>) {
    Model m = language();
    nn::initialise(m, {4, 0, 0});
    return m;
  } else {
    Model m(vit<E>(make_vit_config(vit_kind::siglip, 16, 8, 24, 2, 3, 2)), language());
    nn::initialise(m, {4, 0, 0});
    return m;
  }
}
/// The same few sequences again and again, to learn by heart.
template <class Model>
update_batch batch_of(index_t update) {
  random_stream r{std::uint64_t(update % 2), 0, 0};
  micro_batch b;
  b.ids = tensor<std::int32_t, 2>({4, 11});
  b.labels = tensor<std::int32_t, 2>({4, 11});
  for (index_t i = 0; i < b.ids.count(); ++i) {
    b.ids.data()[i] = std::int32_t(r.below(48));
    b.labels.data()[i] = i % 5 ? b.ids.data()[i] : ignored;
  }
  if constexpr (std::is_same_v<Model, seeing_type>) {
    tensor<float, 4> pixels({4, 3, 16, 16});
    for (index_t i = 0; i < pixels.count(); ++i) pixels.data()[i] = float(r.normal());
    b.pictures.push_back(std::move(pixels));
  }
  update_batch out;
  out.parts.push_back(std::move(b));
  return out;
}
trainer_options options_in(const std::filesystem::path& folder) {
  trainer_options o;
  o.rate = {.peak = 6e-3, .steps = steps, .warmup = 2};
  o.folder = folder;
  o.checkpoint_every = 5;
  o.show = false;
  return o;
}
template <class Model>
using trainer_of = trainer<Model, next_token_gradients>;

/// Trains from the newest checkpoint until `until` updates are done; all losses.
template <class Model>
std::vector<double> train_in(const std::filesystem::path& folder, int threads, index_t until) {
  context_of<E> ctx(cpu_options{.threads = threads});
  Model m = small<Model>();
  trainer_of<Model> t(ctx, m, {}, options_in(folder));
  t.resume();
  std::vector<double> losses;
  while (t.state().updates < until)
    losses.push_back(t.update(batch_of<Model>(t.state().updates)).loss);
  t.save();
  return losses;
}
std::string newest(const std::filesystem::path& folder, const char* file) {
  const saved_run all(folder / "checkpoints");
  return test::slurp(all.path_of(all.steps().back()) / file);
}

template <class Model>
void check_training() {
  const test::temporary_folder folder;
  const auto whole = train_in<Model>(folder / "whole", 1, steps);
  INFO("loss ", whole.front(), " to ", whole.back());
  CHECK(whole.back() < 0.6 * whole.front());

  auto parts = train_in<Model>(folder / "parts", 2, 23);
  const auto rest = train_in<Model>(folder / "parts", 1, steps);
  parts.insert(parts.end(), rest.begin(), rest.end());
  CHECK(parts == whole);
  for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
    CHECK(newest(folder / "whole", file).size() > 1000);
    CHECK((newest(folder / "whole", file) == newest(folder / "parts", file)));
  }

  // In the files: matrices in bf16; moments and masters in f32. A matrix is its rounded master.
  const saved_run all(folder / "whole" / "checkpoints");
  const auto weights = safetensors_file::open(all.path_of(steps) / "model.safetensors");
  const auto state = safetensors_file::open(all.path_of(steps) / "optimizer.safetensors");
  index_t masters = 0, finer = 0;
  for (const auto& e : state.entries()) CHECK(e.type == dtype::f32);
  for (const auto& e : weights.entries()) {
    const auto* master = state.find("master." + e.name);
    CHECK((master != nullptr) == (e.type == dtype::bf16));
    if (master == nullptr) continue;
    ++masters;
    const auto narrow = read_values<bf16>(e);
    const auto wide = read_values<float>(*master);
    REQUIRE(narrow.size() == wide.size());
    bool rounded = true;
    for (std::size_t i = 0; i < wide.size(); ++i) {
      rounded = rounded && bf16(wide[i]).bits == narrow[i].bits;
      finer += wide[i] != float(narrow[i]);
    }
    CHECK_MESSAGE(rounded, e.name);
  }
  CHECK(masters > 4);
  CHECK(finer > 1000);  // or there would be no use in masters
}

TEST_SUITE("bf16_test") {
  TEST_CASE("a Mamba-2 language model") { check_training<lm_type>(); }
  TEST_CASE("a model that sees") { check_training<seeing_type>(); }
}

}  // namespace
