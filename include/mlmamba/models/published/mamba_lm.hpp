// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Mamba language models from published files: configs and names of state-spaces and Hugging Face.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mlmamba/io/checkpoint.hpp"
#include "mlmamba/models/mamba_lm.hpp"
#include "mlmamba/nn/mamba1.hpp"

namespace mlmamba {

namespace detail {

/// What a config calls the mixer: "Mamba1", "Mamba2"; "" for mixers of one's own, which any config
/// fits.
template <template <class> class Mixer>
struct mixer_name {
  static constexpr std::string_view value = "";
};
template <>
struct mixer_name<nn::mamba1> {
  static constexpr std::string_view value = "Mamba1";
};
template <>
struct mixer_name<nn::mamba2> {
  static constexpr std::string_view value = "Mamba2";
};

inline void only_if(bool fine, const json& config, const char* key, const char* wanted,
                    const std::string& who) {
  if (!fine)
    fail<io_error>(who, ": \"", key, "\" is ", json_excerpt(config.at(key)), "; ", wanted,
                   " is supported");
}

inline void read_limits(const json& config, const char* key, double& low, double& high,
                        const std::string& who) {
  if (!json_has(config, key)) return;
  const auto v = json_to<std::vector<double>>(config.at(key), who, key);
  only_if(v.size() == 2, config, key, "a pair of numbers", who);
  low = v[0], high = v[1];
}

/// Sizes above this are mistakes or attacks: they are refused before memory is asked for.
inline index_t checked_size(const json& config, const char* key, index_t fallback,
                            const std::string& who) {
  const index_t n = json_get_or<index_t>(config, key, fallback, who);
  if (n < 0 || n > index_t{1} << 24)
    fail<io_error>(who, ": \"", key, "\" is ", n, "; 0 to 2^24 is wanted");
  return n;
}

/// The `ssm_cfg` of state-spaces into what is already there.
inline void read_ssm_cfg(const json& config, nn::mixer_config& m, const std::string& who) {
  const auto size = [&](const char* key, index_t& to) { to = checked_size(config, key, to, who); };
  size("d_state", m.d_state), size("d_conv", m.d_conv), size("expand", m.expand);
  size("headdim", m.headdim), size("ngroups", m.ngroups), size("d_ssm", m.d_ssm);
  size("chunk_size", m.chunk_size);
  if (json_has(config, "dt_rank") && config.at("dt_rank") != "auto") size("dt_rank", m.dt_rank);
  const auto flag = [&](const char* key, bool& to) {
    to = json_get_or<bool>(config, key, to, who);
  };
  flag("D_has_hdim", m.D_has_hdim), flag("rmsnorm", m.rmsnorm);
  flag("norm_before_gate", m.norm_before_gate), flag("bias", m.bias);
  flag("conv_bias", m.conv_bias), flag("scan_norms", m.scan_norms);
  const auto number = [&](const char* key, double& to) {
    to = json_get_or<double>(config, key, to, who);
  };
  number("dt_min", m.dt_min), number("dt_max", m.dt_max);
  number("dt_init_floor", m.dt_init_floor), number("conv_init", m.conv_init);
  number("scan_norm_epsilon", m.scan_norm_epsilon);
  read_limits(config, "dt_limit", m.dt_limit_low, m.dt_limit_high, who);
  read_limits(config, "A_init_range", m.A_init_low, m.A_init_high, who);
}

}  // namespace detail

/// What a config.json says of a language model, and which mixer it is about.
struct published_mamba {
  mamba_config config;
  std::string layer;  // "Mamba1", "Mamba2"
};

/// Reads the config.json of state-spaces ("d_model", "ssm_cfg") and of Hugging Face ("hidden_size")
/// models. Errors: io_error for what is not supported, such as attention layers.
inline published_mamba mamba_config_from(const json& config, const std::string& who) {
  published_mamba p;
  mamba_config& c = p.config;
  nn::mixer_config& m = c.mixer;
  const auto size = [&](const char* key, index_t fallback) {
    return detail::checked_size(config, key, fallback, who);
  };
  if (json_has(config, "hidden_size")) {
    const auto type = json_get_or<std::string>(config, "model_type", "", who);
    const bool falcon = type == "falcon_mamba";
    if (type == "mamba2" || (type.empty() && json_has(config, "num_heads"))) {
      p.layer = "Mamba2";
    } else if (type == "mamba" || falcon || type.empty()) {
      p.layer = "Mamba1";
    } else {
      detail::only_if(false, config, "model_type", "mamba, mamba2 or falcon_mamba", who);
    }
    const bool second = p.layer == "Mamba2";
    m.d_model = json_get<index_t>(config, "hidden_size", who);
    m.d_model = size("hidden_size", 0);
    m.d_state = size("state_size", second ? 128 : 16);
    m.d_conv = size("conv_kernel", 4);
    m.expand = size("expand", 2);
    m.bias = json_get_or<bool>(config, "use_bias", false, who);
    m.conv_bias = json_get_or<bool>(config, "use_conv_bias", true, who);
    c.norm_epsilon = m.norm_epsilon = json_get_or<double>(config, "layer_norm_epsilon", 1e-5, who);
    m.dt_min = json_get_or<double>(config, "time_step_min", m.dt_min, who);
    m.dt_max = json_get_or<double>(config, "time_step_max", m.dt_max, who);
    m.dt_init_floor = json_get_or<double>(config, "time_step_floor", m.dt_init_floor, who);
    if (second) {
      m.headdim = size("head_dim", 64);
      m.ngroups = size("n_groups", 8);
      m.chunk_size = size("chunk_size", 256);
      m.rmsnorm = json_get_or<bool>(config, "rms_norm", true, who);
      detail::read_limits(config, "time_step_limit", m.dt_limit_low, m.dt_limit_high, who);
      const index_t heads = size("num_heads", 128);
      if (heads * m.headdim != m.d_inner())
        fail<io_error>(who, ": ", heads, " heads of ", m.headdim,
                       "; expand * hidden_size = ", m.d_inner(), " channels are wanted");
    } else {
      if (json_has(config, "time_step_rank") && config.at("time_step_rank") != "auto")
        m.dt_rank = size("time_step_rank", 0);
      if (size("intermediate_size", m.d_inner()) != m.d_inner())
        detail::only_if(false, config, "intermediate_size", "expand * hidden_size", who);
      m.scan_norms = falcon;
      m.scan_norm_epsilon = json_get_or<double>(config, "mixer_rms_eps", m.scan_norm_epsilon, who);
    }
    const auto act = json_get_or<std::string>(config, "hidden_act", "silu", who);
    if (act != "silu" && act != "swish") detail::only_if(false, config, "hidden_act", "silu", who);
    c.n_layer = size("num_hidden_layers", second ? 64 : 32);
    c.vocab_size = size("vocab_size", 0);
    c.pad_vocab_size_multiple = 1;
    c.tie_embeddings = json_get_or<bool>(config, "tie_word_embeddings", !second, who);
  } else {
    m.d_model = json_get<index_t>(config, "d_model", who);
    m.d_model = size("d_model", 0);
    c.n_layer = size("n_layer", 64);
    c.vocab_size = size("vocab_size", 50277);
    c.pad_vocab_size_multiple = size("pad_vocab_size_multiple", 8);
    c.d_intermediate = size("d_intermediate", 0);
    c.tie_embeddings = json_get_or<bool>(config, "tie_embeddings", true, who);
    c.norm_epsilon = json_get_or<double>(config, "norm_epsilon", c.norm_epsilon, who);
    const json ssm = json_has(config, "ssm_cfg") ? config.at("ssm_cfg") : json::object();
    p.layer = json_get_or<std::string>(ssm, "layer", "Mamba1", who);
    detail::only_if(p.layer == "Mamba1" || p.layer == "Mamba2", ssm, "layer", "Mamba1 or Mamba2",
                    who);
    m.d_state = p.layer == "Mamba1" ? 16 : 128;
    m.norm_epsilon = c.norm_epsilon;
    detail::read_ssm_cfg(ssm, m, who);
    if (!json_get_or<bool>(config, "rms_norm", true, who))
      detail::only_if(false, config, "rms_norm", "true", who);
    if (json_has(config, "attn_layer_idx"))
      detail::only_if(config.at("attn_layer_idx").empty(), config, "attn_layer_idx",
                      "a model without attention layers", who);
  }
  if (p.layer == "Mamba1") m.headdim = 1;  // it has no heads to divide into
  // What problem_with multiplies must fit.
  if (m.expand > 64 || m.ngroups > 4096 || m.d_state > 1 << 16)
    fail<io_error>(who, ": expand ", m.expand, ", groups ", m.ngroups, ", states ", m.d_state,
                   "; at most 64, 4096 and 65536 are wanted");
  if (const char* problem = problem_with(c)) fail<io_error>(who, ": ", problem);
  return p;
}

/// The config of state-spaces, with every option that is not its default there.
inline json to_json(const mamba_config& c, std::string_view layer) {
  const nn::mixer_config& m = c.mixer;
  json ssm{{"layer", layer}, {"d_state", m.d_state}, {"d_conv", m.d_conv}, {"expand", m.expand}};
  if (layer != "Mamba1") {
    ssm["headdim"] = m.headdim;
    ssm["ngroups"] = m.ngroups;
    if (m.chunk_size > 0) ssm["chunk_size"] = m.chunk_size;
    if (m.d_ssm > 0) ssm["d_ssm"] = m.d_ssm;
    if (m.D_has_hdim) ssm["D_has_hdim"] = true;
    if (!m.rmsnorm) ssm["rmsnorm"] = false;
    if (m.norm_before_gate) ssm["norm_before_gate"] = true;
    if (m.dt_limit_low > 0 || m.dt_limit_high < std::numeric_limits<double>::infinity())
      ssm["dt_limit"] = {m.dt_limit_low,
                         std::isinf(m.dt_limit_high) ? json("Infinity") : json(m.dt_limit_high)};
  } else {
    if (m.dt_rank > 0) ssm["dt_rank"] = m.dt_rank;
    if (m.scan_norms) ssm["scan_norms"] = true, ssm["scan_norm_epsilon"] = m.scan_norm_epsilon;
  }
  if (m.bias) ssm["bias"] = true;
  if (!m.conv_bias) ssm["conv_bias"] = false;
  return {{"d_model", m.d_model},
          {"n_layer", c.n_layer},
          {"vocab_size", c.vocab_size},
          {"pad_vocab_size_multiple", c.pad_vocab_size_multiple},
          {"d_intermediate", c.d_intermediate},
          {"norm_epsilon", c.norm_epsilon},
          {"tie_embeddings", c.tie_embeddings},
          {"ssm_cfg", ssm},
          {"rms_norm", true},
          {"residual_in_fp32", true},
          {"attn_layer_idx", json::array()}};
}

namespace detail {

/// A language model's path for an array of a file, or "" if it has no use for it.
inline std::string mamba_path(std::string name, bool tied) {
  if (name.starts_with("llm.")) name.erase(0, 4);  // Cobra's checkpoints
  if (name == "lm_head.weight" && tied) return "";
  if (name.starts_with("backbone.embeddings.")) name.erase(18, 1);  // Hugging Face's plural
  return name;
}

}  // namespace detail

template <engine E, template <class> class Mixer>
struct published<mamba_lm<E, Mixer>> {
  using model = mamba_lm<E, Mixer>;
  static constexpr std::string_view layer = detail::mixer_name<Mixer>::value;

  static model make(const json& config, const std::string& who) {
    const published_mamba p = mamba_config_from(config, who);
    if (!layer.empty() && p.layer != layer)
      fail<io_error>(who, ": its layers are ", p.layer, "; the model's are ", layer);
    return model(p.config);
  }
  static named_arrays arrays(std::vector<safetensors_entry> entries, const json& config,
                             const std::string& who) {
    const bool tied = mamba_config_from(config, who).config.tie_embeddings;
    named_arrays named{who, {}};
    for (const safetensors_entry& e : entries) {
      const std::string path = detail::mamba_path(e.name, tied);
      if (!path.empty()) named.add(path, e);
    }
    return named;
  }
  static json config(const model& m) { return to_json(m.config, layer.empty() ? "Mamba2" : layer); }
};

}  // namespace mlmamba
