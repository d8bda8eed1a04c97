// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Multimodal models from published files: towers, connector and language model of one config.json.
#pragma once

#include <concepts>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/io/image_transform.hpp"
#include "mlmamba/models/connectors/mlp.hpp"
#include "mlmamba/models/connectors/pool.hpp"
#include "mlmamba/models/connectors/scan.hpp"
#include "mlmamba/models/fused_vision.hpp"
#include "mlmamba/models/ml_mamba.hpp"
#include "mlmamba/models/published/mamba_lm.hpp"
#include "mlmamba/models/published/vit.hpp"

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
  const std::string_view family =
      c.kind == vit_kind::dinov2_reg4 ? std::string_view("dinov2") : name_of(c.kind);
  auto t = image_transform::of_tower(family, static_cast<int>(c.image_size), strategy);
  if (c.kind == vit_kind::clip && c.patch_size == 16 && c.image_size == 224)
    t.shorter_edge = 248;  // the published rule of CLIP-B, which crops a margin
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

/// The towers of a config, in the order in which their channels are joined:
///   "vision": [{"name", "kind", ...}, ...], each as vit_config_from reads it; or
///   "dino": {...}, "siglip": {...}, "clip": {...}; or
///   "vision_backbone_id": a published backbone such as "dinosiglip-vit-so-384px".
/// "image_resize_strategy" (resize-naive) says how pictures become squares.
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
  for (const auto& b : preset::vision_backbones)
    if (b.id == id)
      for (const auto& t : b.tower)
        if (!t.name.empty()) add(std::string(t.name), json(), t.config);
  if (towers.empty())
    fail<io_error>(who, ": vision backbone \"", id, "\" is not known; one such as ",
                   preset::vision_backbones.back().id, " is wanted");
  return towers;
}

/// How the pictures of a model are prepared, one rule per tower.
inline std::vector<image_transform> picture_rule(const json& config, const std::string& who) {
  std::vector<image_transform> rule;
  for (published_tower& t : towers_from(config, who)) rule.push_back(std::move(t.transform));
  return rule;
}

/// The "llm" of a config, or the published one that "llm_backbone_id" names.
inline json language_config_from(const json& whole, const std::string& who) {
  const json& config = detail::model_part(whole);
  if (json_has(config, "llm")) return config.at("llm");
  const auto id = json_get<std::string>(config, "llm_backbone_id", who);
  static constexpr std::pair<std::string_view, mamba_config> known[] = {
      {"mamba2-130m", preset::mamba2_130m},
      {"mamba2-370m", preset::mamba2_370m},
      {"mamba2-780m", preset::mamba2_780m},
      {"mamba2-1.3b", preset::mamba2_1_3b},
      {"mamba2-2.7b", preset::mamba2_2_7b}};
  for (const auto& [name, c] : known)
    if (name == id) return to_json(c, "Mamba2");
  fail<io_error>(who, ": language model \"", id, "\" is not known; mamba2-130m, -370m, -780m, ",
                 "-1.3b or -2.7b is wanted");
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

/// Options of connectors from JSON and back. A connector of one's own has none here: it is built
/// from its shape.
template <class O>
concept has_grid = requires(O o) {
  o.out_rows, o.out_cols;
};

template <class O>
void read_options(const json& j, const json&, const json&, O& o, const connector_shape&,
                  const std::string& who) {
  if constexpr (has_grid<O>) {
    o.out_rows = checked_size(j, "out_rows", o.out_rows, who);
    o.out_cols = checked_size(j, "out_cols", o.out_cols, who);
  } else {
    o.factor = checked_size(j, "factor", o.factor, who);
  }
}

/// As the original: the mixers of the scan part are those of the language model, two layers of
/// them, and `arch_specifier` chooses the projector.
inline void read_options(const json& j, const json& config, const json& llm, scan_options& o,
                         const connector_shape& n, const std::string& who) {
  o = scan_options{};
  const published_mamba p = mamba_config_from(llm, who);
  if (p.layer == "Mamba2") {
    o.mixer = p.config.mixer;
  } else {
    o.mixer = scan_options_for(n).mixer;
  }
  o.mixer.d_model = n.d_model;
  o.n_layer = checked_size(j, "n_layer", 2, who);
  o.swiglu = json_get_or<bool>(j, "swiglu", true, who);
  if (json_has(j, "ssm_cfg")) read_ssm_cfg(j.at("ssm_cfg"), o.mixer, who);
  o.mixer.d_model = checked_size(j, "width", n.d_model, who);
  auto arch = json_get_or<std::string>(config, "arch_specifier", "no-align+fused-gelu-mlp", who);
  arch = json_get_or<std::string>(j, "arch_specifier", arch, who);
  o.projector = projector_kind_of(arch);
  o.out_rows = checked_size(j, "out_rows", 14, who);
  o.out_cols = checked_size(j, "out_cols", 14, who);
}

inline json connector_part(const json& config) {
  if (!json_has(config, "connector")) return json::object();
  const json& c = config.at("connector");
  return c.is_string() ? json{{"type", c}} : c;
}

template <class Connector>
Connector make_connector(const json& whole, const json& llm, const connector_shape& n,
                         const std::string& who) {
  const json& config = model_part(whole);
  const json j = connector_part(config);
  if (!j.is_object())
    fail<io_error>(who, ": \"connector\" is ", json_excerpt(j), "; a name or an object is wanted");
  if constexpr (requires { Connector::kind; }) {
    const auto kind = json_get_or<std::string>(j, "type", std::string(Connector::kind), who);
    if (kind != Connector::kind)
      fail<io_error>(who, ": its connector is \"", kind, "\"; the model's is \"", Connector::kind,
                     "\"");
  }
  if constexpr (requires { typename Connector::options; }) {
    typename Connector::options o{};
    try {
      read_options(j, config, llm, o, n, who);
      return Connector(n, o);
    } catch (const io_error&) {
      throw;
    } catch (const error& e) {
      fail<io_error>(who, ": ", e.what());
    }
  } else {
    return Connector(n);
  }
}

template <class Connector>
json connector_json(const Connector& c) {
  json j = json::object();
  if constexpr (requires { Connector::kind; }) j["type"] = Connector::kind;
  if constexpr (requires { c.made_with(); }) {
    const scan_options& o = c.made_with();
    mamba_config whole;
    whole.mixer = o.mixer;
    j["ssm_cfg"] = to_json(whole, "Mamba2").at("ssm_cfg");
    j["n_layer"] = o.n_layer;
    j["swiglu"] = o.swiglu;
    j["width"] = o.mixer.d_model;
    j["arch_specifier"] = name_of(o.projector);
    j["out_rows"] = o.out_rows;
    j["out_cols"] = o.out_cols;
  } else if constexpr (requires { c.out_rows; }) {
    j["out_rows"] = c.out_rows;
    j["out_cols"] = c.out_cols;
  } else if constexpr (requires { c.factor; }) {
    j["factor"] = c.factor;
  } else if constexpr (requires { c.projector.config.out_rows; }) {
    j["out_rows"] = c.projector.config.out_rows;
    j["out_cols"] = c.projector.config.out_cols;
  }
  return j;
}

}  // namespace detail

template <class Vision, class Connector, class Language>
struct published<ml_mamba<Vision, Connector, Language>> {
  using model = ml_mamba<Vision, Connector, Language>;

  static model make(const json& config, const std::string& who) {
    const auto towers = towers_from(config, who);
    if (towers.size() != std::size_t(Vision::towers))
      fail<io_error>(who, ": it has ", towers.size(), " vision towers; the model has ",
                     Vision::towers);
    const json llm = language_config_from(config, who);
    auto vision = [&] {
      try {
        return detail::vision_of<Vision>::make(towers, 0);
      } catch (const shape_error& e) {
        fail<io_error>(who, ": ", e.what());
      }
    }();
    auto language = published<Language>::make(llm, who + ": llm");
    const auto n = model::shape_for(vision, language);
    auto connector = detail::make_connector<Connector>(config, llm, n, who);
    return model(std::move(vision), std::move(connector), std::move(language));
  }

  /// Towers may also be called vision.dino.*, and the language model's arrays may have any name
  /// that its own files may have.
  static named_arrays arrays(std::vector<safetensors_entry> entries, const json& config,
                             const std::string& who) {
    std::map<std::string, index_t> blocks;  // of each tower, by the prefix of its paths
    const auto towers = towers_from(config, who);
    for (const published_tower& t : towers)
      blocks["vision_backbone." + (Vision::towers == 1 ? std::string() : t.name + ".")] =
          t.config.blocks();
    const bool tied =
        mamba_config_from(language_config_from(config, who), who).config.tie_embeddings;
    named_arrays named{who, {}};
    for (const safetensors_entry& e : entries) {
      std::string path = e.name;
      if (path.starts_with("vision.")) {
        const auto dot = path.find('.', 7);
        if (dot != std::string::npos)
          path = "vision_backbone." + path.substr(7, dot - 7) + "_featurizer" + path.substr(dot);
      }
      if (Vision::towers == 1 && path.starts_with("vision_backbone.")) {
        const auto at = path.find("featurizer.");  // "featurizer." or "siglip_featurizer."
        if (at != std::string::npos && path.find('.', 16) == at + 10)
          path = "vision_backbone." + path.substr(at + 11);
      }
      for (const auto& [prefix, n] : blocks) {
        if (!path.starts_with(prefix)) continue;
        const std::string rest = detail::vit_path(path.substr(prefix.size()), n);
        path = rest.empty() ? "" : prefix + rest;
        break;
      }
      if (path.starts_with("llm_backbone.")) {
        const std::string rest = detail::mamba_path(path.substr(13), tied);
        path = rest.empty() ? "" : "llm_backbone." + rest;
      }
      if (!path.empty()) named.add(path, e);
    }
    return named;
  }

  static json config(const model& m) {
    json j{{"model_type", "ml_mamba"},
           {"vision", json::array()},
           {"connector", detail::connector_json(m.connector)},
           {"llm", published<Language>::config(m.llm_backbone)}};
    detail::vision_of<Vision>::write(m.vision_backbone, "featurizer", j["vision"]);
    return j;
  }
};

}  // namespace mlmamba
