// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Vision towers of a multimodal model's config, and how pictures are prepared for them.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/io/image_transform.hpp"
#include "mlmamba/models/fused_vision.hpp"
#include "mlmamba/models/published/vit.hpp"
#include "mlmamba/models/registry/vision.hpp"

namespace mlmamba {

/// A tower of a multimodal model, as its config.json describes it.
struct published_tower {
  std::string name;  ///< its part in parameter names: "dino_featurizer"
  vit_config config;
  image_transform transform;  ///< from a picture to its pixels
};

namespace detail {

inline image_transform transform_for(const vit_config& c, const json& tower,
                                     resize_strategy strategy, const std::string& who) {
  auto t = transform_of(c, strategy);
  for (const char* key : {"mean", "std"}) {
    if (!tower.is_object() || !json_has(tower, key)) continue;
    const auto v = json_to<std::vector<double>>(tower.at(key), who, key);
    if (v.size() != 3)
      fail<io_error>(who, ": \"", key, "\" has ", v.size(), " numbers; 3 are wanted");
    auto& to = key[0] == 'm' ? t.mean : t.std;
    std::copy(v.begin(), v.end(), to.begin());
  }
  return t;
}

/// The part of a config that describes the model: "model" in the original's files, else all of it.
inline const json& model_part(const json& config) {
  return json_has(config, "model") && config.at("model").is_object() ? config.at("model") : config;
}

}  // namespace detail

/// Is it the config of a model with vision towers, in one of the forms of towers_from?
inline bool has_towers(const json& whole) {
  const json& config = detail::model_part(whole);
  for (const char* key : {"vision", "vision_backbone_id"})
    if (json_has(config, key)) return true;
  for (const char* key : {"dino", "siglip", "clip", "in1k"})
    if (json_has(config, key) && config.at(key).is_object()) return true;
  return false;
}

/// The towers of a config, in the order in which their channels are joined:
///   "vision": [{"name", "kind", ...}, ...], each as vit_config_from reads it; or
///   "dino": {...}, "siglip": {...}, "clip": {...}; or
///   "vision_backbone_id": a published backbone such as "dinosiglip-vit-so-384px".
/// "image_resize_strategy" (resize-naive) says how pictures become squares; "mean" and "std" of a
/// tower, three numbers each, how its pixels are normalised if not as those of its kind.
inline std::vector<published_tower> towers_from(const json& whole, const std::string& who) {
  const json& config = detail::model_part(whole);
  resize_strategy strategy{};
  try {
    strategy = resize_strategy_of(
        json_get_or<std::string>(config, "image_resize_strategy", "resize-naive", who));
  } catch (const io_error&) {
    throw;
  } catch (const error& e) {
    fail<io_error>(who, ": ", e.what());
  }
  std::vector<published_tower> towers;
  const auto add = [&](const std::string& name, const json& tower, vit_config c) {
    towers.push_back({name, c, detail::transform_for(c, tower, strategy, who)});
  };
  if (json_has(config, "vision")) {
    const json& list = config.at("vision");
    if (!list.is_array() || list.empty() || list.size() > 8)
      fail<io_error>(who, ": \"vision\" is ", detail::json_excerpt(list),
                     "; a list of 1 to 8 towers is wanted");
    for (const json& tower : list)
      add(json_get_or<std::string>(tower, "name", "featurizer", who), tower,
          vit_config_from(tower, who));
    return towers;
  }
  static constexpr std::pair<const char*, const char*> keys[] = {
      {"dino", "dinov2-reg4"}, {"siglip", "siglip"}, {"clip", "clip"}, {"in1k", "in1k"}};
  for (const auto& [key, kind] : keys) {
    if (!json_has(config, key) || !config.at(key).is_object()) continue;
    const json& tower = config.at(key);
    vit_config c = vit_config_from(tower, who + ": " + key,
                                   json_get_or<std::string>(tower, "kind", kind, who));
    // CLIP beside another tower: the original forgets its quick GELU.
    if (c.kind == vit_kind::clip && !towers.empty() && !json_has(tower, "act_layer"))
      c.activation = activation::gelu;
    add(std::string(key) + "_featurizer", tower, c);
  }
  if (!towers.empty()) return towers;
  if (!json_has(config, "vision_backbone_id"))
    fail<io_error>(who, ": no \"vision\", \"dino\", \"siglip\", \"clip\" or ",
                   "\"vision_backbone_id\"; one is wanted");
  const auto id = json_get<std::string>(config, "vision_backbone_id", who);
  const vision_backbone* backbone = registry::find(preset::vision_backbones, id);
  if (backbone == nullptr)
    fail<io_error>(
        who, ": ",
        registry::unknown_text("vision backbone", id, registry::ids_of(preset::vision_backbones)));
  for (std::size_t i = 0; i < backbone->towers(); ++i)
    add(std::string(backbone->tower[i].name), json(), backbone->tower[i].config);
  return towers;
}

/// How the pictures of a model are prepared, one rule per tower.
inline std::vector<image_transform> picture_rule(const json& config, const std::string& who) {
  std::vector<image_transform> rule;
  for (published_tower& t : towers_from(config, who)) rule.push_back(std::move(t.transform));
  return rule;
}

/// Adds to the "vision" that published<Model>::config wrote what the towers of `config` have of
/// their own and a vit_config can't say: means and deviations of pixels.
inline void keep_picture_rule(json& vision, const json& config, const std::string& who) {
  const auto towers = towers_from(config, who);
  for (std::size_t i = 0; i < towers.size() && i < vision.size(); ++i) {
    const image_transform& t = towers[i].transform;
    const image_transform usual = transform_of(towers[i].config, t.strategy);
    if (t.mean != usual.mean) vision[i]["mean"] = t.mean;
    if (t.std != usual.std) vision[i]["std"] = t.std;
  }
}

namespace detail {

/// Builds the encoder from towers [at, ...) and says how it is written.
template <class Vision>
struct vision_of;

template <engine E>
struct vision_of<vit<E>> {
  static vit<E> make(const std::vector<published_tower>& towers, std::size_t at) {
    return vit<E>(towers[at].config);
  }
  static void write(const vit<E>& v, const std::string& name, json& list) {
    json j = to_json(v.config);
    j["name"] = name;
    list.push_back(j);
  }
};
template <class A, class B>
struct vision_of<fused<A, B>> {
  static fused<A, B> make(const std::vector<published_tower>& towers, std::size_t at) {
    const auto second = at + std::size_t(A::towers);
    return fused<A, B>(vision_of<A>::make(towers, at), vision_of<B>::make(towers, second),
                       towers[at].name, towers[second].name);
  }
  static void write(const fused<A, B>& v, const std::string&, json& list) {
    vision_of<A>::write(v.first, v.first_name, list);
    vision_of<B>::write(v.second, v.second_name, list);
  }
};

}  // namespace detail

}  // namespace mlmamba
