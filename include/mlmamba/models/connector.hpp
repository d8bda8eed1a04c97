// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What a connector is: vision tokens in, language tokens out.
#pragma once

#include <concepts>

#include "mlmamba/nn/module.hpp"

namespace mlmamba {

/// All that a connector is told: widths, and the grid that the vision tokens come from.
struct connector_shape {
  index_t d_vision = 0;   ///< channels of a vision token
  index_t d_model = 0;    ///< channels of a language token
  index_t grid_rows = 0;  ///< vision tokens are a row-major grid
  index_t grid_cols = 0;

  constexpr index_t tokens() const { return grid_rows * grid_cols; }
  friend bool operator==(const connector_shape&, const connector_shape&) = default;
};

constexpr const char* problem_with(const connector_shape& n) {
  if (n.d_vision < 1) return "d_vision is less than 1";
  if (n.d_model < 1) return "d_model is less than 1";
  if (n.grid_rows < 1 || n.grid_cols < 1) return "the grid is empty";
  return nullptr;
}

/// Maps vision tokens (B, T, d_vision) to language tokens (B, T', d_model). T' is what forward
/// returns: a connector may merge tokens.
template <class C>
concept connector = nn::module<C> && std::constructible_from<C, connector_shape> &&
    requires(C& c, const C& cc, context_of<typename C::engine_type>& ctx,
             in<typename C::engine_type, 3> x, typename C::saved& s) {
  { cc.forward(ctx, x, s) } -> std::same_as<out<typename C::engine_type, 3>>;
  { c.backward(ctx, x, s) } -> std::same_as<out<typename C::engine_type, 3>>;
};

namespace detail {
/// Throws if a connector is given something else than it was built for.
template <engine E>
void check_vision_tokens(const char* who, const connector_shape& n, const in<E, 3>& x) {
  if (x.size[1] != n.tokens() || x.size[2] != n.d_vision)
    fail<shape_error>(who, ": vision tokens are ", to_string(x), "; wanted are (*, ", n.tokens(),
                      ", ", n.d_vision, "), a grid of ", n.grid_rows, " x ", n.grid_cols);
}
inline connector_shape checked(const char* who, connector_shape n) {
  if (const char* problem = problem_with(n)) fail<shape_error>(who, ": ", problem);
  return n;
}
}  // namespace detail

}  // namespace mlmamba
