// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Published multimodal models by id or alias: their parts, and the recipe they are trained with.
#pragma once

#include <array>
#include <optional>
#include <string_view>
#include <vector>

#include "mlmamba/io/image_transform.hpp"
#include "mlmamba/models/registry/language.hpp"
#include "mlmamba/models/registry/vision.hpp"

namespace mlmamba {

/// The hyper-parameters of one stage of training.
struct stage_recipe {
  index_t epochs = 1;
  std::optional<index_t> max_steps = std::nullopt;  ///< none: all epochs
  index_t global_batch_size = 256, per_device_batch_size = 16;
  double learning_rate = 1e-3;  ///< the peak, per step
  double weight_decay = 0;
  double max_grad_norm = 1;
  std::string_view lr_scheduler_type = "linear-warmup+cosine-decay";
  double warmup_ratio = 0.03;  ///< of all steps
  std::string_view train_strategy = "fsdp-shard-grad-op";
};

/// A file on the hub.
struct hub_location {
  std::string_view repository, file;
};

struct model_preset {
  std::string_view id, alias;
  std::string_view title;
  std::string_view vision_backbone_id, llm_backbone_id;
  std::string_view connector;  ///< its kind; "": the projector of `arch_specifier` alone
  std::string_view arch_specifier = "no-align+fused-gelu-mlp";
  resize_strategy image_resize = resize_strategy::naive;
  index_t llm_max_length = 2048;  ///< tokens of text; those of the picture are not counted
  std::string_view chat_format = "zephyr";
  stage_recipe align, finetune;
  bool enable_gradient_checkpointing = true;
  bool enable_mixed_precision_training = true;  ///< bf16
  bool reduce_in_full_precision = false;
  hub_location weights;  ///< of all but the vision towers; none: a recipe without published weights
  std::array<std::string_view, 3> data_sets = {};  ///< that the weights were trained on

  constexpr bool published() const { return !weights.repository.empty(); }
  const vision_backbone& vision() const { return preset::vision_backbone_of(vision_backbone_id); }
  const language_preset& language() const { return preset::language_model_of(llm_backbone_id); }
};

namespace preset {

namespace detail {
inline constexpr stage_recipe align_recipe{};
inline constexpr stage_recipe finetune_recipe{.epochs = 2,
                                              .global_batch_size = 128,
                                              .per_device_batch_size = 16,
                                              .learning_rate = 2e-5,
                                              .weight_decay = 0.1,
                                              .train_strategy = "fsdp-full-shard"};

inline constexpr model_preset mlmamba_3b{
    .id = "mlmamba+3b",
    .alias = "MLMamba-DINOSigLIP 3B",
    .title = "MLMamba 3B",
    .vision_backbone_id = "dinosiglip-vit-so-384px",
    .llm_backbone_id = "mamba2-2.7b",
    .connector = "mamba2_scan_connector",
    .align = align_recipe,
    .finetune = finetune_recipe,
    .weights = {"huangwenjun1994/ML-Mamba", "latest-checkpoint.pt"},
    .data_sets = {"LLaVa v1.5 Instruct", "LVIS-Instruct-4V", "LRV-Instruct"}};

/// One that differs from mlmamba+3b by what `change` does, and has no weights yet.
template <class F>
constexpr model_preset recipe(std::string_view id, std::string_view title, F change) {
  model_preset m = mlmamba_3b;
  m.id = id;
  m.title = title;
  m.alias = "";
  m.weights = {};
  m.data_sets = {};
  change(m);
  return m;
}
}  // namespace detail

/// The models of ML-Mamba, and its parent Cobra (3B). In the original, two of them fail that work
/// here: mlmamba-base+3b names a language model that is not in its table, and
/// mlmamba-siglip+3b has one tower, which breaks with timm 1.0. Loading there also replaces
/// whatever llm_backbone_id a config has by mamba2-2.7b; here the id counts.
inline constexpr std::array<model_preset, 6> models{{
    detail::mlmamba_3b,
    detail::recipe("mlmamba-one-epoch+3b", "MLMamba 3B, one epoch",
                   [](model_preset& m) { m.finetune.epochs = 1; }),
    detail::recipe("mlmamba-base+3b", "MLMamba 3B on Mamba-1",
                   [](model_preset& m) { m.llm_backbone_id = "mamba-2.8b-slimpj"; }),
    detail::recipe("mlmamba-siglip+3b", "MLMamba 3B, SigLIP alone",
                   [](model_preset& m) {
                     m.vision_backbone_id = "siglip-vit-so400m-384px";
                     m.arch_specifier = "no-align+gelu-mlp";
                   }),
    detail::recipe("mlmamba-ldpnet+3b", "MLMamba 3B, 196 visual tokens",
                   [](model_preset& m) { m.arch_specifier = "no-align+fused-ldpnet"; }),
    detail::recipe("cobra+3b", "Cobra 3B",
                   [](model_preset& m) {
                     m.alias = "Cobra-DINOSigLIP 3B";
                     m.llm_backbone_id = "mamba-2.8b-zephyr";
                     m.connector = "";
                     m.weights = {"han1997/cobra", "cobra+3b/checkpoints/latest-checkpoint.pt"};
                     m.data_sets = detail::mlmamba_3b.data_sets;
                   }),
}};

/// By id or alias. Errors: error that lists the ids there are.
inline const model_preset& model_of(std::string_view id) {
  for (const model_preset& m : models)
    if (!m.alias.empty() && m.alias == id) return m;
  return registry::get("model", models, id);
}

}  // namespace preset
}  // namespace mlmamba
