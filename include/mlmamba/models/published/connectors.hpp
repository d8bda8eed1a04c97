// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Connectors from the config of a multimodal model, and back.
#pragma once

#include <string>
#include <utility>
#include <variant>

#include "mlmamba/models/connectors/mlp.hpp"
#include "mlmamba/models/connectors/pool.hpp"
#include "mlmamba/models/connectors/scan.hpp"
#include "mlmamba/models/published/mamba_lm.hpp"
#include "mlmamba/models/published/towers.hpp"

namespace mlmamba {

namespace detail {

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

/// One of several (connectors/any.hpp): the one that "type" names. Without that Mamba-1 models, as
/// Cobra, have the one that "arch_specifier" names; others the first.
template <class Any>
Any make_any(const json& whole, const json& part, const json& llm, const connector_shape& n,
             const std::string& who);

template <class Connector>
Connector make_connector(const json& whole, const json& llm, const connector_shape& n,
                         const std::string& who) {
  const json& config = model_part(whole);
  const json j = connector_part(config);
  if (!j.is_object())
    fail<io_error>(who, ": \"connector\" is ", json_excerpt(j), "; a name or an object is wanted");
  if constexpr (requires { typename Connector::choices; })
    return make_any<Connector>(whole, j, llm, n, who);
  if constexpr (requires { Connector::kind; }) {
    const auto kind = json_get_or<std::string>(j, "type", std::string(Connector::kind), who);
    if (kind != Connector::kind)
      fail<io_error>(who, ": its connector is \"", kind, "\"; the model's is \"", Connector::kind,
                     "\"");
  }
  if constexpr (
      requires { Connector::kind; } && !requires { Connector::names_are_top_level; }) {
    // Prismatic and Cobra say it with the arch_specifier alone.
    const auto arch = json_get_or<std::string>(config, "arch_specifier", "", who);
    if (!json_has(j, "type") && !arch.empty() &&
        name_of(projector_kind_of(arch)) != Connector::kind)
      fail<io_error>(who, ": its connector is \"", arch, "\"; the model's is \"", Connector::kind,
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

template <class Any>
Any make_any(const json& whole, const json& part, const json& llm, const connector_shape& n,
             const std::string& who) {
  using choices = typename Any::choices;
  const auto make = [&]<class T>(std::in_place_type_t<T> t) {
    return choices(t, make_connector<T>(whole, llm, n, who));
  };
  const auto arch = json_get_or<std::string>(model_part(whole), "arch_specifier", "", who);
  const bool by_arch = !arch.empty() && mamba_config_from(llm, who).layer == "Mamba1";
  if (!json_has(part, "type") && !by_arch)
    return Any(n, make(std::in_place_type<std::variant_alternative_t<0, choices>>));
  try {
    const auto kind = json_get_or<std::string>(
        part, "type", by_arch ? std::string(name_of(projector_kind_of(arch))) : "", who);
    return Any(n, Any::choose(kind, make));
  } catch (const io_error&) {
    throw;
  } catch (const error& e) {
    fail<io_error>(who, ": ", e.what());
  }
}

template <class Connector>
json connector_json(const Connector& c) {
  if constexpr (requires { c.chosen; })
    return std::visit([](const auto& one) { return connector_json(one); }, c.chosen);
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

}  // namespace mlmamba
