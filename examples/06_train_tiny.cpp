// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Training from the parts: gradient check, loss, backward, AdamW. A tiny Mamba-2 learns to keep the
// one token that matters among many that don't, which is what a selective state is for.
//
//   06_train_tiny
#include <mlmamba/mlmamba.hpp>
#include <mlmamba/train/loss.hpp>
#include <mlmamba/train/optimizer.hpp>
#include <mlmamba/verify/gradcheck.hpp>

#include <cstdio>

using namespace mlmamba;
using E = cpu_f32;

constexpr index_t batch = 32, length = 16, letters = 8, noises = 8, question = letters + noises;
constexpr index_t steps = 150;

/// Rows of noise with one letter somewhere, and a question at the end: which letter was it?
struct task {
  tensor<std::int32_t, 2> ids{{batch, length}}, labels{{batch, length}};
  explicit task(std::uint64_t seed) {
    random_stream r{seed};
    for (index_t b = 0; b < batch; ++b) {
      const auto letter = std::int32_t(r.uniform(0, letters));
      for (index_t t = 0; t < length; ++t) {
        ids(b, t) = std::int32_t(letters + r.uniform(0, noises));
        labels(b, t) = train::ignored;
      }
      ids(b, index_t(r.uniform(0, length - 1))) = letter;
      ids(b, length - 1) = question;
      labels(b, length - 1) = letter;
    }
  }
};

int main() {
  // 1. Is the backward right? Every number of a layer, against the complex step.
  const nn::mixer_config layer{.d_model = 6, .d_state = 4, .headdim = 4};
  const auto g = verify::gradcheck<nn::mamba2<exact>>({2, 5, 6}, layer);
  std::printf("gradient: worst error %.1e at %s\n", g.worst, g.where.c_str());
  if (!(g.worst < 1e-12)) return 1;

  // 2. A model of two layers, an optimizer over all of its parameters.
  mamba_config sizes;
  sizes.mixer = {.d_model = 32, .d_state = 16, .headdim = 16};
  sizes.n_layer = 2, sizes.vocab_size = question + 1;
  mamba_lm<E> model(sizes);
  nn::initialise(model, random_stream{1});
  train::optimizer<E> adamw(model, {.beta2 = 0.98, .weight_decay = 0.01});
  context<backend::cpu> ctx;

  // 3. Steps: forward, loss, backward, update.
  for (index_t step = 1; step <= steps; ++step) {
    const auto frame = ctx.scratch.make_frame();  // its memory is used again in the next step
    const task data{std::uint64_t(step)};
    mamba_lm<E>::saved s;
    adamw.zero_grads(model);
    const auto logits = model.forward(ctx, model.embed(ctx, data.ids, s), s);
    const double loss =
        train::cross_entropy_gradient<E>(ctx, logits, data.labels.view(), 1.0 / batch) / batch;
    model.embed_backward(ctx, model.backward(ctx, logits, s), s);  // logits: now their gradient
    adamw.update(ctx, model, 1e-2);
    if (step % 30 == 0) std::printf("step %3ld   loss %.4f\n", long(step), loss);
  }

  // 4. Sequences that it never saw.
  const task unseen(12345);
  auto state = model.make_state(batch);
  const auto logits = model.prefill(ctx, model.embed(ctx, unseen.ids), state);
  index_t right = 0;
  for (index_t b = 0; b < batch; ++b) {
    index_t best = 0;
    for (index_t v = 1; v < letters; ++v) best = logits(b, v) > logits(b, best) ? v : best;
    right += best == unseen.labels(b, length - 1);
  }
  std::printf("right on %ld of %ld new sequences\n", long(right), long(batch));
  return right == batch ? 0 : 1;
}
