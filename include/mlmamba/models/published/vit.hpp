// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Vision towers from published files: configs in timm's words, arrays under the names of timm,
// OpenCLIP and SigLIP's packaging.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/io/checkpoint.hpp"
#include "mlmamba/models/vit.hpp"

namespace mlmamba {

namespace detail {

/// A square size: a number, or two equal ones.
inline index_t square_size(const json& config, const char* key, index_t fallback,
                           const std::string& who) {
  if (!json_has(config, key)) return fallback;
  const json& v = config.at(key);
  if (!v.is_array()) return json_to<index_t>(v, who, key);
  const auto sides = json_to<std::vector<index_t>>(v, who, key);
  if (sides.size() != 2 || sides[0] != sides[1])
    fail<io_error>(who, ": \"", key, "\" is ", json_excerpt(v), "; a square is wanted");
  return sides[0];
}

inline activation activation_of(const std::string& name, const std::string& who) {
  if (name == "gelu") return activation::gelu;
  if (name == "quick_gelu" || name == "quickgelu") return activation::quick_gelu;
  if (name == "gelu_tanh" || name == "gelu_pytorch_tanh") return activation::gelu_tanh;
  if (name == "silu" || name == "swish") return activation::silu;
  if (name == "relu") return activation::relu;
  fail<io_error>(who, ": activation \"", name,
                 "\"; gelu, quick_gelu, gelu_tanh, silu or relu is wanted");
}

}  // namespace detail

/// A tower in timm's words: kind, img_size, patch_size, embed_dim, depth, num_heads, mlp_ratio; and
/// where it differs from its kind class_token, reg_tokens, no_embed_class, init_values, pre_norm,
/// act_layer, qkv_bias, layer_norm_eps. Ours: mlp_hidden (exact), patch_bias, feature_block.
/// Members that change nothing here (num_classes, global_pool, rates of dropping) are passed over;
/// those that would (qk_norm, a gated MLP) are refused.
inline vit_config vit_config_from(const json& config, const std::string& who,
                                  std::string kind_name = "") {
  if (kind_name.empty()) kind_name = json_get<std::string>(config, "kind", who);
  vit_kind kind;
  try {
    kind = vit_kind_of(kind_name);
  } catch (const error& e) {
    fail<io_error>(who, ": ", e.what());
  }
  const auto size = [&](const char* key, index_t fallback) {
    const index_t n = json_get_or<index_t>(config, key, fallback, who);
    if (n < 0 || n > index_t{1} << 24)
      fail<io_error>(who, ": \"", key, "\" is ", n, "; 0 to 2^24 is wanted");
    return n;
  };
  const double ratio = json_get_or<double>(config, "mlp_ratio", 4.0, who);
  if (!(ratio > 0) || ratio > 1024)
    fail<io_error>(who, ": \"mlp_ratio\" is ", ratio, "; a ratio above 0 is wanted");
  vit_config c =
      make_vit_config(kind, detail::square_size(config, "img_size", 224, who),
                      detail::square_size(config, "patch_size", 14, who), size("embed_dim", 768),
                      size("depth", 12), size("num_heads", 12), ratio);
  c.mlp_hidden = size("mlp_hidden", c.mlp_hidden);
  const auto flag = [&](const char* key, bool fallback) {
    return json_get_or<bool>(config, key, fallback, who);
  };
  c.class_token = flag("class_token", c.class_token);
  c.registers = size("reg_tokens", c.registers);
  c.embed_prefix = !flag("no_embed_class", !c.embed_prefix) && c.prefix() > 0;
  c.pre_norm = flag("pre_norm", c.pre_norm);
  c.qkv_bias = flag("qkv_bias", c.qkv_bias);
  c.patch_bias = flag("patch_bias", json_has(config, "pre_norm") ? !c.pre_norm : c.patch_bias);
  if (config.contains("init_values")) c.layer_scale = !config.at("init_values").is_null();
  if (json_has(config, "act_layer"))
    c.activation = detail::activation_of(json_get<std::string>(config, "act_layer", who), who);
  for (const char* key : {"layer_norm_eps", "norm_eps", "epsilon"})
    c.epsilon = json_get_or<double>(config, key, c.epsilon, who);
  c.feature_block = json_get_or<index_t>(config, "feature_block", c.feature_block, who);
  for (const char* key : {"qk_norm", "scale_attn_norm", "scale_mlp_norm", "mlp_gated"})
    if (json_has(config, key) && config.at(key) != false)
      fail<io_error>(who, ": \"", key, "\" is ", detail::json_excerpt(config.at(key)),
                     "; towers with it are not supported");
  if (const char* problem = problem_with(c)) fail<io_error>(who, ": ", problem);
  return c;
}

inline json to_json(const vit_config& c) {
  const char* act = c.activation == activation::quick_gelu  ? "quick_gelu"
                    : c.activation == activation::gelu_tanh ? "gelu_tanh"
                                                            : to_string(c.activation);
  json j{{"kind", name_of(c.kind)},
         {"img_size", c.image_size},
         {"patch_size", c.patch_size},
         {"embed_dim", c.d_model},
         {"depth", c.depth},
         {"num_heads", c.heads},
         {"mlp_hidden", c.mlp_hidden},
         {"class_token", c.class_token},
         {"reg_tokens", c.registers},
         {"no_embed_class", !c.embed_prefix},
         {"pre_norm", c.pre_norm},
         {"qkv_bias", c.qkv_bias},
         {"patch_bias", c.patch_bias},
         {"act_layer", act},
         {"layer_norm_eps", c.epsilon},
         {"feature_block", c.feature_block}};
  j["init_values"] = c.layer_scale ? json(1e-5) : json(nullptr);
  return j;
}

namespace detail {

/// A tower's name for an array of a file, or "" if it has no use for it: the final norm, the heads
/// and poolings, and the blocks after the feature block.
inline std::string vit_path(std::string name, index_t blocks) {
  const auto replace = [&](std::string_view from, std::string_view to) {
    for (std::size_t at = 0; (at = name.find(from, at)) != std::string::npos; at += to.size())
      name.replace(at, from.size(), to);
  };
  if (name.starts_with("visual.trunk.")) {  // OpenCLIP around timm
    name.erase(0, 13);
  } else if (name.starts_with("visual.")) {  // OpenAI's CLIP
    name.erase(0, 7);
    for (const auto& [from, to] :
         std::initializer_list<std::pair<std::string_view, std::string_view>>{
             {"conv1", "patch_embed.proj"},
             {"positional_embedding", "pos_embed"},
             {"transformer.resblocks.", "blocks."},
             {"ln_pre", "norm_pre"},
             {"ln_post", "norm"},
             {"ln_", "norm"},
             {"in_proj_", "qkv."},
             {"out_proj", "proj"},
             {"mlp.c_fc", "mlp.fc1"},
             {"mlp.c_proj", "mlp.fc2"},
             {"class_embedding", "cls_token"}})
      replace(from, to);
    if (name == "proj") return "";
  }
  if (name == "register_tokens") return "reg_token";  // DINOv2 as its authors store it
  for (std::string_view unused : {"norm.", "head.", "head_dist.", "fc_norm.", "attn_pool.",
                                  "mask_token", "text.", "logit_scale", "logit_bias"})
    if (name.starts_with(unused)) return "";
  if (name.starts_with("blocks.")) {
    const auto digits = name.find_first_not_of("0123456789", 7);
    if (digits != std::string::npos && digits > 7 && digits < 7 + 6 && name[digits] == '.' &&
        std::stoll(name.substr(7, digits - 7)) >= blocks)
      return "";
  }
  return name;
}

/// Of files that hold a text tower too, as CLIP's and SigLIP's in their authors' packaging, what is
/// below "visual.".
inline void keep_visual(std::vector<safetensors_entry>& entries) {
  const auto visual = [](const safetensors_entry& e) { return e.name.starts_with("visual."); };
  if (std::any_of(entries.begin(), entries.end(), visual))
    std::erase_if(entries, [&](const safetensors_entry& e) { return !visual(e); });
}

/// DINOv2 as its authors store it has a position of the class token, first in pos_embed; it is
/// added to that token, as timm does. Arrays are those below `prefix`.
inline void split_class_position(named_arrays& named, const std::string& prefix,
                                 const vit_config& c) {
  const auto cls = named.by_path.find(prefix + "cls_token");
  const auto pos = named.by_path.find(prefix + "pos_embed");
  if (c.kind != vit_kind::dinov2_reg4 || c.embed_prefix || cls == named.by_path.end() ||
      pos == named.by_path.end())
    return;
  const auto& shape = pos->second.shape;
  const index_t d = c.d_model;
  if (shape.size() != 3 || shape[0] != 1 || shape[1] < 2 || shape[2] != d ||
      cls->second.count() != d)
    return;
  const auto side = [](std::int64_t n) { return std::llround(std::sqrt(double(n))); };
  if (side(shape[1]) * side(shape[1]) == shape[1] ||
      side(shape[1] - 1) * side(shape[1] - 1) != shape[1] - 1)
    return;
  const auto replace = [](safetensors_entry& e, std::vector<std::int64_t> n,
                          std::vector<float> values) {
    const auto kept = std::make_shared<std::vector<float>>(std::move(values));
    const std::string name = e.name;
    e = entry_of<float>(name, std::move(n), std::span<const float>(*kept));
    e.owner = kept;
  };
  const auto positions = read_values<float>(pos->second);
  auto token = read_values<float>(cls->second);
  for (std::size_t i = 0; i < token.size(); ++i) token[i] += positions[i];
  const auto rest = positions.begin() + std::ptrdiff_t(token.size());
  const std::int64_t n = shape[1] - 1;
  replace(cls->second, {1, 1, d}, std::move(token));
  replace(pos->second, {1, n, d}, {rest, positions.end()});
}

}  // namespace detail

template <engine E>
struct published<vit<E>> {
  static vit<E> make(const json& config, const std::string& who) {
    return vit<E>(vit_config_from(config, who));
  }
  static named_arrays arrays(std::vector<safetensors_entry> entries, const json& config,
                             const std::string& who) {
    return arrays(std::move(entries), vit_config_from(config, who), who);
  }
  static named_arrays arrays(std::vector<safetensors_entry> entries, const vit_config& c,
                             const std::string& who) {
    named_arrays named{who, {}};
    detail::keep_visual(entries);
    for (const safetensors_entry& e : entries) {
      const std::string path = detail::vit_path(e.name, c.blocks());
      if (!path.empty()) named.add(path, e);
    }
    detail::split_class_position(named, "", c);
    return named;
  }
  static json config(const vit<E>& tower) { return to_json(tower.config); }
};

}  // namespace mlmamba
