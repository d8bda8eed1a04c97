// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Connectors that are one projector: linear, MLP, fused MLP, LDP.
#pragma once

#include "mlmamba/models/connector.hpp"
#include "mlmamba/models/connectors/projector.hpp"

namespace mlmamba {

/// Half of a side, rounded up: how connectors that merge tokens choose their grid when not told.
constexpr index_t half_grid(index_t n) { return (n + 1) / 2; }

/// A connector that is a token_projector of the kind `Which::kind`.
///
/// Shapes    (B, T, d_vision) -> (B, T, d_model); the LDP kinds -> (B, out_rows out_cols, d_model)
/// Names     projector.*
template <engine E, class Which>
struct projector_connector {
  using engine_type = E;
  static constexpr std::string_view kind = name_of(Which::kind);
  /// The grid that the LDP kinds leave; 0: 14, or half the grid where that is less than 14.
  struct options {
    index_t out_rows = 0, out_cols = 0;
  };
  connector_shape shape;
  token_projector<E> projector;

  explicit projector_connector(connector_shape n) : projector_connector(n, options{}) {}
  projector_connector(connector_shape n, options o)
      : shape(detail::checked("connector", n)), projector(config_of(n, o)) {}
  static void fields(auto& self, auto&& f) { f("projector", self.projector); }
  index_t tokens() const { return projector.config.tokens(); }

  struct saved {
    typename token_projector<E>::saved projector;
  };
  out<E, 3> forward(context_of<E>& ctx, in<E, 3> x, saved& s) const {
    detail::check_vision_tokens<E>("connector", shape, x);
    return projector.forward(ctx, x, s.projector);
  }
  out<E, 3> backward(context_of<E>& ctx, in<E, 3> dy, const saved& s) {
    return projector.backward(ctx, dy, s.projector);
  }

 private:
  static projector_config config_of(const connector_shape& n, const options& o) {
    const auto side = [](index_t wanted, index_t grid) {
      return wanted > 0 ? wanted : grid >= 14 ? 14 : half_grid(grid);
    };
    return {Which::kind,
            n.d_vision,
            n.d_model,
            n.grid_rows,
            n.grid_cols,
            side(o.out_rows, n.grid_rows),
            side(o.out_cols, n.grid_cols)};
  }
};

namespace detail {
template <projector_kind Kind>
struct projector_tag {
  static constexpr projector_kind kind = Kind;
};
}  // namespace detail

/// y = x W^T + b for each token.
template <engine E>
using linear_connector = projector_connector<E, detail::projector_tag<projector_kind::linear>>;
/// Linear, GELU, Linear.
template <engine E>
using mlp_connector = projector_connector<E, detail::projector_tag<projector_kind::gelu_mlp>>;
/// Linear to 4 d_vision, GELU, Linear, GELU, Linear: for towers whose channels were joined.
template <engine E>
using fused_mlp_connector =
    projector_connector<E, detail::projector_tag<projector_kind::fused_gelu_mlp>>;
/// LDPv2: Linear, GELU, Linear, average pooling to a smaller grid, position encoding generator.
template <engine E>
using ldp_connector = projector_connector<E, detail::projector_tag<projector_kind::ldpnet>>;
/// LDPv2 with its hidden width at 4 d_vision.
template <engine E>
using fused_ldp_connector =
    projector_connector<E, detail::projector_tag<projector_kind::fused_ldpnet>>;

}  // namespace mlmamba
