// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The recipe of a model that has an id, as the original trains it.
#pragma once

#include <array>
#include <charconv>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/models/published/preset_config.hpp"
#include "mlmamba/train/stage.hpp"

namespace mlmamba::train {

/// "name value" pairs such as {"finetune_epochs", "1"}, in the original's names.
using preset_fields = std::vector<std::pair<std::string, std::string>>;

namespace detail {

template <class T>
void read_field(const std::string& name, const std::string& text, T& to) {
  T value{};
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size())
    fail("--model.", name, " \"", text, "\"; a number is wanted");
  to = value;
}

inline constexpr std::array<std::string_view, 8> stage_fields{
    "epochs",        "max_steps",    "global_batch_size", "per_device_batch_size",
    "learning_rate", "weight_decay", "max_grad_norm",     "warmup_ratio"};

/// One of a stage's. False if there is none of this name.
inline bool set_stage_field(stage_recipe& s, const std::string& name, const std::string& rest,
                            const std::string& value) {
  const auto number = [&](auto& to) { return read_field(name, value, to), true; };
  if (rest == "epochs") return number(s.epochs);
  if (rest == "global_batch_size") return number(s.global_batch_size);
  if (rest == "per_device_batch_size") return number(s.per_device_batch_size);
  if (rest == "learning_rate") return number(s.learning_rate);
  if (rest == "weight_decay") return number(s.weight_decay);
  if (rest == "max_grad_norm") return number(s.max_grad_norm);
  if (rest == "warmup_ratio") return number(s.warmup_ratio);
  if (rest != "max_steps") return false;
  index_t most = 0;
  number(most);
  s.max_steps = most;
  return true;
}

}  // namespace detail

/// The names that with_fields knows.
inline std::vector<std::string> preset_field_names() {
  std::vector<std::string> names{"vision_backbone_id", "llm_backbone_id",
                                 "arch_specifier",     "image_resize_strategy",
                                 "llm_max_length",     "enable_gradient_checkpointing"};
  for (const char* stage : {"align_", "finetune_"})
    for (const std::string_view field : detail::stage_fields)
      names.push_back(stage + std::string(field));
  return names;
}

/// A preset with fields of other values, which must outlive it.
///
/// Errors    error for a name that is no field, a value that is no number where one is wanted, ids
///           that are not known
inline model_preset with_fields(model_preset m, const preset_fields& fields) {
  for (const auto& [name, value] : fields) {
    if (name.starts_with("align_") && detail::set_stage_field(m.align, name, name.substr(6), value))
      continue;
    if (name.starts_with("finetune_") &&
        detail::set_stage_field(m.finetune, name, name.substr(9), value))
      continue;
    if (name == "vision_backbone_id") {
      m.vision_backbone_id = preset::vision_backbone_of(value).id;
    } else if (name == "llm_backbone_id") {
      m.llm_backbone_id = preset::language_model_of(value).id;
    } else if (name == "arch_specifier") {
      projector_kind_of(value);
      m.arch_specifier = value;
    } else if (name == "image_resize_strategy") {
      m.image_resize = resize_strategy_of(value);
    } else if (name == "llm_max_length") {
      detail::read_field(name, value, m.llm_max_length);
    } else if (name == "enable_gradient_checkpointing") {
      if (value != "true" && value != "True" && value != "false" && value != "False")
        fail("--model.", name, " \"", value, "\"; true or false is wanted");
      m.enable_gradient_checkpointing = value == "true" || value == "True";
    } else {
      std::string known;
      for (const std::string& n : preset_field_names()) known += (known.empty() ? "" : ", ") + n;
      fail("--model.", name, " is no field of a model; one of ", known, " is wanted");
    }
  }
  return m;
}

/// The recipe of a stage: all but where data, weights and tokenizer are. `ranks` processes share a
/// batch, per_device_batch_size examples at once each.
inline json recipe_of(const model_preset& m, stage s, index_t ranks = 1) {
  const stage_recipe& n = s == stage::align ? m.align : m.finetune;
  json model = config_of(m);
  model["arch_specifier"] = m.arch_specifier;
  if (json_has(model.at("connector"), "arch_specifier"))
    model["connector"]["arch_specifier"] = m.arch_specifier;
  json training{{"epochs", n.epochs},
                {"batch", n.global_batch_size},
                {"micro_batch", n.per_device_batch_size},
                {"learning_rate", n.learning_rate},
                {"weight_decay", n.weight_decay},
                {"clip", n.max_grad_norm},
                {"warmup_ratio", n.warmup_ratio},
                {"ranks", ranks}};
  if (n.max_steps) training["steps"] = *n.max_steps;
  return {{"model", model},
          {"recompute", m.enable_gradient_checkpointing},
          {"chat", m.chat_format},
          {"data", {{"max_length", m.llm_max_length}}},
          {"training", training}};
}

}  // namespace mlmamba::train
