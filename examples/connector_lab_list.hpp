// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The connectors that take part, one of one's own among them.
#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "mlmamba/models/connectors/any.hpp"
#include "mlmamba/models/preset.hpp"
#include "mlmamba/models/published/ml_mamba.hpp"
#include "training_program.hpp"

namespace lab {

namespace nn = mlmamba::nn;
using mlmamba::context_of, mlmamba::in, mlmamba::out, mlmamba::json;

using E = mlmamba::examples::training_engine;

/// A connector of one's own (04_custom_connector.cpp proves its backward):
/// y = down(silu(gate(x)) * up(x))
struct gated {
  using engine_type = E;
  nn::linear<E> gate, up, down;

  explicit gated(mlmamba::connector_shape n)
      : gate(n.d_vision, n.d_model), up(n.d_vision, n.d_model), down(n.d_model, n.d_model) {}
  static void fields(auto& self, auto&& f) {
    f("gate", self.gate), f("up", self.up), f("down", self.down);
  }
  struct saved {
    nn::linear<E>::saved gate, up, down;
    in<E, 3> g, u;
  };
  out<E, 3> forward(context_of<E>& ctx, in<E, 3> x, saved& s) const {
    s.g = gate.forward(ctx, x, s.gate);
    s.u = up.forward(ctx, x, s.up);
    return down.forward(ctx, nn::silu_mul(ctx, s.g, s.u), s.down);
  }
  out<E, 3> backward(context_of<E>& ctx, in<E, 3> dy, const saved& s) {
    auto d = nn::silu_mul_backward(ctx, down.backward(ctx, dy, s.down), s.g, s.u);
    return nn::add(ctx, gate.backward(ctx, d.gate, s.gate), up.backward(ctx, d.up, s.up));
  }
};

/// Two linear maps with GELU between them, and as many parameters as a scan connector with its
/// usual options: is it the scan that helps, or the size?
struct wide_mlp {
  using engine_type = E;
  nn::linear<E> up, down;

  explicit wide_mlp(const mlmamba::connector_shape& n)
      : up(n.d_vision, hidden(n), true, mlmamba::activation::gelu), down(hidden(n), n.d_model) {}
  static mlmamba::index_t hidden(const mlmamba::connector_shape& n) {
    const auto wanted = nn::parameter_count(mlmamba::scan_connector<E>(n));
    return std::max<mlmamba::index_t>(wanted / (n.d_vision + n.d_model) / 8 * 8, 8);
  }
  static void fields(auto& self, auto&& f) { f("up", self.up), f("down", self.down); }
  struct saved {
    nn::linear<E>::saved up, down;
  };
  out<E, 3> forward(context_of<E>& ctx, in<E, 3> x, saved& s) const {
    return down.forward(ctx, up.forward(ctx, x, s.up), s.down);
  }
  out<E, 3> backward(context_of<E>& ctx, in<E, 3> dy, const saved& s) {
    return up.backward(ctx, down.backward(ctx, dy, s.down), s.up);
  }
};

/// A connector and what it is called on the command line.
template <mlmamba::connector C>
struct named {
  using type = C;
  const char* name;
};

/// All that take part.
inline constexpr std::tuple connectors{
    named<mlmamba::linear_connector<E>>{"linear"},
    named<mlmamba::mlp_connector<E>>{"mlp"},
    named<mlmamba::fused_mlp_connector<E>>{"fused-mlp"},
    named<mlmamba::average_pool_connector<E>>{"average-pool"},
    named<mlmamba::pixel_shuffle_connector<E>>{"pixel-shuffle"},
    named<mlmamba::ldp_connector<E>>{"ldpv2"},
    named<mlmamba::scan_connector<E>>{"scan"},
    named<mlmamba::cross_scan_connector<E>>{"cross-scan"},
    named<wide_mlp>{"wide-mlp"},
    named<gated>{"gated"},  // your own: one line like this
};

template <class... N>
mlmamba::one_of_connectors<typename N::type...> any_of(const std::tuple<N...>&);
using any_connector = decltype(any_of(connectors));

using maker = std::function<any_connector(const json& config, const json& llm,
                                          const mlmamba::connector_shape&, const std::string&)>;

/// One that takes part.
struct entrant {
  std::string name;
  maker make;
};
/// The connector that the model folder has is made with the folder's options.
template <class C>
C made_of(const json& config, const json& llm, const mlmamba::connector_shape& n,
          const std::string& who) {
  if constexpr (requires { C::kind; }) {
    const json part = mlmamba::detail::connector_part(config);
    if (mlmamba::json_get_or<std::string>(part, "type", "", who) == C::kind)
      return mlmamba::detail::make_connector<C>(config, llm, n, who);
  }
  return C(n);
}
template <class C>
any_connector chosen_as(const mlmamba::connector_shape& n, C c) {
  return any_connector(n, any_connector::choices(std::in_place_type<C>, std::move(c)));
}
template <class C>
entrant entrant_of(const named<C>& c) {
  return {c.name, [](const json& config, const json& llm, const auto& n, const std::string& who) {
            return chosen_as(n, made_of<C>(config, llm, n, who));
          }};
}
/// The paper's basic blocks: the scans alone, with a norm before and no SwiGLU behind.
template <class C>
entrant basic_of(const char* name) {
  return {name, [](const json&, const json&, const auto& n, const std::string&) {
            auto o = mlmamba::scan_options_for(n);
            o.swiglu = false;
            return chosen_as(n, C(n, o));
          }};
}

/// Those that are named, or all; error if a name is not known.
inline std::vector<entrant> chosen_of(const std::vector<std::string>& names) {
  auto known = std::apply([](const auto&... c) { return std::vector<entrant>{entrant_of(c)...}; },
                          connectors);
  known.push_back(basic_of<mlmamba::scan_connector<E>>("basic-scan"));
  known.push_back(basic_of<mlmamba::cross_scan_connector<E>>("basic-cross-scan"));
  std::vector<entrant> chosen;
  for (const std::string& name : names) {
    const auto is_it = [&](const entrant& k) { return k.name == name; };
    const auto at = std::find_if(known.begin(), known.end(), is_it);
    if (at == known.end()) {
      std::string all;
      for (const entrant& k : known) all += (all.empty() ? "" : ", ") + k.name;
      mlmamba::fail("connector \"", name, "\"; wanted are some of ", all);
    }
    if (std::any_of(chosen.begin(), chosen.end(), is_it))
      mlmamba::fail("connector \"", name, "\" is given twice; once is wanted");
    chosen.push_back(*at);
  }
  return chosen.empty() ? known : chosen;
}

}  // namespace lab
