// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A training run as one JSON file: model, tokenizer, data, training, test.
#pragma once

#include <algorithm>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/text/bpe_trainer.hpp"
#include "mlmamba/train/garment_source.hpp"
#include "mlmamba/train/llava.hpp"
#include "mlmamba/train/sampler.hpp"
#include "mlmamba/train/trainer.hpp"
#include "mlmamba/train/vqa_set.hpp"

namespace mlmamba::train {

namespace detail {
inline void check_object(const json& j, const std::string& who) {
  if (!j.is_object())
    fail<io_error>(who, ": ", mlmamba::detail::json_excerpt(j), "; an object is wanted");
}
/// Refuses members that nobody reads: a mistyped option would else be ignored in silence.
inline void only_keys(const json& object, std::initializer_list<std::string_view> known,
                      const std::string& who) {
  check_object(object, who);
  for (const auto& [key, value] : object.items())
    if (std::find(known.begin(), known.end(), key) == known.end())
      fail<io_error>(who, ": \"", key,
                     "\" is not known; one of those in its documentation is wanted");
}
inline json part_of(const json& whole, const char* key) {
  return json_has(whole, key) ? whole.at(key) : json::object();
}
/// The same to be changed. Errors: io_error if the recipe or the part is no object.
inline json& part_in(json& whole, const char* key, const std::string& who) {
  check_object(whole, who);
  json& part = whole[key];
  if (part.is_null()) part = json::object();
  check_object(part, who);
  return part;
}
}  // namespace detail

/// "garment": {"size", "turns", "min_scale", "max_scale", "jitter", "dark_on_light",
/// "min_contrast", "max_noise", "weights": {"presence": 6, ...}}.
inline garment::options garment_options_from(const json& j, const std::string& who) {
  detail::only_keys(j,
                    {"size", "turns", "min_scale", "max_scale", "jitter", "dark_on_light",
                     "min_contrast", "max_noise", "weights"},
                    who);
  garment::options o;
  const auto number = [&](const char* key, int& to) { to = json_get_or<int>(j, key, to, who); };
  number("size", o.size), number("turns", o.turns);
  number("min_scale", o.min_scale), number("max_scale", o.max_scale);
  number("jitter", o.jitter), number("dark_on_light", o.dark_on_light);
  number("min_contrast", o.min_contrast), number("max_noise", o.max_noise);
  if (json_has(j, "weights")) {
    for (const auto& [key, value] : j.at("weights").items()) {
      const auto at =
          std::find(garment::question_type_names.begin(), garment::question_type_names.end(), key);
      if (at == garment::question_type_names.end())
        fail<io_error>(who, ": \"weights\" has \"", key, "\"; names of question types are wanted");
      o.weights[std::size_t(at - garment::question_type_names.begin())] =
          json_to<int>(value, who, key);
    }
  }
  o.check();
  return o;
}

/// A run:
///
///   "model"      config.json of the model; the vocabulary's size is filled in
///   "parts"      where its weights are from (parts.hpp); none: from scratch
///   "recompute"  true: the language model's activations are computed again in the backward
///   "chat"       zephyr, mamba, pure or plain
///   "tokenizer"  {"file": tokenizer.json} or {"vocabulary": size}, learned from the data's texts
///   "data"       {"source": FILE.json | "garment:" + folder of IDX files, "images", "seed",
///                 "sampling", "labels": "answers" | "caption", "max_length", "garment": {...}}
///   "training"   {"steps", "batch", "micro_batch", "learning_rate", "last_rate",
///                 "warmup" (updates) or "warmup_ratio", "decay", "first_update_zero",
///                 "weight_decay", "beta1", "beta2", "epsilon", "clip", "decay_convolutions",
///                 "decay_embeddings", "rate_factors", "normalisation", "freeze": [prefixes],
///                 "seed", "ranks": processes of the original whose order of data it is}
///   "test"       {"source", "images", "seed", "scenes", "max_tokens", "garment"}: questions held
///                out
///   "run"        {"checkpoint_every", "keep", "log_every", "evaluate_every", "evaluate_scenes"}:
///                what does not change the result
struct recipe {
  struct data_part {
    std::string source, images, sampling;
    std::uint64_t seed = 1;
    labelling labels = labelling::answers;
    std::size_t max_length = 2048;
    garment::options garment;

    bool is_garment() const { return source.starts_with("garment"); }
    std::string garment_folder() const {
      return source.size() > 8 ? source.substr(8) : std::string(garment::default_folder);
    }
  };
  json model;
  json whole;  ///< the recipe itself, without "run": what makes the run this run
  bool recompute = false;
  chat_format chat = chat_format::zephyr;
  std::string tokenizer_file;
  std::int32_t vocabulary = 4096;
  data_part data, test;
  std::uint64_t test_scenes = 0;
  index_t max_tokens = 96, evaluate_scenes = 0;
  index_t batch = 16, micro_batch = 16, ranks = 1;
  std::uint64_t seed = 7;
  std::vector<std::string> freeze;
  trainer_options training;
};

/// The same training in another number of updates: a warm-up that is given in updates keeps its
/// share of them.
inline void set_steps(json& recipe, index_t steps, const std::string& who) {
  json& t = detail::part_in(recipe, "training", who);
  if (json_has(t, "warmup") && json_has(t, "steps")) {
    const auto of = json_get<double>(t, "steps", who), warmup = json_get<double>(t, "warmup", who);
    t["warmup_ratio"] = of > 0 ? std::clamp(warmup / of, 0.0, 1.0) : 0.0;
    t.erase("warmup");
  }
  t["steps"] = steps;
}

inline recipe recipe_from(const json& j, const std::string& who) {
  using detail::only_keys;
  only_keys(j,
            {"model", "parts", "recompute", "chat", "tokenizer", "data", "training", "test", "run",
             "comment"},
            who);
  recipe r;
  r.whole = j;
  r.whole.erase("run"), r.whole.erase("test"), r.whole.erase("comment");
  r.model = json_at(j, "model", who);
  r.recompute = json_get_or<bool>(j, "recompute", false, who);
  r.chat = chat_format_of(json_get_or<std::string>(j, "chat", "zephyr", who));

  const json words = detail::part_of(j, "tokenizer");
  only_keys(words, {"file", "vocabulary"}, who + ": tokenizer");
  r.tokenizer_file = json_get_or<std::string>(words, "file", "", who);
  r.vocabulary = json_get_or<std::int32_t>(words, "vocabulary", r.vocabulary, who);

  const auto read_data = [&](const json& d, recipe::data_part& to, const std::string& where) {
    to.source = json_get_or<std::string>(d, "source", "", where);
    to.images = json_get_or<std::string>(d, "images", "", where);
    to.seed = json_get_or<std::uint64_t>(d, "seed", to.seed, where);
    to.sampling =
        json_get_or<std::string>(d, "sampling", to.is_garment() ? "in-order" : "grouped", where);
    to.garment = garment_options_from(detail::part_of(d, "garment"), where + ": garment");
  };
  const json data = json_at(j, "data", who);
  only_keys(data, {"source", "images", "seed", "sampling", "labels", "max_length", "garment"},
            who + ": data");
  read_data(data, r.data, who + ": data");
  const auto labels = json_get_or<std::string>(data, "labels", "answers", who);
  if (labels != "answers" && labels != "caption")
    fail<io_error>(who, ": \"labels\" is \"", labels, "\"; answers or caption is wanted");
  r.data.labels = labels == "caption" ? labelling::caption : labelling::answers;
  r.data.max_length = json_get_or<std::size_t>(data, "max_length", r.data.max_length, who);

  const json t = json_at(j, "training", who);
  only_keys(t,
            {"steps",
             "batch",
             "micro_batch",
             "learning_rate",
             "last_rate",
             "warmup",
             "warmup_ratio",
             "decay",
             "first_update_zero",
             "weight_decay",
             "beta1",
             "beta2",
             "epsilon",
             "clip",
             "decay_convolutions",
             "decay_embeddings",
             "rate_factors",
             "normalisation",
             "freeze",
             "seed",
             "ranks"},
            who + ": training");
  trainer_options& o = r.training;
  schedule& s = o.rate;
  const auto number = [&](const char* key, double& to) {
    to = json_get_or<double>(t, key, to, who);
  };
  const auto flag = [&](const char* key, bool& to) { to = json_get_or<bool>(t, key, to, who); };
  s.steps = json_get<index_t>(t, "steps", who);
  number("learning_rate", s.peak), number("last_rate", s.last);
  s.warmup = json_has(t, "warmup")
                 ? json_get<index_t>(t, "warmup", who)
                 : schedule::warmup_of(json_get_or<double>(t, "warmup_ratio", 0.03, who), s.steps);
  s.decay = decay_shape_of(json_get_or<std::string>(t, "decay", "cosine", who));
  flag("first_update_zero", s.first_update_zero);
  s.check();
  number("weight_decay", o.optimizer.weight_decay), number("clip", o.optimizer.clip);
  number("beta1", o.optimizer.beta1), number("beta2", o.optimizer.beta2);
  number("epsilon", o.optimizer.epsilon);
  flag("decay_convolutions", o.optimizer.decay_convolutions);
  flag("decay_embeddings", o.optimizer.decay_embeddings);
  const json factors = detail::part_of(t, "rate_factors");
  for (const auto& [prefix, factor] : factors.items())
    o.optimizer.rate_factors.emplace_back(prefix, json_to<double>(factor, who, prefix));
  o.normalisation = normalisation_of(json_get_or<std::string>(t, "normalisation", "tokens", who));
  r.batch = json_get_or<index_t>(t, "batch", r.batch, who);
  r.micro_batch = json_get_or<index_t>(t, "micro_batch", r.batch, who);
  r.ranks = json_get_or<index_t>(t, "ranks", r.ranks, who);
  r.seed = json_get_or<std::uint64_t>(t, "seed", r.seed, who);
  r.freeze = json_get_or<std::vector<std::string>>(t, "freeze", {}, who);

  const json test = detail::part_of(j, "test");
  only_keys(test, {"source", "images", "seed", "scenes", "max_tokens", "garment"}, who + ": test");
  read_data(test, r.test, who + ": test");
  r.test_scenes = json_get_or<std::uint64_t>(test, "scenes", 400, who);
  r.max_tokens = json_get_or<index_t>(test, "max_tokens", r.max_tokens, who);

  const json run = detail::part_of(j, "run");
  only_keys(run, {"checkpoint_every", "keep", "log_every", "evaluate_every", "evaluate_scenes"},
            who + ": run");
  o.checkpoint_every = json_get_or<index_t>(run, "checkpoint_every", 500, who);
  o.keep = json_get_or<int>(run, "keep", 2, who);
  o.log_every = json_get_or<index_t>(run, "log_every", 50, who);
  o.evaluate_every = json_get_or<index_t>(run, "evaluate_every", 0, who);
  r.evaluate_scenes = json_get_or<index_t>(run, "evaluate_scenes", 50, who);
  for (const auto& [key, n] : {std::pair{"checkpoint_every", o.checkpoint_every},
                               {"log_every", o.log_every},
                               {"evaluate_every", o.evaluate_every},
                               {"evaluate_scenes", r.evaluate_scenes}})
    if (n < 0) fail<io_error>(who, ": \"", key, "\" is ", n, "; 0 or more is wanted");
  o.config = r.whole;
  return r;
}

/// The examples that a recipe trains on.
inline data_source source_of(const recipe& r) {
  if (r.data.source.empty()) fail("recipe: no data; --data or \"source\" is wanted");
  if (!r.data.is_garment()) return read_llava(r.data.source, r.data.images);
  return garment_source(garment::load_source(garment::split::train, r.data.garment_folder()),
                        r.data.seed, r.data.garment);
}

/// The questions that it is tested with, `scenes` pictures of them (0: as the recipe says). They
/// are of other photos than the examples.
inline vqa_set test_of(const recipe& r, std::uint64_t scenes = 0) {
  const std::uint64_t n = scenes ? scenes : r.test_scenes;
  if (r.test.is_garment())
    return garment_questions(garment::load_source(garment::split::test, r.test.garment_folder()),
                             r.test.seed, n, r.test.garment);
  vqa_set all = read_questions(r.test.source, r.test.images);
  all.scenes = std::min(all.scenes, n);
  return all;
}

/// Learns a vocabulary from the texts of a recipe's data; the text of a tokenizer.json.
inline std::string vocabulary_of(const recipe& r, const data_source& source) {
  bpe_options o;
  o.vocabulary = r.vocabulary;
  if (r.chat == chat_format::zephyr) {
    o.special.push_back("<|user|>");
    o.special.push_back("<|assistant|>");
  }
  bpe_trainer t(o);
  if (r.data.is_garment()) {
    t.add(garment::corpus());
  } else {
    for (std::uint64_t i = 0; i < source.size; ++i)
      for (const auto& turn : source.turns(i)) t.add(turn.text);
  }
  return t.train();
}

}  // namespace mlmamba::train
