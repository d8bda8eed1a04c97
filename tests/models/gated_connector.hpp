// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A connector of one's own, as the documentation shows it.
#pragma once

#include "mlmamba/models/connector.hpp"
#include "mlmamba/nn/functional.hpp"
#include "mlmamba/nn/linear.hpp"

namespace mlmamba::verify {

/// y = down(silu(gate(x)) * up(x)):  (B, T, d_vision) -> (B, T, d_model)
template <engine E>
struct gated_connector {
  using engine_type = E;
  nn::linear<E> gate, up, down;

  explicit gated_connector(connector_shape n)
      : gate(n.d_vision, n.d_model), up(n.d_vision, n.d_model), down(n.d_model, n.d_model) {}

  static void fields(auto& self, auto&& f) {
    f("gate", self.gate), f("up", self.up), f("down", self.down);
  }

  struct saved {
    typename nn::linear<E>::saved gate, up, down;
    in<E, 3> g, u;  // (B, T, d_model)
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

}  // namespace mlmamba::verify
