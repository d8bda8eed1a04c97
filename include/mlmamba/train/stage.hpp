// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The stages of training a model that sees: what is trained, and with which numbers.
#pragma once

#include <string>
#include <string_view>

#include "mlmamba/train/sampler.hpp"
#include "mlmamba/train/trainer.hpp"

namespace mlmamba::train {

enum class stage : std::uint8_t {
  align,          ///< captions; the connector alone is trained
  finetune,       ///< conversations; connector and language model
  full_finetune,  ///< conversations; everything
};

inline std::string_view name_of(stage s) {
  constexpr std::string_view names[] = {"align", "finetune", "full-finetune"};
  return names[static_cast<std::size_t>(s)];
}
inline stage stage_of(std::string_view name) {
  for (auto s : {stage::align, stage::finetune, stage::full_finetune})
    if (name_of(s) == name) return s;
  fail("stage \"", name, "\"; align, finetune or full-finetune is wanted");
}

/// Does a stage train the parameter of this path? What is neither of the towers nor of the language
/// model is the connector's (projector.*, mlp.*, bidirectional_mamba.*), which every stage trains.
inline bool trains(stage s, std::string_view path) {
  if (detail::path_below(path, "vision_backbone")) return s == stage::full_finetune;
  if (detail::path_below(path, "llm_backbone")) return s != stage::align;
  return true;
}

/// Freezes what a stage doesn't train, and thaws the rest.
///
/// Errors    error if nothing is left to train
template <class Model>
void set_stage(Model& model, stage s) {
  bool any = false;
  nn::for_each_parameter(model, [&](const std::string& path, auto& p) {
    p.trainable = trains(s, path);
    if (!p.trainable) p.grad = {};
    any = any || p.trainable;
  });
  if (!any) fail("stage ", name_of(s), ": it trains no parameter of this model");
}

/// The numbers of a stage; as made by stage_plan::of they are the original's.
///
///   steps   = max_steps, or ceil(examples / batch) epochs
///   warm-up = floor(0.03 steps); the first update has rate 0, then half a cosine to 0
///
/// Decay     on matrices, convolution kernels and embeddings, but not on biases, norms and the
///           recurrence's own. The original's rule is the rank: it would also decay Mamba-1's
///           A_log, a matrix. Its sharded runs saw every parameter as a vector and decayed none:
///           `published_decay` is that
/// Loss      mean over micro-batches of each one's mean; `normalisation::tokens` is Cobra's mean
///           over all labelled tokens
struct stage_plan {
  static constexpr index_t most_epochs = 1000000;
  train::stage stage = stage::finetune;
  index_t epochs = 1;
  index_t max_steps = 0;  ///< 0: by epochs
  index_t batch = 128;    ///< of all ranks together
  index_t micro_batch = 16;
  index_t ranks = 1;
  double learning_rate = 2e-5, weight_decay = 0.1, clip = 1, warmup_ratio = 0.03;
  bool published_decay = false;
  train::normalisation normalisation = normalisation::mean_of_means;
  std::uint64_t seed = 7;

  static stage_plan of(train::stage s) {
    stage_plan p;
    p.stage = s;
    if (s == stage::align) {
      p.batch = 256, p.learning_rate = 1e-3, p.weight_decay = 0;
    } else {
      p.epochs = 2;
    }
    return p;
  }

  void check() const {
    if (epochs < 1 || epochs > most_epochs || max_steps < 0)
      fail("stage: ", epochs, " epochs, at most ", max_steps, " steps; 1 to ", most_epochs,
           " epochs are wanted");
    if (ranks < 1 || micro_batch < 1 || batch < 1 || batch % micro_batch != 0 ||
        accumulated() * ranks != batch / micro_batch)
      fail("stage: batches of ", batch, " on ", ranks, " ranks in micro-batches of ", micro_batch,
           "; a multiple of ranks x micro-batch is wanted");
  }
  /// Micro-batches of an update on each rank.
  index_t accumulated() const { return batch / micro_batch / ranks; }
  index_t epoch_steps(std::uint64_t examples) const {
    return static_cast<index_t>((examples + std::uint64_t(batch) - 1) / std::uint64_t(batch));
  }
  index_t steps(std::uint64_t examples) const {
    return max_steps > 0 ? max_steps : epoch_steps(examples) * epochs;
  }

  labelling labels() const {
    return stage == stage::align ? labelling::caption : labelling::answers;
  }
  sampling order() const {
    return stage == stage::align ? sampling::distributed : sampling::split_modality;
  }
  train::sampler sampler(const data_source& source) const {
    return train::sampler(source, batch, order(), seed, 1, ranks);
  }
  /// Of these examples, on a model that set_stage has been called on.
  trainer_options training(std::uint64_t examples) const {
    check();
    trainer_options o;
    o.rate.peak = learning_rate;
    o.rate.steps = steps(examples);
    o.rate.warmup = schedule::warmup_of(warmup_ratio, o.rate.steps);
    o.rate.first_update_zero = true;
    o.rate.check();
    o.optimizer.weight_decay = published_decay ? 0 : weight_decay;
    o.optimizer.clip = clip;
    o.normalisation = normalisation;
    o.epoch_updates = epoch_steps(examples);
    o.checkpoint_minutes = 120;
    return o;
  }
};

/// The name of a run: "[DATASET+]MODEL+stage-STAGE+xSEED"; the first data set goes without saying.
inline std::string run_name(std::string_view model, std::string_view dataset, stage s,
                            std::uint64_t seed) {
  std::string out;
  if (dataset != "llava-v15") out.append(dataset).append("+");
  return out.append(model)
      .append("+stage-")
      .append(name_of(s))
      .append("+x")
      .append(std::to_string(seed));
}

}  // namespace mlmamba::train
