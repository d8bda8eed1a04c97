// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What the connector lab is told: its options, and the recipe they make.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mlmamba/train/recipe.hpp"
#include "training_program.hpp"

namespace lab {

namespace train = mlmamba::train;
using mlmamba::json;

struct settings {
  std::string config, towers, out, data, images, test, test_images;
  std::vector<std::string> connectors;
  std::int64_t steps = 0, batch = 0, scenes = 0, seeds = 1;
  double learning_rate = -1;
  int threads = 0, timings = 15, prefetch = mlmamba::examples::usual_prefetch;
  bool train_language = false;
};

/// Without --config: a small model, and scenes of garments.
inline constexpr const char* usual_recipe = R"({
  "model": {
    "vision": [
      {"name": "dino_featurizer", "kind": "dinov2-reg4", "img_size": 96, "patch_size": 16,
       "embed_dim": 64, "depth": 2, "num_heads": 2, "mlp_ratio": 4, "feature_block": -1,
       "class_token": false, "reg_tokens": 0, "init_values": null},
      {"name": "siglip_featurizer", "kind": "siglip", "img_size": 48, "patch_size": 8,
       "embed_dim": 48, "depth": 2, "num_heads": 2, "mlp_ratio": 4, "feature_block": -1}],
    "llm": {"d_model": 96, "n_layer": 2,
            "ssm_cfg": {"layer": "Mamba2", "d_state": 32, "headdim": 32}}},
  "chat": "plain", "tokenizer": {"vocabulary": 768},
  "data": {"source": "garment", "garment": {"size": 96, "turns": 8}},
  "training": {"steps": 500, "batch": 16, "learning_rate": 1e-3, "warmup_ratio": 0.05,
               "weight_decay": 0.05, "beta2": 0.98, "clip": 1.0, "seed": 7},
  "test": {"source": "garment", "scenes": 200}
})";

inline train::recipe recipe_of(const settings& s) {
  const std::string who = s.config.empty() ? "connector_lab" : s.config;
  json j = s.config.empty() ? json::parse(usual_recipe) : mlmamba::read_json(s.config);
  const auto set = [&](const char* part, const char* key, bool given, const json& value) {
    if (given) j[part][key] = value;
  };
  set("data", "source", !s.data.empty(), s.data);
  set("data", "images", !s.images.empty(), s.images);
  set("test", "source", !s.test.empty(), s.test);
  set("test", "images", !s.test_images.empty(), s.test_images);
  set("test", "scenes", s.scenes > 0, s.scenes);
  set("training", "batch", s.batch > 0, s.batch);
  if (s.batch > 0 && j["training"].contains("micro_batch")) j["training"].erase("micro_batch");
  set("training", "learning_rate", !(s.learning_rate < 0), s.learning_rate);
  if (s.steps > 0) train::set_steps(j, s.steps, who);
  train::recipe r = train::recipe_from(j, who);
  if (!r.freeze.empty()) mlmamba::fail("the recipe freezes parts; here --train-language decides");
  if (r.test.source.empty())
    mlmamba::fail(who, ": no test; --test, or its \"source\" in the recipe, is wanted");
  return r;
}

}  // namespace lab
