// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The maps of tokens that connectors end with: linear, with GELU in between, with pooling (LDP).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "mlmamba/nn/linear.hpp"
#include "mlmamba/ops/elementwise.hpp"
#include "mlmamba/ops/grid.hpp"

namespace mlmamba {

/// With i channels in, d out; L is a linear map with bias, G the exact GELU.
enum class projector_kind : std::uint8_t {
  linear,          ///< L(i, d)
  gelu_mlp,        ///< L(i, d) G L(d, d)
  fused_gelu_mlp,  ///< L(i, 4 i) G L(4 i, d) G L(d, d)
  ldpnet,          ///< L(i, d) G L(d, d) pool peg
  fused_ldpnet,    ///< L(i, 4 i) G L(4 i, d) pool peg
};

inline constexpr std::string_view name_of(projector_kind k) {
  constexpr std::string_view names[] = {"linear", "gelu-mlp", "fused-gelu-mlp", "ldpnet",
                                        "fused-ldpnet"};
  return names[static_cast<std::size_t>(k)];
}

/// From an `arch_specifier` such as "no-align+fused-gelu-mlp", by the original's rules: "linear" as
/// a whole, the others as endings.
inline projector_kind projector_kind_of(std::string_view arch) {
  if (arch == "linear") return projector_kind::linear;
  for (auto k : {projector_kind::fused_gelu_mlp, projector_kind::gelu_mlp,
                 projector_kind::fused_ldpnet, projector_kind::ldpnet})
    if (arch.ends_with(name_of(k))) return k;
  fail<error>("projector: \"", arch,
              "\"; linear, or an ending gelu-mlp, fused-gelu-mlp, ldpnet or ",
              "fused-ldpnet is wanted");
}

struct projector_config {
  projector_kind kind = projector_kind::gelu_mlp;
  index_t d_in = 1, d_model = 1;
  index_t grid_rows = 1, grid_cols = 1;  ///< of the tokens that come in; the LDP kinds use it
  index_t out_rows = 14, out_cols = 14;  ///< of the tokens that leave an LDP kind

  bool pools() const {
    return kind == projector_kind::ldpnet || kind == projector_kind::fused_ldpnet;
  }
  index_t tokens() const { return pools() ? out_rows * out_cols : grid_rows * grid_cols; }
  std::vector<index_t> widths() const {
    switch (kind) {
      case projector_kind::linear:
        return {d_in, d_model};
      case projector_kind::gelu_mlp:
      case projector_kind::ldpnet:
        return {d_in, d_model, d_model};
      case projector_kind::fused_gelu_mlp:
        return {d_in, 4 * d_in, d_model, d_model};
      case projector_kind::fused_ldpnet:
        return {d_in, 4 * d_in, d_model};
    }
    return {};
  }
};

/// Position encoding generator: a depthwise 3 x 3 convolution of the grid, added to its input.
///
///   y = x + conv(x)
///
/// Names     0.weight (D, 1, 3, 3), 0.bias (D)
/// Source    Chu et al. 2021, arXiv:2102.10882
template <engine E>
struct position_generator {
  using engine_type = E;
  struct convolution {
    nn::parameter<E, 4, typename E::accum> weight;
    nn::parameter<E, 1> bias;
    static void fields(auto& self, auto&& f) { f("weight", self.weight), f("bias", self.bias); }
    static void initialise(auto& self, random_stream r) {  // 9 inputs: uniform within 1 / 3
      random_stream w = r.fork("weight"), b = r.fork("bias");
      nn::fill(self.weight, [&] { return w.uniform(-1.0 / 3, 1.0 / 3); });
      nn::fill(self.bias, [&] { return b.uniform(-1.0 / 3, 1.0 / 3); });
    }
  };
  convolution conv;
  index_t rows = 0, cols = 0;

  position_generator() = default;
  position_generator(index_t d, index_t n_rows, index_t n_cols) : rows(n_rows), cols(n_cols) {
    conv.weight = decltype(conv.weight)({d, 1, 3, 3});
    conv.bias = decltype(conv.bias)({d});
  }
  static void fields(auto& self, auto&& f) { f("0", self.conv); }

  struct saved {
    in<E, 3> x;
  };
  out<E, 3> forward(context_of<E>& ctx, in<E, 3> x, saved& s) const {
    s.x = x;
    out<E, 3> y = ctx.template make<E, 3>(x.shape());
    run(ctx, ops::depthwise_conv2d<E>{.x = x,
                                      .weight = kernel(conv.weight.value.view()),
                                      .bias = conv.bias.value,
                                      .y = y,
                                      .rows = rows,
                                      .columns = cols});
    run(ctx, ops::add<E>{.a = mlmamba::rows(y), .b = mlmamba::rows(x), .y = mlmamba::rows(y)});
    return y;
  }
  out<E, 3> backward(context_of<E>& ctx, in<E, 3> dy, const saved& s) {
    out<E, 3> dx = ctx.template make<E, 3>(dy.shape());
    out_accum<E, 3> dweight;
    if (conv.weight.grad) dweight = kernel(conv.weight.grad.view());
    run(ctx, ops::depthwise_conv2d_backward<E>{.x = s.x,
                                               .weight = kernel(conv.weight.value.view()),
                                               .dy = dy,
                                               .dx = dx,
                                               .dweight = dweight,
                                               .dbias = conv.bias.grad,
                                               .rows = rows,
                                               .columns = cols});
    run(ctx, ops::add<E>{.a = mlmamba::rows(dx), .b = mlmamba::rows(dy), .y = mlmamba::rows(dx)});
    return dx;
  }

 private:
  template <class V>
  static auto kernel(const V& w) {  // (D, 1, 3, 3) -> (D, 3, 3)
    return w.select(1, 0);
  }
};

/// The chain of a projector_kind. Initialised as the original: normal with Xavier's deviation and
/// zero biases in the fused MLP, torch's rule in the others.
///
/// Shapes    x (B, T, d_in); y (B, T, d_model), the LDP kinds (B, out_rows out_cols, d_model)
/// Names     linear: weight, bias; the others: 0.*, 2.*, 4.*, as a torch Sequential names them, and
///           4.peg.0.* of the LDP kinds
/// Source    Karamcheti et al. 2024, arXiv:2402.07865; Chu et al. 2024, arXiv:2402.03766 (LDPv2)
template <engine E>
struct token_projector {
  using engine_type = E;
  projector_config config;
  std::vector<nn::linear<E>> layers;
  struct pooled {
    position_generator<E> peg;
    static void fields(auto& self, auto&& f) { f("peg", self.peg); }
  };
  pooled pool;

  explicit token_projector(const projector_config& c) : config(c) {
    const auto widths = c.widths();
    for (std::size_t i = 0; i + 1 < widths.size(); ++i) {
      const bool last = i + 2 == widths.size();
      layers.emplace_back(widths[i], widths[i + 1], true,
                          last ? activation::none : activation::gelu);
      if (c.kind == projector_kind::fused_gelu_mlp) layers[i].init = nn::linear_init::xavier;
    }
    if (!c.pools()) return;
    if (c.out_rows < 1 || c.out_cols < 1 || c.grid_rows < 1 || c.grid_cols < 1)
      fail<shape_error>("projector: a grid of ", c.grid_rows, " x ", c.grid_cols, " to ",
                        c.out_rows, " x ", c.out_cols, "; wanted are sizes of at least 1");
    pool.peg = position_generator<E>(c.d_model, c.out_rows, c.out_cols);
  }
  static void fields(auto& self, auto&& f) {
    if (self.config.kind == projector_kind::linear) {
      nn::linear<E>::fields(self.layers[0], f);
      return;
    }
    for (std::size_t i = 0; i < self.layers.size(); ++i)
      f(std::to_string(2 * i).c_str(), self.layers[i]);
    if (self.config.pools()) f("4", self.pool);
  }
  static void initialise(auto& self, random_stream r) {
    for (std::size_t i = 0; i < self.layers.size(); ++i)
      nn::initialise(self.layers[i], r.fork(std::to_string(2 * i)));
    if (self.config.pools()) nn::initialise(self.pool, r.fork("4"));
  }

  struct saved {
    std::vector<typename nn::linear<E>::saved> layers;
    typename position_generator<E>::saved peg;
  };

  out<E, 3> forward(context_of<E>& ctx, in<E, 3> x, saved& s) const {
    s.layers.resize(layers.size());
    out<E, 3> y;
    for (std::size_t i = 0; i < layers.size(); ++i, x = y)
      y = layers[i].forward(ctx, x, s.layers[i]);
    if (!config.pools()) return y;
    out<E, 3> small =
        ctx.template make<E, 3>({{y.size[0], config.out_rows * config.out_cols, y.size[2]}});
    run(ctx, ops::adaptive_pool<E>{.x = y,
                                   .y = small,
                                   .rows = config.grid_rows,
                                   .columns = config.grid_cols,
                                   .out_rows = config.out_rows,
                                   .out_columns = config.out_cols});
    return pool.peg.forward(ctx, small, s.peg);
  }
  out<E, 3> backward(context_of<E>& ctx, in<E, 3> dy, const saved& s) {
    if (config.pools()) {
      const in<E, 3> dsmall = pool.peg.backward(ctx, dy, s.peg);
      out<E, 3> d =
          ctx.template make<E, 3>({{dy.size[0], config.grid_rows * config.grid_cols, dy.size[2]}});
      run(ctx, ops::adaptive_pool_backward<E>{.dy = dsmall,
                                              .dx = d,
                                              .rows = config.grid_rows,
                                              .columns = config.grid_cols,
                                              .out_rows = config.out_rows,
                                              .out_columns = config.out_cols});
      dy = d;
    }
    out<E, 3> dx;
    for (std::size_t i = layers.size(); i-- > 0; dy = dx)
      dx = layers[i].backward(ctx, dy, s.layers[i]);
    return dx;
  }
};

}  // namespace mlmamba
