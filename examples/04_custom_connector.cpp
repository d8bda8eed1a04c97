// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A connector of one's own in thirty lines: forward, backward, and the proof that they agree.
#include <mlmamba/mlmamba.hpp>
#include <mlmamba/verify/gradcheck.hpp>

#include <cstdio>

using namespace mlmamba;

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
static_assert(connector<gated_connector<cpu_f32>>);

int main() {
  const connector_shape shape{.d_vision = 12, .d_model = 8, .grid_rows = 3, .grid_cols = 3};

  // Is the backward right? 1e-15 or a bug; the worst parameter is named.
  const auto g = verify::gradcheck<gated_connector<exact>>({2, 9, 12}, shape);
  std::printf("gradient: worst error %.1e at %s, %ld numbers checked\n", g.worst, g.where.c_str(),
              long(g.checked));

  // The same struct on the CPU.
  context<backend::cpu> ctx;
  gated_connector<cpu_f32> connector(shape);
  nn::initialise(connector, random_stream{1});
  tensor<float, 3> patches({2, 9, 12});
  random_stream r{2};
  for (index_t i = 0; i < patches.count(); ++i) patches.data()[i] = float(r.normal());
  gated_connector<cpu_f32>::saved saved;
  const auto tokens = connector.forward(ctx, patches, saved);
  std::printf("%s patches -> %s tokens, %ld parameters\n", to_string(patches.view()).c_str(),
              to_string(tokens).c_str(), long(nn::parameter_count(connector)));
  return g.worst < 1e-12 ? 0 : 1;
}
