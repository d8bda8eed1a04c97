// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Everything published that has an id: models, vision backbones, language models, data sets.
//
//   available_models()            ids of models whose weights are published
//   describe("mlmamba+3b")        any id or alias, as JSON
//   preset::model_of(id)          typed: its parts and recipe; preset::vision_backbone_of,
//   preset::language_model_of     and preset::data_set_of likewise
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/io/json.hpp"
#include "mlmamba/models/parameter_count.hpp"
#include "mlmamba/models/registry/data_sets.hpp"
#include "mlmamba/models/registry/language.hpp"
#include "mlmamba/models/registry/models.hpp"
#include "mlmamba/models/registry/vision.hpp"

namespace mlmamba {

using ordered_json = nlohmann::ordered_json;  ///< keeps members in the order of writing

/// Parameters of one part of a model.
struct parameter_part {
  std::string name;        ///< as in parameter names: "llm_backbone"
  std::int64_t published;  ///< of the published part, heads and pooling of towers aside
  std::int64_t built;      ///< of what is built here: towers end with their feature block
};

/// What the scan connector of a model is made of: the mixer of a Mamba-2 language model, else the
/// published sizes.
inline scan_options scan_options_of(const model_preset& m) {
  const vision_backbone& v = m.vision();
  const language_preset& l = m.language();
  const connector_shape n{v.d_vision(), l.config.mixer.d_model, v.grid(), v.grid()};
  scan_options o = scan_options_for(n);
  if (l.layer == "Mamba2") o.mixer = l.config.mixer;
  o.projector = projector_kind_of(m.arch_specifier);
  return o;
}

/// The parts of a model in the order in which a picture passes them.
inline std::vector<parameter_part> parameter_parts(const model_preset& m) {
  const vision_backbone& v = m.vision();
  const language_preset& l = m.language();
  std::vector<parameter_part> parts;
  for (std::size_t i = 0; i < v.towers(); ++i) {
    const vision_tower& t = v.tower[i];
    parts.push_back({"vision_backbone." + std::string(t.name),
                     published_parameter_count(t.config, t.stored_image_size),
                     parameter_count(t.config)});
  }
  const auto add = [&](const char* name, std::int64_t n) { parts.push_back({name, n, n}); };
  const connector_shape n{v.d_vision(), l.config.mixer.d_model, v.grid(), v.grid()};
  if (m.connector.empty()) {
    const projector_kind kind = projector_kind_of(m.arch_specifier);
    add("projector",
        parameter_count(projector_config{kind, n.d_vision, n.d_model, n.grid_rows, n.grid_cols}));
  } else {
    const auto c = parameter_count(n, scan_options_of(m));
    add("mlp", c.mlp), add("bidirectional_mamba", c.bidirectional_mamba);
    add("projector", c.projector);
  }
  add("llm_backbone", parameter_count(l.config, l.layer));
  return parts;
}

/// The ids of the models with published weights.
inline std::vector<std::string> available_models() {
  std::vector<std::string> ids;
  for (const model_preset& m : preset::models)
    if (m.published()) ids.emplace_back(m.id);
  return ids;
}

/// A model in the words of the original: name, optimization_procedure, visual_representation,
/// image_processing, language_model, datasets (of published weights), train_epochs. Where the
/// original's text of mlmamba+3b names its parent's language model (Mamba 2.8B Zephyr), this one
/// says what the weights are.
inline ordered_json description_of(const model_preset& m) {
  const auto processing = [&] {
    switch (m.image_resize) {
      case resize_strategy::naive:
        return "Naive Resize";
      case resize_strategy::crop:
        return "Resize and Crop";
      case resize_strategy::letterbox:
        break;
    }
    return "Letterbox";
  };
  ordered_json j{{"name", m.title},
                 {"optimization_procedure",
                  m.arch_specifier.starts_with("no-align") ? "single-stage" : "multi-stage"},
                 {"visual_representation", m.vision().title},
                 {"image_processing", processing()},
                 {"language_model", m.language().title}};
  if (m.published())
    for (std::string_view d : m.data_sets)
      if (!d.empty()) j["datasets"].push_back(d);
  j["train_epochs"] = m.finetune.epochs;
  return j;
}

/// (id or alias, description) of every model with published weights.
inline std::vector<std::pair<std::string, ordered_json>> available_model_names() {
  std::vector<std::pair<std::string, ordered_json>> names;
  for (const model_preset& m : preset::models) {
    if (!m.published()) continue;
    names.emplace_back(m.id, description_of(m));
    if (!m.alias.empty()) names.emplace_back(m.alias, description_of(m));
  }
  return names;
}

inline ordered_json description_of(const vision_backbone& v) {
  ordered_json j{{"id", v.id},
                 {"name", v.title},
                 {"image_size", v.tower[0].config.image_size},
                 {"tokens", v.patches()},
                 {"d_vision", v.d_vision()},
                 {"half_precision", "bf16"}};
  for (std::size_t i = 0; i < v.towers(); ++i) {
    const vision_tower& t = v.tower[i];
    const vit_config& c = t.config;
    const image_transform rule = transform_of(c);
    j["towers"].push_back({{"name", t.name},
                           {"repository", t.repository},
                           {"kind", name_of(c.kind)},
                           {"patch_size", c.patch_size},
                           {"d_model", c.d_model},
                           {"heads", c.heads},
                           {"depth", c.depth},
                           {"feature_block", c.blocks() - 1},
                           {"prefix_tokens_dropped", c.prefix()},
                           {"mean", rule.mean},
                           {"std", rule.std},
                           {"parameters", published_parameter_count(c, t.stored_image_size)}});
  }
  return j;
}

inline ordered_json description_of(const language_preset& l) {
  const nn::mixer_config& m = l.config.mixer;
  ordered_json j{{"id", l.id},
                 {"name", l.title},
                 {"family", l.family()},
                 {"repository", l.repository},
                 {"d_model", m.d_model},
                 {"n_layer", l.config.n_layer},
                 {"d_inner", m.d_inner()},
                 {"d_state", m.d_state}};
  if (l.layer == "Mamba2") j["heads"] = m.nheads();
  j["vocabulary"] = l.config.padded_vocabulary();
  j["parameters"] = parameter_count(l.config, l.layer);
  return j;
}

inline ordered_json description_of(const data_set& d) {
  const auto part = [](const data_set_part& p) {
    return ordered_json{{"annotations", p.annotations}, {"images", p.images}};
  };
  return {{"id", d.id}, {"align", part(d.align)}, {"finetune", part(d.finetune)}};
}

/// Every id and alias there is.
inline std::vector<std::string_view> known_ids() {
  std::vector<std::string_view> all = registry::ids_of(preset::models);
  for (const model_preset& m : preset::models)
    if (!m.alias.empty()) all.push_back(m.alias);
  for (const auto& ids :
       {registry::ids_of(preset::vision_backbones), registry::ids_of(preset::language_models),
        registry::ids_of(preset::data_sets)})
    all.insert(all.end(), ids.begin(), ids.end());
  return all;
}

/// What an id or alias stands for: a model, else a vision backbone, language model or data set.
/// Errors: error that lists the ids there are.
inline ordered_json describe(std::string_view id) {
  for (const model_preset& m : preset::models)
    if (m.id == id || (!m.alias.empty() && m.alias == id)) return description_of(m);
  if (const auto* v = registry::find(preset::vision_backbones, id)) return description_of(*v);
  if (const auto* l = registry::find(preset::language_models, id)) return description_of(*l);
  if (const auto* d = registry::find(preset::data_sets, id)) return description_of(*d);
  fail<error>(registry::unknown_text("id", id, known_ids()));
}

/// The "model" part of the original's config.json: parts by id, and the recipe of both stages.
inline ordered_json original_config(const model_preset& m) {
  ordered_json j{{"type", m.id},
                 {"model_id", m.id},
                 {"arch_specifier", m.arch_specifier},
                 {"vision_backbone_id", m.vision_backbone_id},
                 {"llm_backbone_id", m.llm_backbone_id},
                 {"image_resize_strategy", name_of(m.image_resize)},
                 {"llm_max_length", m.llm_max_length},
                 {"enable_gradient_checkpointing", m.enable_gradient_checkpointing},
                 {"enable_mixed_precision_training", m.enable_mixed_precision_training},
                 {"reduce_in_full_precision", m.reduce_in_full_precision}};
  for (const auto& [prefix, r] :
       {std::pair<std::string, const stage_recipe&>("align_", m.align),
        std::pair<std::string, const stage_recipe&>("finetune_", m.finetune)}) {
    j[prefix + "epochs"] = r.epochs;
    j[prefix + "max_steps"] = r.max_steps ? ordered_json(*r.max_steps) : ordered_json(nullptr);
    j[prefix + "global_batch_size"] = r.global_batch_size;
    j[prefix + "per_device_batch_size"] = r.per_device_batch_size;
    j[prefix + "learning_rate"] = r.learning_rate;
    j[prefix + "weight_decay"] = r.weight_decay;
    j[prefix + "max_grad_norm"] = r.max_grad_norm;
    j[prefix + "lr_scheduler_type"] = r.lr_scheduler_type;
    j[prefix + "warmup_ratio"] = r.warmup_ratio;
    j[prefix + "train_strategy"] = r.train_strategy;
  }
  return j;
}

}  // namespace mlmamba
