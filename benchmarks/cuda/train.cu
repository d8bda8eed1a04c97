// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Training on a GPU: whole updates of language models in bf16 with masters in float.
//
//   benchmark_cuda_train [--json FILE] [WORD...]      only rows that contain a WORD
//
// An update is timed by the clock, as `train` does it: gradients of a batch, their norm, AdamW.
// The roof counts six operations per weight and token (eight where blocks run again) at the rate of
// a product; bytes are those of AdamW. Random tokens, learned by heart: the first loss must be that
// of guessing, and fall.
#include <chrono>

#include "mlmamba/models/preset.hpp"
#include "mlmamba/train/step.hpp"
#include "mlmamba/train/trainer.hpp"
#include "random_weights.cuh"

namespace {

using namespace bench;
using E = cuda_bf16;

train::update_batch random_batch(index_t batch, index_t length, index_t vocabulary) {
  train::micro_batch b;
  b.ids = tensor<std::int32_t, 2>({batch, length});
  random_stream r{7, 0, 0};
  for (index_t i = 0; i < b.ids.count(); ++i)
    b.ids.data()[i] = std::int32_t(r.below(std::uint64_t(vocabulary)));
  b.labels = b.ids;
  train::update_batch out;
  out.text_tokens = b.ids.count();
  out.parts.push_back(std::move(b));
  return out;
}

void updates(report& out, const char* model, const mamba_config& c, index_t batch, index_t length,
             bool recompute) {
  const std::string name = std::string(model) + " update, B " + std::to_string(batch) + " L " +
                           std::to_string(length) + (recompute ? ", blocks run again" : "");
  if (!is_wanted(name)) return;
  gpu ctx;
  mamba_lm<E> m(c);
  const double bytes = randomise(m);
  m.recompute = recompute;
  train::trainer_options o;
  o.rate = {.peak = 1e-3, .steps = 100, .warmup = 0};
  o.optimizer.clip = 1;
  train::trainer<mamba_lm<E>, train::next_token_gradients> t(ctx, m, {}, o);
  const auto examples = random_batch(batch, length, c.vocab_size);
  std::vector<double> losses, all;
  for (int i = 0; i < 12; ++i) {
    const auto r = t.update(examples);
    losses.push_back(r.loss);
    if (i >= 2) all.push_back(r.seconds);  // the first ones make memory
  }
  std::sort(all.begin(), all.end());
  const double tokens = double(batch * length), parameters = bytes / sizeof(bf16);
  const double first = std::abs(losses.front() - std::log(double(c.vocab_size)));
  const double error = losses.back() < losses.front() - 0.05 ? first : 1e9;
  // gradients cleared, read for their norm and by AdamW; moments and masters read and written;
  // weights written
  const double update_bytes = parameters * (3 * 4 + 3 * 8 + 2);
  out.add({name, all[all.size() / 2], update_bytes, (recompute ? 8 : 6) * parameters * tokens,
           error, 1});
  std::printf("    %.0f tokens/s, loss %.3f to %.3f, %.2f GB of scratch\n",
              tokens / all[all.size() / 2], losses.front(), losses.back(),
              1e-9 * double(ctx.scratch.peak()));
}

}  // namespace

int main(int argc, char** argv) try {
  if (!wanted.read(argc, argv, "benchmark_cuda_train")) return 0;
  report out([] {
    gpu ctx;
    return roofs(ctx);
  }());
  updates(out, "mamba2-130m", preset::mamba2_130m, 8, 2048, false);
  updates(out, "mamba2-130m", preset::mamba2_130m, 8, 2048, true);
  updates(out, "mamba2-2.7b", preset::mamba2_2_7b, 1, 2048, false);
  updates(out, "mamba2-2.7b", preset::mamba2_2_7b, 4, 2048, true);
  if (wanted.json) out.write(wanted.json);
  return out.ok() ? 0 : 1;
} catch (const std::exception& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 2;
}
