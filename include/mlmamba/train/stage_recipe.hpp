// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A stage as a recipe: what the recipe leaves open is filled in with the stage's numbers.
#pragma once

#include <string>

#include "mlmamba/train/recipe.hpp"
#include "mlmamba/train/stage.hpp"

namespace mlmamba::train {

/// The plan of a stage with what a recipe's "training" says otherwise, for a run in one process.
///
/// Keys      "epochs" and "published_decay" (see stage_plan) beside those that a recipe has;
///           "steps" are the most there are
inline stage_plan plan_from(const json& recipe, stage s, const std::string& who) {
  const json t = detail::part_of(recipe, "training");
  stage_plan p = stage_plan::of(s);
  p.epochs = json_get_or<index_t>(t, "epochs", p.epochs, who);
  p.max_steps = json_get_or<index_t>(t, "steps", p.max_steps, who);
  p.batch = json_get_or<index_t>(t, "batch", p.batch, who);
  p.micro_batch = json_get_or<index_t>(t, "micro_batch", std::min(p.micro_batch, p.batch), who);
  p.ranks = json_get_or<index_t>(t, "ranks", p.ranks, who);
  p.published_decay = json_get_or<bool>(t, "published_decay", p.published_decay, who);
  p.learning_rate = json_get_or<double>(t, "learning_rate", p.learning_rate, who);
  p.weight_decay = json_get_or<double>(t, "weight_decay", p.weight_decay, who);
  p.clip = json_get_or<double>(t, "clip", p.clip, who);
  p.warmup_ratio = json_get_or<double>(t, "warmup_ratio", p.warmup_ratio, who);
  p.normalisation = normalisation_of(
      json_get_or<std::string>(t, "normalisation", std::string(name_of(p.normalisation)), who));
  p.seed = json_get_or<std::uint64_t>(t, "seed", p.seed, who);
  p.check();
  return p;
}

/// The recipe of a plan on so many examples. What it freezes adds to what the recipe does.
inline json recipe_of(json recipe, const stage_plan& p, std::uint64_t examples,
                      const std::string& who) {
  const trainer_options o = p.training(examples);
  json& t = detail::part_in(recipe, "training", who);
  t.erase("epochs"), t.erase("published_decay");
  if (!json_has(t, "warmup")) t["warmup"] = o.rate.warmup;
  t.erase("warmup_ratio");
  t["steps"] = o.rate.steps;
  t["batch"] = p.batch, t["micro_batch"] = p.micro_batch, t["ranks"] = p.ranks;
  t["learning_rate"] = p.learning_rate, t["first_update_zero"] = true;
  t["weight_decay"] = o.optimizer.weight_decay, t["clip"] = p.clip;
  t["normalisation"] = name_of(p.normalisation), t["seed"] = p.seed;
  auto freeze = json_get_or<std::vector<std::string>>(t, "freeze", {}, who);
  for (const char* part : {"vision_backbone", "llm_backbone"})
    if (!trains(p.stage, part)) freeze.push_back(part);
  t["freeze"] = freeze;
  json& d = detail::part_in(recipe, "data", who);
  if (!json_has(d, "sampling")) d["sampling"] = name_of(p.order());
  d["labels"] = p.labels() == labelling::caption ? "caption" : "answers";
  json& run = detail::part_in(recipe, "run", who);
  if (!json_has(run, "checkpoint_every")) run["checkpoint_every"] = 0;
  return recipe;
}

}  // namespace mlmamba::train
